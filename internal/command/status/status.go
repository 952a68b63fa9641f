// Package status is `privyseal status`: what a running signer says about itself, as a page for
// a person, as JSON, or as an exit status.
package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/command/screen"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/monitor"
	"privyseal/internal/provider"
	"privyseal/internal/session"
)

// command is `privyseal status` with its flags.
type command struct {
	app                  *provider.House
	home                 string
	json, watch, isReady bool
}

func NewCommand(a *provider.House) *cobra.Command {
	s := &command{app: a}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Ask the running signer what it signed last, and for whom",
		Long: `Ask the signer that runs in the home folder: the mark of each chain and its age,
the last refusal, and for each node whether it is being dialled, parked (connected,
served by another signer) or served. The exit status is 1 if no signer runs.

--watch shows it each second until SIGINT, even across restarts of the signer; with
--json that is one line each. --ready prints nothing if all is well: the exit status
is 0 if every chain can sign and every node is connected, as for /readyz, and
otherwise 1, with the reasons on standard error. A device that signs for a chain and
has failed is a reason if no other one is left.`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if s.isReady && (s.watch || s.json) {
				return cli.Usagef("--ready prints nothing, so it goes without --watch and --json")
			}
			if s.home, err = a.Home(); err != nil {
				return err
			}
			return s.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&s.json, "json", false, "print JSON")
	cmd.Flags().BoolVar(&s.watch, "watch", false, "print it again each second")
	cmd.Flags().BoolVar(&s.isReady, "ready", false, "only report by the exit status whether the signer is ready")
	return cmd
}

func (s *command) run(ctx context.Context, w io.Writer) error {
	if s.watch {
		return s.watchIt(ctx, w)
	}
	snapshot, err := s.read(ctx)
	switch {
	case err != nil:
		return err
	case s.isReady:
		return readiness(snapshot)
	case s.json:
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(snapshot)
	}
	_, err = io.WriteString(w, page(screen.Of(w), snapshot, time.Now()))
	return err
}

// watchPeriod is how often a status is drawn. Chains make a block in a second at best.
const watchPeriod = time.Second

// watchIt prints the status each second until SIGINT or SIGTERM, which are how it is
// meant to end. A signer that is gone is waited for.
func (s *command) watchIt(ctx context.Context, w io.Writer) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if screen.Of(w).Redraws() && !s.json {
		io.WriteString(w, screen.HideCursor)
		defer io.WriteString(w, screen.ShowCursor)
	}
	tick := time.NewTicker(watchPeriod)
	defer tick.Stop()
	for {
		snapshot, err := s.read(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !errors.Is(err, monitor.ErrNotRunning):
			return err
		}
		if err := s.draw(w, snapshot, err); err != nil {
			return err // nobody reads any more
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// draw prints one status, or why there is none.
func (s *command) draw(w io.Writer, snapshot monitor.Snapshot, problem error) (err error) {
	where := screen.Of(w)
	switch {
	case s.json && problem != nil:
		return json.NewEncoder(w).Encode(map[string]string{"error": strings.ReplaceAll(problem.Error(), "\n", "; ")})
	case s.json:
		return json.NewEncoder(w).Encode(snapshot)
	case !where.Redraws():
		_, err = fmt.Fprintln(w, watchPage(where, snapshot, problem, time.Now()))
		return err
	}
	// A line that ends in the last column would lose its last letter to clearLine.
	where.Width--
	_, err = io.WriteString(w, where.Over(watchPage(where, snapshot, problem, time.Now())))
	return err
}

// watchPage returns a status, or why there is none, with the time.
func watchPage(s screen.Screen, snapshot monitor.Snapshot, problem error, now time.Time) string {
	if problem != nil {
		return now.Format(time.TimeOnly) + "  " + s.Paint(screen.Alarm, screen.Printable(problem.Error())) + "\n"
	}
	return now.Format(time.TimeOnly) + "  " + page(s, snapshot, now)
}

// read asks the signer. An error has its cure on a line of its own.
func (s *command) read(ctx context.Context) (monitor.Snapshot, error) {
	snapshot, err := monitor.ReadSnapshot(ctx, s.home)
	for i := range snapshot.Chains {
		snapshot.Chains[i].Problem = s.app.InHome(snapshot.Chains[i].Problem)
	}
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		err = s.notRunning(fmt.Errorf("%w in %s", monitor.ErrNotRunning, s.home))
	case errors.Is(err, monitor.ErrNotRunning):
		err = s.notRunning(err)
	case errors.Is(err, fs.ErrPermission):
		err = cure.Add(err, "run it as the user that the signer runs as")
	}
	return snapshot, err
}

// notRunning adds what to do where no signer runs: without a config none can.
func (s *command) notRunning(err error) error {
	const make = "if it is the right folder, create it with %s; otherwise name the signer's with --home or $PRIVYSEAL_HOME"
	first := s.app.Command("init --chain-id ID --node ADDR")
	info, statErr := os.Stat(s.home)
	switch {
	case errors.Is(statErr, fs.ErrNotExist):
		return cure.Add(fmt.Errorf("%w: there is no such folder", err), make, first)
	case statErr == nil && !info.IsDir():
		return cure.Add(fmt.Errorf("%w: it is not a folder", err), "name the signer's folder with --home or $PRIVYSEAL_HOME")
	}
	if _, statErr := os.Lstat(filepath.Join(s.home, config.FileName)); errors.Is(statErr, fs.ErrNotExist) {
		return cure.Add(fmt.Errorf("%w: there is no %s in it", err, config.FileName), make, first)
	}
	return cure.Add(err, "start one with %s", s.app.Command("start"))
}

// readiness returns what keeps a signer from being ready, a line each.
func readiness(s monitor.Snapshot) error {
	if s.Ready {
		return nil
	}
	lines := []string{"the signer is not ready"}
	for _, c := range s.Chains {
		if problem, next := Problem(c); problem != "" {
			lines = append(lines, c.Name+" cannot sign: "+problem)
			if next != "" {
				lines = append(lines, next)
			}
		}
		if !c.SomeDevice() {
			for _, d := range c.Devices {
				lines = append(lines, fmt.Sprintf("%s: device %s failed: %s", c.Name, d.Address, strings.ReplaceAll(d.Failed, "\n", "; ")))
			}
		}
		for _, n := range c.Nodes {
			if n.State == session.Dialling.String() {
				lines = append(lines, fmt.Sprintf("%s: node %s is %s, %s%s", c.Name, n.Name, n.State, n.Addr, cli.Prefixed("; ", NodeError(n))))
			}
		}
	}
	return errors.New(strings.Join(lines, "\n"))
}
