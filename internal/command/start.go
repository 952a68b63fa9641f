package command

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/daemon"
	"privyseal/internal/provider"
)

func newStartCommand(a *provider.House) *cobra.Command {
	var standby bool
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Sign for the nodes in the config until SIGTERM or SIGINT",
		Long: `Start dials every node in privyseal.toml and signs for it, until SIGTERM or
SIGINT. It then finishes what is in flight, and the exit status is 0.

SIGHUP reloads privyseal.toml: the level of the log, the nodes of a chain, chains
that were added or removed, and chains that could not sign. One line of the log
says what changed, and what needs a restart. A config with mistakes changes nothing.

A chain whose key or state cannot be used is left alone, with the reason in the
log and in "privyseal status"; the others sign. The exit status is 79 if no chain
can sign until somebody acts, and 1 if that may pass: another process holds a
state, a disk or the system's limits fail. With --standby it waits for a state that
is held: a second signer started like this on the same host takes over when the
first one is gone.`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := a.Home()
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			hangup := make(chan os.Signal, 1)
			signal.Notify(hangup, syscall.SIGHUP)
			// A reader of our log that goes away only makes a write fail.
			signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
			return daemon.Start(ctx, a, buildVersion(), dir, standby, hangup)
		},
	}
	cmd.Flags().BoolVar(&standby, "standby", false, "wait for a state that another process holds")
	return cmd
}
