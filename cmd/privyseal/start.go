package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/monitor"
	"privyseal/internal/oplog"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/session"
)

func newStartCommand(a *provider.House) *cobra.Command {
	var standby bool
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Sign for the nodes in the config until SIGTERM or SIGINT",
		Long: `Start dials every node in privyseal.toml and signs for it, until SIGTERM or
SIGINT. What is in flight then is finished, and the exit status is 0.

SIGHUP reloads privyseal.toml: the level of the log, the nodes of a chain, chains
that were added or removed, and chains that could not sign. One line of the log
says what changed, and what needs a restart. A config with mistakes changes nothing.

A chain whose key or state cannot be used is left alone, with the reason in the
log and in "privyseal status"; the others sign. The exit status is 79 if no chain
can sign until somebody acts, and 1 if that may pass: another process holds a
state, a disk or the system's limits fail. With --standby a held state is waited
for: start a second signer so on the same host, and it takes over when the first
one is gone.`,
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
			// A reader of our log that goes away makes a write fail, and no more.
			signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
			return start(ctx, a.Providers, buildVersion(), dir, standby, hangup)
		},
	}
	cmd.Flags().BoolVar(&standby, "standby", false, "wait for a state that another process holds")
	return cmd
}

// drainTimeout bounds the wait for what is in flight at the end: an answer and
// its way to the node.
// (Tests shorten it.)
var drainTimeout = session.AnswerTimeout + time.Second

// errHung says that something still waits for a disk or a file server that does not
// answer. Nothing ends such a wait but the end of the process.
var errHung = errors.New("a file system does not answer")

// unlessHung runs f, and returns errHung if ctx ended and f did not within patience.
func unlessHung(ctx context.Context, patience time.Duration, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		return errHung
	}
}

// start runs the signer of a home folder until ctx ends. It reloads the config on
// hangup.
func start(ctx context.Context, providers provider.Table, version, home string, standby bool, hangup <-chan os.Signal) error {
	var first loaded
	select {
	case first = <-load(providers.Kinds(), home):
	case <-ctx.Done():
		return nil // stopped while the config's file system hangs
	}
	cfg, err := first.config, first.err
	if err != nil {
		return cli.BadConfig(err)
	}
	logger := newLogger(cfg.Log)
	defer logger.Close()
	harden(logger.Logger)
	if os.Getenv("GOGC") == "" {
		// A signer has little memory that lives long, and all of it is locked: half as much
		// garbage beside it is worth a collection more in a second.
		debug.SetGCPercent(50)
	}

	d := &daemon{home: home, providers: providers, cfg: cfg, log: logger.Logger, setLevel: logger.SetLevel, monitor: monitor.New(logger.Logger, version)}
	d.monitor.LogLost(logger.Lost)
	defer d.monitor.Flush()
	defer func() {
		if !d.hangs { // else what is in there is somebody's still
			d.close()
		}
	}()
	if standby {
		// systemd would take the wait for a start that hangs.
		d.notify("READY=1\nSTATUS=standby: waiting for the state")
	}
	if err := unlessHung(ctx, drainTimeout, func() error { return d.open(ctx, standby) }); err != nil {
		d.hangs = errors.Is(err, errHung)
		if ctx.Err() != nil {
			return nil // stopped while waiting for the state
		}
		return err
	}
	// From here on the states are ours, and so is the home folder.
	d.monitor.Opened()
	defer d.listen()()
	d.announce(ctx, readyTimeout)
	d.log.Info("privyseal started", "version", version, "home", home, "chains", d.summary())

	err = d.serve(ctx, hangup)
	d.notify("STOPPING=1")
	d.log.Info("privyseal stopped")
	return err
}

// summary tells in a line how many chains can sign.
func (d *daemon) summary() string {
	ready, chains := 0, d.monitor.Snapshot().Chains
	for _, c := range chains {
		if c.Ready {
			ready++
		}
	}
	return fmt.Sprintf("%d of %s can sign", ready, cure.Count(len(chains), "chain"))
}

// announce tells systemd that the units which wait for us may start: those chains
// that we sign for ourselves are open by now. A node exits if no signer dials it
// within 3 s, so an enclave has to have booted too, or to have said why not: a node
// that no signer serves still follows the chain. patience bounds the wait for that.
func (d *daemon) announce(ctx context.Context, patience time.Duration) {
	if len(d.services) == 0 {
		d.notify("READY=1\nSTATUS=" + d.summary())
		return
	}
	d.notify("STATUS=" + d.summary())
	go func() {
		settled := d.settle(ctx, patience)
		if ctx.Err() != nil {
			return
		}
		if !settled {
			d.log.Warn("an enclave has not said whether it signs; telling systemd that privyseal is ready all the same", "waited", patience)
		}
		d.notify("READY=1\nSTATUS=" + d.summary())
	}()
}

// settle waits until every enclave has said of all its chains whether it signs. It
// reports whether they have, before patience was over or ctx ended.
func (d *daemon) settle(ctx context.Context, patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, s := range d.services {
		if !s.Settled(ctx) {
			return false
		}
	}
	return true
}

// readyTimeout is how long an enclave may take before systemd is told that we are
// ready without it. systemd itself waits for 90 s.
const readyTimeout = time.Minute

func (d *daemon) notify(state string) {
	if err := notify(state); err != nil {
		d.log.Warn("cannot notify systemd", "error", err)
	}
}

// newLogger writes to standard error in the form that the config asks for.
func newLogger(c config.Log) *oplog.Logger {
	format := c.Format
	if format == "auto" && os.Getenv("JOURNAL_STREAM") != "" {
		format = "journald"
	}
	return oplog.New(os.Stderr, parseLevel(c.Level), format)
}

// shownKey is a chain's key as status and metrics show it.
func shownKey(k pubkey.Key, provider string) monitor.Key {
	return monitor.Key{
		Public:  base64.StdEncoding.EncodeToString(k.Bytes()),
		Address: fmt.Sprintf("%X", k.Address()), Type: string(k.Type()), Provider: provider,
	}
}

// harden keeps the keys where they are: out of core files and out of swap. What the
// system does not let us do is said, and stops nothing.
func harden(log *slog.Logger) {
	if err := forbidCoreDumps(); err != nil {
		log.Warn("cannot switch core dumps off", "error", err)
	}
	if err := lockMemory(); err != nil {
		log.Warn("cannot lock the memory, so that keys may be swapped out", "error", err)
	}
}
