package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/shell"
)

const rootHelp = `privyseal signs the blocks of CometBFT validators, and never two conflicting ones.

The first hour:

  privyseal init --chain-id ID --node unix:///run/node/privval.sock
                      make config, key and state; say what the node needs
  privyseal check     is everything as it should be?
  privyseal start     sign, until SIGTERM

While it runs:

  privyseal status    what was signed last, and what each node is doing
  privyseal witness   does the chain know of another signer with our key?

Moving in and out:

  privyseal migrate   take over from CometBFT, tmkms, tmkms-light, cosmos-kms, Horcrux
  privyseal state     init, raise, adopt, show, import, export: what must never be lost
  privyseal key       generate, import, show, seal

In an AWS Nitro Enclave (doc/nitro.md):

  privyseal nitro     build the image, make KMS policies, run, attest
  privyseal verify    check an attestation document, offline, anywhere

Also: version, completion, help. "privyseal help COMMAND" says more.

All commands find config, keys and state in --home DIR or $PRIVYSEAL_HOME.
Exit status: 0 done, 1 failed, 64 wrong usage, 78 wrong config, 79 an operator
must act.
`

// app is what the commands share.
type app struct {
	homeFlag string
}

func newRootCommand() *cobra.Command {
	a := &app{}
	root := &cobra.Command{
		Use:           "privyseal",
		Short:         "Sign the blocks of CometBFT validators, and never two conflicting ones",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noCommand,
		RunE:          showHelp,
		// No command has a hook of its own, which would take the place of this one.
		PersistentPreRunE: noEmptyFlags,
	}
	root.SuggestionsMinimumDistance = 2
	root.Version = buildVersion()
	root.SetVersionTemplate(versionLine())
	root.PersistentFlags().StringVar(&a.homeFlag, "home", "", "folder of config, keys and state (default $PRIVYSEAL_HOME)")
	root.SetFlagErrorFunc(flagError)
	plainHelp := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if cmd == root {
			io.WriteString(cmd.OutOrStdout(), rootHelp)
			return
		}
		plainHelp(cmd, args)
	})
	root.SetHelpCommand(newHelpCommand())
	root.AddCommand(
		newInitCommand(a),
		newStartCommand(a),
		newCheckCommand(a),
		newStatusCommand(a),
		newWitnessCommand(a),
		newKeyCommand(a),
		newStateCommand(a),
		newMigrateCommand(a),
		newNitroCommand(a),
		newVerifyCommand(),
		newVersionCommand(),
	)
	return root
}

// newHelpCommand returns `privyseal help`, for which a command that does not exist is
// an error.
func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Say more about a command",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil {
				return err
			}
			if about.HasSubCommands() {
				if err := noCommand(about, rest); err != nil {
					return err
				}
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

// noEmptyFlags refuses a flag that was given nothing, as by a script's variable that
// is not set: without it the command would mean something else, such as a check that
// checks less.
func noEmptyFlags(cmd *cobra.Command, _ []string) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		values := []string{f.Value.String()}
		if list, several := f.Value.(pflag.SliceValue); several {
			values = list.GetSlice()
		}
		if err == nil && slices.Contains(values, "") {
			err = cure.Add(usagef("--%s is empty", f.Name), "leave it out, or look at where its value comes from")
		}
	})
	return err
}

func showHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// noCommand refuses the arguments of a command that only has sub-commands.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "did you mean `" + cmd.CommandPath() + " " + strings.Join(near, "` or `"+cmd.CommandPath()+" ") + "`? "
	}
	return cure.Add(usagef("unknown command %q", cmd.CommandPath()+" "+args[0]), "%ssee `%s --help`", hint, cmd.CommandPath())
}

// noSuchCommand refuses a command that does not exist also where --help follows it,
// for which cobra would show the help of what is in front.
func noSuchCommand(root *cobra.Command, args []string) error {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd(args...)
	cmd, rest, err := root.Find(args)
	if err != nil || !cmd.HasSubCommands() || len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		return nil // cobra's own business
	}
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	if err := cmd.ParseFlags(rest); err != nil {
		return nil // Execute says it, with the flag that was probably meant
	}
	return noCommand(cmd, cmd.Flags().Args())
}

// newGroupCommand returns a command that only has sub-commands.
func newGroupCommand(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: noCommand, RunE: showHelp}
	cmd.SuggestionsMinimumDistance = 2
	cmd.AddCommand(commands...)
	return cmd
}

// arguments checks how many arguments there are; names says what they are.
func arguments(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return cure.Add(usagef("%s is missing", names[len(args)]), "`%s`", cmd.UseLine())
		case len(args) > len(names):
			return cure.Add(usagef("unexpected argument %q", args[len(names)]), "see `%s --help`", cmd.CommandPath())
		}
		return nil
	}
}

// atMostOne checks that there is no argument or one.
func atMostOne(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return arguments(name)(cmd, args)
	}
}

