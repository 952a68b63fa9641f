package nitro

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/nitrohost"
	"privyseal/internal/provider"
	"privyseal/internal/vsock"
)

// The single steps of what `privyseal start` does with an enclave.

// runningFlags say which running enclave is meant.
type runningFlags struct{ name, nitroCLI string }

func (f *runningFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.name, "enclave", "", "name of the enclave in the config (default: its only one, or "+defaultEnclave+")")
	f.addCLI(cmd)
}

func (f *runningFlags) addCLI(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.nitroCLI, "nitro-cli", "", "AWS's launcher (default: that of the config, or "+DefaultNitroCLI+")")
}

// launcher returns a launcher for the enclave, which cannot launch. A config is
// not needed.
func (f *runningFlags) launcher(a *provider.House) (*nitrohost.Launcher, error) {
	c, err := a.ExistingConfig()
	if err != nil {
		return nil, err
	}
	name, e := cmp.Or(f.name, defaultEnclave), enclaves.New()
	if c == nil && f.name == "" && a.HomeNamed() {
		// With a home that was mistyped, this would be another home's enclave.
		return nil, cli.Usagef("%w; correct it, or name the enclave with --enclave, as in `--enclave %s`", noConfig(a), defaultEnclave)
	}
	if c != nil {
		if f.name == "" && len(Enclaves(c)) == 1 {
			name = slices.Collect(maps.Keys(Enclaves(c)))[0]
		}
		if known, found := Enclaves(c)[name]; found {
			e = known
		} else if f.name != "" {
			return nil, cli.Usagef("there is no [enclave.%s] in the config", f.name)
		}
	}
	return &nitrohost.Launcher{Path: cmp.Or(f.nitroCLI, e.NitroCLI), Name: nitrohost.EnclaveName(name)}, nil
}

// find returns the enclave that runs under the name, or an error if none does.
func (f *runningFlags) find(ctx context.Context, a *provider.House) (*nitrohost.Launcher, *nitrohost.Enclave, error) {
	l, err := f.launcher(a)
	if err != nil {
		return nil, nil, err
	}
	e, err := l.Find(ctx)
	if err == nil && e == nil {
		err = fmt.Errorf("no enclave %s runs here; %s shows all that do", l.Name, a.Command("nitro info"))
	}
	return l, e, err
}

// noConfig says that the home folder that is named has no config.
func noConfig(a *provider.House) error {
	path, err := a.ConfigPath()
	if err != nil {
		return err
	}
	return fmt.Errorf("there is no config %s", path)
}

func newNitroRunCommand(a *provider.House) *cobra.Command {
	f := &enclaveFlags{}
	debug := false
	cmd := &cobra.Command{
		Use:   "run [--debug]",
		Short: "Only launch the enclave",
		Long: `Launch the enclave, unless it runs already. It signs nothing until "privyseal
start" serves it, which finds it running. An enclave of the config is launched as
the config has it; a flag that says something else is an error.

With --debug its console can be read with "privyseal nitro console". nitro-cli waits three
minutes for an enclave to come up, and then ends it: this reads the console meanwhile, and
prints its last lines if the launch fails. The measurements in an attestation are zeros in
debug mode: KMS refuses it, unless the key's policy was made for that, and so does
"privyseal start".`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.ExistingConfig()
			if err != nil {
				return err
			}
			l, of, err := f.launcher(c)
			if err != nil {
				return err
			}
			what := "launched"
			var e nitrohost.Enclave
			if debug {
				l.DialConsole = func(ctx context.Context, cid uint32) (io.ReadCloser, error) {
					return vsock.Host{CID: cid, Dir: of.config.Transport}.Console(ctx)
				}
				e, err = launchDebug(cmd.Context(), l)
				what = "launched in debug mode"
			} else {
				var adopted bool
				if e, adopted, err = l.Ensure(cmd.Context()); adopted {
					what = "runs already"
				}
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s: %s, CID %d\n", l.Name, what, e.ID, e.CID)
			return err
		},
	}
	f.Add(cmd)
	cmd.Flags().BoolVar(&debug, "debug", false, "allow its console to be read; KMS then refuses it")
	return cmd
}

