package daemon

import (
	"context"
	"errors"
	"path/filepath"
	"slices"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/monitor"
	"privyseal/internal/pubkey"
	"privyseal/internal/watermark"
	"privyseal/internal/witness"
)

// evidenceDir is the folder of proofs in the home folder.
const evidenceDir = "evidence"

// NewGuard returns what guards a chain that is about to be opened. An error means
// that the chain must not sign.
func (d *Daemon) NewGuard(cc config.Chain, pub pubkey.Key, m *monitor.Chain) (*Guard, error) {
	w := &Guard{state: d.Config.Path(cc.State), Cut: make(chan struct{})}
	flag, err := witness.ReadFlag(w.state)
	if err != nil {
		d.Log.Warn("cannot read the flag beside the state; assuming a quarantine", "chain", cc.Name, "error", err)
	}
	if flag.Stopped {
		return w, d.anotherSigner(cc, flag.Why, true)
	}
	if len(cc.Witness) == 0 {
		d.unguarded(cc, flag)
		return w, nil
	}
	watch, err := d.newWatch(w, cc, pub, m, witness.Config{Quarantine: flag.Quarantine})
	if err == nil {
		w.watch.Store(watch)
	}
	return w, err
}

// unguarded says that a chain should go through a quarantine, and has no witness for it.
func (d *Daemon) unguarded(cc config.Chain, flag witness.Flag) {
	if flag.Quarantine {
		d.Log.Warn("no witness can show whether another signer runs: signing without a quarantine", "chain", cc.Name, "why", flag.Why)
	}
}

// newWatch makes the watch over a chain; c says how it begins.
func (d *Daemon) newWatch(w *Guard, cc config.Chain, pub pubkey.Key, m *monitor.Chain, c witness.Config) (*witness.Watch, error) {
	c.ChainID, c.Addrs, c.Address, c.Verify, c.Wait = cc.ID, cc.Witness, pub.Address(), pub.Verify, cc.WitnessWait.Duration
	c.Passed = func() error { return witness.ClearFlag(w.state) }
	c.Log = d.Log.With("chain", cc.Name)
	c.Proved = func(p witness.Proof) { w.once.Do(func() { d.proved(w, cc, pub, m, p) }) }
	watch, err := witness.New(c)
	if err == nil {
		m.Witness(watch.Snapshot)
	}
	return watch, err
}

// proved ends signing for a chain for good, and the process if no other chain signs.
func (d *Daemon) proved(w *Guard, cc config.Chain, pub pubkey.Key, m *monitor.Chain, p witness.Proof) {
	why := p.String()
	w.why.Store(&why)
	path, err := p.Keep(filepath.Join(d.Home, evidenceDir), w.state, ShownKey(pub, cc.Provider).Public)
	if err != nil {
		d.Log.Error("cannot keep the proof that another signer uses the key", "chain", cc.Name, "error", err)
	}
	err = d.anotherSigner(cc, p.String()+cli.Prefixed("; the proof is in ", path), p.Stops())
	w.stopped.Store(&err)
	close(w.Cut)
	m.Failed(err)
	d.endIfNoneSigns(err)
}

// rewatch gives a chain that signs the witnesses that its config has now. What holds
// it back goes on to do so, but where there is no longer one: then it signs as one that
// was started without a witness, and says so.
func (d *Daemon) rewatch(ctx context.Context, c *chain) {
	before := c.watch.Load()
	if before != nil && before.Bounds().Stop != "" {
		return
	}
	var next *witness.Watch
	held := before != nil && before.Bounds().Hold != ""
	flag, err := witness.ReadFlag(c.Guard.state)
	if err != nil {
		d.Log.Error("cannot use the new witnesses", "chain", c.cfg.Name, "error", err)
		return
	}
	if len(c.cfg.Witness) == 0 {
		c.monitor.Witness(nil)
		d.unguarded(c.cfg, flag)
	} else if next, err = d.newWatch(c.Guard, c.cfg, c.key.PublicKey(), c.monitor, witness.Config{Running: !held, Quarantine: held && flag.Quarantine}); err != nil {
		d.Log.Error("cannot use the new witnesses", "chain", c.cfg.Name, "error", err)
		return
	}
	if before != nil {
		c.floor.Store(max(c.floor.Load(), before.Bounds().Floor))
	}
	// First the swap, then the mark: what is signed between the two is known to one.
	c.watch.Store(next)
	c.unwatch()
	c.Begin(c.signer.Last().Mark, c.load())
	c.Run(ctx)
}

// load returns how a witness loads the mark, nil where signers of other hosts do not share
// it. It looks by a way of its own: no signature waits for it.
func (c *chain) load() witness.Load {
	if !c.state.Shared {
		return nil
	}
	s, state := c.signer, c.state
	return func(ctx context.Context, upTo watermark.Mark) (watermark.Mark, error) {
		if last := s.Last().Mark; !last.Less(upTo) {
			return last, nil
		}
		info, err := state.Inspect(ctx)
		if err == nil {
			err = info.Problem
		}
		return info.Saved.Mark, err
	}
}

// anotherSigner says what a proof means, and what has to be done. The mark has to be
// above all that the key has signed, or the next start finds the proof again.
func (d *Daemon) anotherSigner(cc config.Chain, why string, flagged bool) error {
	command := func(words ...string) string { return cure.Command(append([]string{"privyseal"}, words...)...) }
	next := "switch off whatever else signs with this key, then raise the mark above what the chain has: " +
		command("state", "raise", "--home", d.Home, "--chain-id", cc.Name, "--after-height", "HEIGHT")
	if flagged {
		next += ", and " + command("witness", "--home", d.Home, "--chain-id", cc.Name, "--resume", "--yes")
	}
	return cure.Add(cli.Act(errors.New(why)), "%s", next)
}

// endIfNoneSigns ends the process if no chain can sign any more.
func (d *Daemon) endIfNoneSigns(why error) {
	mayStill := func(c monitor.ChainSnapshot) bool { return c.Ready || c.Problem == "" }
	if !slices.ContainsFunc(d.Monitor.Snapshot().Chains, mayStill) {
		d.end(why)
	}
}

// ended returns why no chain signs any more; nil if that was the operator's wish.
func ended(ctx context.Context) error {
	cause := context.Cause(ctx)
	if _, act := errors.AsType[cli.ActError](cause); act {
		return cause
	}
	return nil
}