// flagError adds to pflag's message the flag that was probably meant.
func flagError(cmd *cobra.Command, err error) error {
	hint := ""
	if name, found := strings.CutPrefix(err.Error(), "unknown flag: --"); found {
		least := 3
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if n := config.Distance(name, f.Name); n < least && !f.Hidden {
				hint, least = "did you mean --"+f.Name+"? ", n
			}
		})
	}
	text := err.Error()
	var wrong *pflag.InvalidValueError
	if errors.As(err, &wrong) {
		// pflag's own text ends in that of a parser's.
		f := wrong.GetFlag()
		text = fmt.Sprintf("--%s %.80q is not %s", f.Name, wrong.GetValue(), cmp.Or(valueNames[f.Value.Type()], "a value"))
	}
	return cure.Add(usagef("%s", text), "%ssee `%s --help`", hint, cmd.CommandPath())
}

// valueNames says what the types of flags are called.
var valueNames = map[string]string{
	"bool": "true or false", "int": "a number", "int64": "a number", "uint32": "a number from 0 to 4294967295",
}

// home returns the home folder, cleaned; it need not exist.
func (a *app) home() (string, error) {
	if a.homeFlag != "" {
		return filepath.Clean(a.homeFlag), nil
	}
	if dir := os.Getenv("PRIVYSEAL_HOME"); dir != "" {
		return filepath.Clean(dir), nil
	}
	return "", cure.Add(usagef("no home folder"), "add --home DIR, or set PRIVYSEAL_HOME, as in `export PRIVYSEAL_HOME=/var/lib/privyseal`")
}

// homeNamed reports whether a home folder is named.
func (a *app) homeNamed() bool { return a.homeFlag != "" || os.Getenv("PRIVYSEAL_HOME") != "" }

// checkOwner refuses to make files in a home folder of another user: the signer
// could not read them.
func (a *app) checkOwner() error {
	dir, err := a.home()
	if err != nil {
		return err
	}
	uid, gid, known := owner(dir)
	if !known || uid == os.Geteuid() {
		return nil
	}
	other := usagef("%s belongs to user %d, who could not use what user %d makes there", dir, uid, os.Geteuid())
	become := []string{"sudo", "-u", "#" + strconv.Itoa(uid)}
	if c, err := existingConfig(a); err == nil && c != nil && len(c.Enclaves) > 0 {
		// Behind a plain sudo the enclave's ports would be refused next.
		become = []string{"setpriv", "--reuid", strconv.Itoa(uid), "--regid", strconv.Itoa(gid), "--clear-groups",
			"--inh-caps", "+net_bind_service", "--ambient-caps", "+net_bind_service"}
	} else if a.homeFlag == "" { // sudo clears the environment
		become = append(become, "env", "PRIVYSEAL_HOME="+dir)
	}
	return cure.Add(other, "type it again behind %s", cure.Command(become...))
}

// owner returns to whom a file belongs; it is not known of one that is missing.
func owner(path string) (uid, gid int, known bool) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, 0, false
	}
	stat, known := info.Sys().(*syscall.Stat_t)
	if !known {
		return 0, 0, false
	}
	return int(stat.Uid), int(stat.Gid), true
}

// configPath returns where the config is, or would be.
func (a *app) configPath() (string, error) {
	dir, err := a.home()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, config.FileName), nil
}

// config loads the config.
func (a *app) config() (*config.Config, error) {
	path, err := a.configPath()
	if err != nil {
		return nil, err
	}
	c, err := config.Load(path)
	if err != nil {
		return nil, configError{err}
	}
	return c, nil
}

// command returns a command line to type next, for the same home.
func (a *app) command(format string, args ...any) string {
	line := "privyseal " + fmt.Sprintf(format, args...)
	if a.homeFlag != "" {
		line += " --home " + shell.Word(filepath.Clean(a.homeFlag))
	}
	return "`" + line + "`"
}

// chainFlag is --chain-id of the commands that work on one chain: its name, or its id
// where that is the id of no other chain.
type chainFlag struct{ id string }

func (f *chainFlag) add(a *app, cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.id, "chain-id", "", "which chain, by name or id; may be left out if there is one")
	// A failure here is a flag that does not exist: the line above.
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("chain-id", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		c, err := a.config()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		names := make([]string, len(c.Chains))
		for i, ch := range c.Chains {
			names[i] = ch.Name
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}))
}

// choose loads the config and returns the chain that the flag means.
func (f *chainFlag) choose(a *app) (*config.Config, config.Chain, error) {
	c, err := a.config()
	if err != nil {
		return nil, config.Chain{}, err
	}
	if f.id == "" && len(c.Chains) == 1 {
		return c, c.Chains[0], nil
	}
	if f.id == "" {
		return nil, config.Chain{}, cure.Add(usagef("there are several chains"), "add --chain-id with one of %s", chainNames(c.Chains))
	}
	found := c.Find(f.id)
	switch len(found) {
	case 0:
		return nil, config.Chain{}, cure.Add(usagef("chain %.80q is not in the config, which has %s", f.id, chainNames(c.Chains)), "add it with %s", a.command("init --chain-id %s --node ADDR", shell.Word(f.id)))
	case 1:
		return c, found[0], nil
	}
	return nil, config.Chain{}, cure.Add(usagef("%s is the id of several chains", f.id), "add --chain-id with one of their names: %s", chainNames(found))
}

// chainNames returns the names of chains as a list to read, a few at the most.
func chainNames(chains []config.Chain) string {
	const most = 10
	names := make([]string, 0, most+1)
	for i, ch := range chains {
		if i == most {
			names = append(names, fmt.Sprintf("%d more", len(chains)-most))
			break
		}
		names = append(names, ch.Name)
	}
	return strings.Join(names, ", ")
}