func launchDebug(ctx context.Context, l *nitrohost.Launcher) (nitrohost.Enclave, error) {
	running, err := l.Find(ctx)
	if err != nil {
		return nitrohost.Enclave{}, err
	}
	if running != nil {
		return nitrohost.Enclave{}, fmt.Errorf("%s runs already (%s); end it with `privyseal nitro stop`", l.Name, running.ID)
	}
	return l.Launch(ctx, true)
}

func newNitroInfoCommand(a *provider.House) *cobra.Command {
	f := &runningFlags{}
	cmd := &cobra.Command{
		Use:   "info",
		Short: "Print what nitro-cli reports about the enclaves on this instance, as JSON",
		Args:  cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.name = defaultEnclave // all are shown, whatever the name
			l, err := f.launcher(a)
			if err != nil {
				return err
			}
			// Beside an error there may be those enclaves that did answer.
			text, describeErr := l.DescribeJSON(cmd.Context())
			_, err = cmd.OutOrStdout().Write(text)
			return errors.Join(describeErr, err)
		},
	}
	f.addCLI(cmd)
	return cmd
}

func newNitroConsoleCommand(a *provider.House) *cobra.Command {
	return withRunning(a, &cobra.Command{
		Use:   "console",
		Short: "Print the console of an enclave in debug mode until the enclave ends",
	}, func(ctx context.Context, w io.Writer, l *nitrohost.Launcher, e *nitrohost.Enclave) error {
		if !e.Debug {
			return fmt.Errorf("%s is not in debug mode, so nobody can read its console; its log lines are in the log of `privyseal start`", l.Name)
		}
		ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		return l.Console(ctx, e.ID, w)
	})
}

func newNitroStopCommand(a *provider.House) *cobra.Command {
	return withRunning(a, &cobra.Command{
		Use:   "stop",
		Short: "End the enclave",
		Long: `End the enclave of the config, and no other. All that it signed is in the state.

A running "privyseal start" launches it again, from the image that was there when it
started: to change the image, stop that first.`,
	}, func(ctx context.Context, w io.Writer, l *nitrohost.Launcher, e *nitrohost.Enclave) error {
		if err := l.Stop(ctx, e.ID); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "%s ended: %s\n", l.Name, e.ID)
		return err
	})
}

// withRunning lets cmd do something with the enclave that runs and that its flags mean.
func withRunning(a *provider.House, cmd *cobra.Command,
	do func(ctx context.Context, w io.Writer, l *nitrohost.Launcher, e *nitrohost.Enclave) error) *cobra.Command {
	f := &runningFlags{}
	f.add(cmd)
	cmd.Args = cli.Arguments()
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		l, e, err := f.find(cmd.Context(), a)
		if err != nil {
			return err
		}
		return do(cmd.Context(), cmd.OutOrStdout(), l, e)
	}
	return cmd
}

func newNitroProxyCommand(a *provider.House) *cobra.Command {
	f := &enclaveFlags{}
	cmd := &cobra.Command{
		Use:   "proxy",
		Short: "Only connect the running enclave to KMS, until SIGINT",
		Long: `Connect the running enclave to the KMS endpoint that its policy names, until SIGTERM
or SIGINT. "privyseal start" and "privyseal init" do this by themselves.`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			c, err := a.ExistingConfig()
			if err != nil {
				return err
			}
			l, e, err := f.launcher(c)
			if err != nil {
				return err
			}
			running, err := l.Find(ctx)
			if err != nil {
				return err
			}
			if running == nil {
				return fmt.Errorf("%s does not run; launch it with `privyseal nitro run`", l.Name)
			}
			e.Failed = func(err error) { fmt.Fprintln(cmd.ErrOrStderr(), "privyseal:", err) }
			if err := e.serveKMS(ctx, vsock.Host{CID: running.CID, Dir: e.config.Transport}); err != nil {
				return err
			}
			defer e.Close()
			fmt.Fprintf(cmd.ErrOrStderr(), "connecting %s to %s\n", l.Name, e.policy.KMSEndpoint)
			<-ctx.Done()
			return nil
		},
	}
	f.Add(cmd)
	return cmd
}
