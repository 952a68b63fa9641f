package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/harden"
	"privyseal/internal/monitor"
	"privyseal/internal/oplog"
	"privyseal/internal/provider"
)

// Start runs the signer of a home folder until ctx ends. It reloads the config on
// hangup.
func Start(ctx context.Context, a *provider.House, version, home string, standby bool, hangup <-chan os.Signal) error {
	var first loaded
	select {
	case first = <-load(a.Kinds, home):
	case <-ctx.Done():
		return nil // stopped while the config's file system hangs
	}
	cfg, err := first.config, first.err
	if err != nil {
		return cli.BadConfig(err)
	}
	logger := newLogger(cfg.Log)
	defer logger.Close()
	slog.SetDefault(logger.Logger) // for keys that have something to say between two signatures
	keepSecrets(logger.Logger)
	if os.Getenv("GOGC") == "" {
		// A signer has little memory that lives long, and all of it is locked: half as much
		// garbage beside it is worth a collection more in a second.
		debug.SetGCPercent(50)
	}

	d := &Daemon{Home: home, Providers: a.Providers, Stores: a.Stores, kinds: a.Kinds, Config: cfg, Log: logger.Logger, setLevel: logger.SetLevel, Monitor: monitor.New(logger.Logger, version)}
	d.Monitor.LogLost(logger.Lost)
	defer d.Monitor.Flush()
	defer func() {
		if !d.hangs { // else what is in there is somebody's still
			d.close()
		}
	}()
	if standby {
		// systemd would take the wait for a start that hangs.
		d.Notify("READY=1\nSTATUS=standby: waiting for the state")
	}
	if err := unlessHung(ctx, drainTimeout, func() error { return d.open(ctx, standby) }); err != nil {
		d.hangs = errors.Is(err, errHung)
		if ctx.Err() != nil {
			return nil // stopped while waiting for the state
		}
		return err
	}
	// From here on the states are ours, and so is the home folder.
	d.Monitor.Opened()
	defer d.listen()()
	d.announce(ctx, readyTimeout)
	d.Log.Info("privyseal started", "version", version, "home", home, "chains", d.Summary())

	err = d.serve(ctx, hangup)
	d.Notify("STOPPING=1")
	d.Log.Info("privyseal stopped")
	return err
}

// announce lets systemd know that the units which wait for us may start: those chains
// that we sign for ourselves are open by now. A node exits if no signer dials it
// within 3 s, so an enclave has to have booted too, or to have said why not: a node
// that no signer serves still follows the chain. patience bounds the wait for that.
func (d *Daemon) announce(ctx context.Context, patience time.Duration) {
	if len(d.services) == 0 {
		d.Notify("READY=1\nSTATUS=" + d.Summary())
		return
	}
	d.Notify("STATUS=" + d.Summary())
	go func() {
		settled := d.settle(ctx, patience)
		if ctx.Err() != nil {
			return
		}
		if !settled {
			d.Log.Warn("an enclave has not reported whether it signs; reporting privyseal to systemd as ready anyway", "waited", patience)
		}
		d.Notify("READY=1\nSTATUS=" + d.Summary())
	}()
}

// settle waits until every enclave has said of all its chains whether it signs. It
// reports whether they have, before patience was over or ctx ended.
func (d *Daemon) settle(ctx context.Context, patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, s := range d.services {
		if !s.Settled(ctx) {
			return false
		}
	}
	return true
}

// readyTimeout is how long an enclave may take before systemd hears that we are
// ready without it. systemd itself waits for 90 s.
const readyTimeout = time.Minute

// newLogger writes to standard error in the form that the config asks for.
func newLogger(c config.Log) *oplog.Logger {
	format := c.Format
	if format == "auto" && os.Getenv("JOURNAL_STREAM") != "" {
		format = "journald"
	}
	return oplog.New(os.Stderr, parseLevel(c.Level), format)
}

// keepSecrets keeps the keys where they are: out of core files and out of swap. What the
// system does not let us do is said, and stops nothing.
func keepSecrets(log *slog.Logger) {
	if err := harden.ForbidCoreDumps(); err != nil {
		log.Warn("cannot disable core dumps", "error", err)
	}
	if err := harden.LockMemory(); err != nil {
		log.Warn("cannot lock the memory, so keys may be swapped out", "error", err)
	}
}
