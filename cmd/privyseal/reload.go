package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"privyseal/internal/config"
	reload "privyseal/internal/daemon"
)

const (
	// A chain that could not be opened for a reason that may pass is opened again
	// after a pause between these two.
	minReopen = time.Second
	maxReopen = time.Minute
)

// tend reloads the config when hangup says so, and opens chains again that failed
// for a reason that may pass, until ctx ends.
func (d *daemon) tend(ctx context.Context, hangup <-chan os.Signal) {
	pause := minReopen
	for {
		var again <-chan time.Time
		if d.worthAnother() {
			again = time.After(pause)
		}
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			d.reload(ctx)
			pause = minReopen
		case <-again:
			d.reopen(ctx)
			pause = min(2*pause, maxReopen)
		}
	}
}

// reload reads the config again and does what can be done without a restart. A bad
// one changes nothing.
func (d *daemon) reload(ctx context.Context) {
	d.notify("RELOADING=1")
	defer func() { d.notify("READY=1\nSTATUS=" + d.summary()) }()
	next, err := providers.Kinds().Load(filepath.Join(d.home, config.FileName))
	if err != nil {
		d.log.Error("cannot reload the config, nothing changes", "error", err)
		return
	}
	plan := reload.Diff(d.cfg, next, d.dead)
	d.cfg = plan.Config
	plan.Apply(ctx, d)
	changes := "nothing"
	if !plan.Empty() {
		changes = strings.Join(plan.Done, "; ")
	}
	if len(plan.Refused) > 0 {
		d.log.Warn("the config is reloaded, but for what needs a restart", "changed", changes, "needs_restart", strings.Join(plan.Refused, "; "))
		return
	}
	d.log.Info("the config is reloaded", "changed", changes)
}

// dead reports whether a chain with a key file cannot sign.
func (d *daemon) dead(name string) bool {
	c := d.chain(name)
	return c != nil && c.signer == nil
}

// worthAnother reports whether a chain may sign if it is opened again.
func (d *daemon) worthAnother() bool {
	return slices.ContainsFunc(d.chains, func(c *chain) bool { return c.signer == nil && mayPass(c.err) })
}

// reopen opens those chains again.
func (d *daemon) reopen(ctx context.Context) {
	var list []config.Chain
	for _, c := range slices.Clone(d.chains) {
		if c.signer == nil && mayPass(c.err) {
			list = append(list, c.cfg)
			d.StopChain(c.cfg.Name)
		}
	}
	d.StartChains(ctx, list)
}

func (d *daemon) chain(name string) *chain {
	for _, c := range d.chains {
		if c.cfg.Name == name {
			return c
		}
	}
	return nil
}

// SetLevel implements reload.World.
func (d *daemon) SetLevel(level string) { d.setLevel(parseLevel(level)) }

// StopChain implements reload.World.
func (d *daemon) StopChain(name string) {
	c := d.chain(name)
	if c == nil {
		return
	}
	for _, r := range c.sessions {
		r.cancel()
	}
	if !d.drained([]*chain{c}) {
		// Whoever opened it now could sign beside us.
		d.log.Error("a signature is still in work when its time is up; the state stays locked until a restart", "chain", name)
	} else {
		c.close()
		if c.key != nil {
			if err := c.key.Close(); err != nil {
				d.log.Warn("cannot close the key", "chain", name, "error", err)
			}
		}
	}
	d.chains = slices.DeleteFunc(d.chains, func(other *chain) bool { return other == c })
	for id, owner := range d.owners {
		if owner == name {
			delete(d.owners, id)
		}
	}
	d.monitor.RemoveChain(c.monitor)
}

// ChangeChain implements reload.World.
func (d *daemon) ChangeChain(ctx context.Context, change reload.Change) {
	c := d.chain(change.Chain.Name)
	if c == nil {
		return
	}
	gone := &chain{sessions: map[string]*running{}}
	for _, name := range change.Remove {
		if r := c.sessions[name]; r != nil {
			r.cancel()
			gone.sessions[name] = r
		}
	}
	if !d.drained([]*chain{gone}) {
		d.log.Error("a signature is still in work for a node that was removed", "chain", c.cfg.Name)
	}
	for _, name := range change.Remove {
		delete(c.sessions, name)
		delete(c.changed, name)
		c.monitor.RemoveNode(name)
	}
	c.cfg = change.Chain
	if c.identity == nil {
		identity, err := openIdentity(d.cfg, c.cfg)
		if err != nil {
			d.log.Error("cannot dial nodes that want to know who we are", "chain", c.cfg.Name, "error", err)
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

// StartChains implements reload.World.
func (d *daemon) StartChains(ctx context.Context, list []config.Chain) {
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
