package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"privyseal/internal/config"
)

const (
	// A chain that could not be opened for a reason that may pass is opened again
	// after a pause between these two.
	minReopen = time.Second
	maxReopen = time.Minute
)

// tend reloads the config when hangup says so, and opens chains again that failed
// for a reason that may pass, until ctx ends.
func (d *Daemon) tend(ctx context.Context, hangup <-chan os.Signal) {
	pause := minReopen
	var loading <-chan loaded // nil: no reload has begun
	for {
		var again <-chan time.Time
		if d.worthAnother() {
			again = time.After(pause)
		}
		hangup := hangup
		if loading != nil {
			hangup = nil // one after the other
		}
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			d.Notify("RELOADING=1")
			loading = load(d.kinds, d.Home)
		case l := <-loading:
			loading = nil
			d.reload(ctx, l)
			d.Notify("READY=1\nSTATUS=" + d.Summary())
			pause = minReopen
		case <-again:
			d.reopen(ctx)
			pause = min(2*pause, maxReopen)
		}
	}
}

// loaded is a config, or why there is none.
type loaded struct {
	config *config.Config
	err    error
}

// load reads the config of a home. A file system that hangs, as of a file server that
// is gone, keeps nobody waiting but this.
func load(kinds config.Kinds, home string) <-chan loaded {
	c := make(chan loaded, 1)
	go func() {
		var l loaded
		l.config, l.err = kinds.Load(filepath.Join(home, config.FileName))
		c <- l
	}()
	return c
}

// reload does what can be done for a new config without a restart. A bad one changes
// nothing.
func (d *Daemon) reload(ctx context.Context, next loaded) {
	if next.err == nil {
		next.err = d.checkIdentities(next.config)
	}
	if next.err != nil {
		d.Log.Error("cannot reload the config, nothing changes", "error", next.err)
		return
	}
	plan := Diff(d.Config, next.config, d.dead)
	d.Config = plan.Config
	d.looked.Store(d.Config)
	plan.Apply(ctx, d)
	changes := "nothing"
	if !plan.Empty() {
		changes = strings.Join(plan.Done, "; ")
	}
	if len(plan.Refused) > 0 {
		d.Log.Warn("the config is reloaded, except for what needs a restart", "changed", changes, "needs_restart", strings.Join(plan.Refused, "; "))
		return
	}
	d.Log.Info("the config is reloaded", "changed", changes)
}

// checkIdentities opens what a reload would give to chains that sign without one. A file
// that was not there would be theirs until a restart, and so would its absence.
func (d *Daemon) checkIdentities(next *config.Config) error {
	for _, ch := range next.Chains {
		if c := d.chain(ch.Name); c == nil || c.signer == nil || c.cfg.Identity != "" {
			continue
		}
		if _, err := openIdentity(next, ch); err != nil {
			return fmt.Errorf("the identity of chain %s: %w", ch.Name, err)
		}
	}
	return nil
}

// dead reports whether a chain with a key file cannot sign.
func (d *Daemon) dead(name string) bool {
	c := d.chain(name)
	return c != nil && c.signer == nil
}

// worthAnother reports whether a chain may sign if it is opened again.
func (d *Daemon) worthAnother() bool {
	return slices.ContainsFunc(d.chains, func(c *chain) bool { return c.signer == nil && MayPass(c.err) })
}

// reopen opens those chains again.
func (d *Daemon) reopen(ctx context.Context) {
	var list []config.Chain
	for _, c := range slices.Clone(d.chains) {
		if c.signer == nil && MayPass(c.err) {
			list = append(list, c.cfg)
			d.StopChain(c.cfg.Name)
		}
	}
	d.StartChains(ctx, list)
}

func (d *Daemon) chain(name string) *chain {
	for _, c := range d.chains {
		if c.cfg.Name == name {
			return c
		}
	}
	return nil
}

// SetLevel implements [World].
func (d *Daemon) SetLevel(level string) { d.setLevel(parseLevel(level)) }

// StopChain implements [World].
func (d *Daemon) StopChain(name string) {
	c := d.chain(name)
	if c == nil {
		return
	}
	for _, r := range c.sessions {
		r.cancel()
	}
	if !d.drained([]*chain{c}) {
		// Whoever opened it now could sign beside us.
		d.Log.Error("a signature did not finish in time; the state stays locked until a restart", "chain", name)
	} else if err := c.close(); err != nil {
		d.Log.Warn("cannot close the key", "chain", name, "error", err)
	}
	d.chains = slices.DeleteFunc(d.chains, func(other *chain) bool { return other == c })
	for id, owner := range d.owners {
		if owner == name {
			delete(d.owners, id)
		}
	}
	d.Monitor.RemoveChain(c.monitor)
}

// ChangeChain implements [World].
func (d *Daemon) ChangeChain(ctx context.Context, change Change) {
	c := d.chain(change.Chain.Name)
	if c == nil {
		return
	}
	gone := &chain{}
	for _, name := range change.Remove {
		if r := c.sessions[name]; r != nil {
			r.cancel()
			gone.leaving = append(gone.leaving, r)
		}
	}
	if !d.drained([]*chain{gone}) {
		d.Log.Error("a signature is still in progress for a node that was removed", "chain", c.cfg.Name)
		// It needs the key and the state for as long as it is.
		c.leaving = append(c.leaving, gone.leaving...)
	}
	for _, name := range change.Remove {
		delete(c.sessions, name)
		delete(c.changed, name)
		c.monitor.RemoveNode(name)
	}
	c.cfg = change.Chain
	if c.identity == nil {
		identity, err := openIdentity(d.Config, c.cfg)
		if err != nil {
			d.Log.Error("cannot dial nodes that authenticate this signer", "chain", c.cfg.Name, "error", err)
		}
		c.identity = identity
	}
	for _, n := range change.Add {
		c.changed[n.Name] = c.monitor.AddNode(n.Name, n.Addr)
	}
	if change.Witnesses {
		d.rewatch(ctx, c)
	}
	c.signer.SetNodes(len(c.cfg.Nodes))
	c.dial(ctx, change.Add)
}

// StartChains implements [World].
func (d *Daemon) StartChains(ctx context.Context, list []config.Chain) {
	before := len(d.chains)
	d.openAll(ctx, list, false)
	sayFailed(d.chains[before:])
	for _, c := range d.chains[before:] {
		c.dial(ctx, c.cfg.Nodes)
	}
}

func parseLevel(text string) slog.Level {
	var level slog.Level
	if err := level.UnmarshalText([]byte(text)); err != nil {
		return slog.LevelInfo
	}
	return level
}
