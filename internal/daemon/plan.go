package daemon

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"privyseal/internal/config"
	"privyseal/internal/session"
)

// What a new config means for a signer that runs: what can change without a mark being
// touched changes, the rest is named. Nothing here opens a file, key or connection. [Diff]
// is a pure function of two configs which were both checked; [Plan.Apply] calls a [World]
// in the one order that is safe. A mark is never touched: keys, states and what bounds a
// signer stay those that it was opened with, until a restart.

// Plan is what a reload does, and what it leaves to a restart.
type Plan struct {
	// Config is what is in force afterwards: the new config with the old values of
	// what was refused.
	Config *config.Config

	// Level is the new level of the log, "" if it stays.
	Level string
	// Stop are the names of chains that end: those that are gone, and those that
	// cannot sign and are opened again.
	Stop []string
	// Change are chains that go on with other nodes or witnesses.
	Change []Change
	// Start are chains to open.
	Start []config.Chain

	// Done and Refused say in an operator's words what changes, and what needs a
	// restart.
	Done, Refused []string
}

// Change is what changes of a chain that signs.
type Change struct {
	// Chain is the chain as it is in force afterwards.
	Chain config.Chain
	// Remove are the names of nodes whose sessions end, Add the nodes to dial. One
	// whose address changed is in both.
	Remove []string
	Add    []config.Node
	// Witnesses says that it is watched by others.
	Witnesses bool
}

// Empty reports whether there is nothing to do.
func (p *Plan) Empty() bool { return len(p.Done) == 0 }

func (p *Plan) done(format string, args ...any) {
	p.Done = append(p.Done, fmt.Sprintf(format, args...))
}

func (p *Plan) refuse(format string, args ...any) {
	p.Refused = append(p.Refused, fmt.Sprintf(format, args...))
}

// Diff compares the config that is in force with a new one. dead reports whether the
// chain of a name could not be opened: it is opened again, with all that is new.
func Diff(old, next *config.Config, dead func(name string) bool) *Plan {
	force := *next
	force.Listen, force.Log.Format, force.Tables, force.Chains = old.Listen, old.Log.Format, old.Tables, nil
	p := &Plan{Config: &force}
	if old.Log.Level != next.Log.Level {
		p.Level = next.Log.Level
		p.done("log level %s", next.Log.Level)
	}
	for name, same := range map[string]bool{"listen": old.Listen == next.Listen, "log.format": old.Log.Format == next.Log.Format} {
		if !same {
			p.refuse("%s", name)
		}
	}
	p.tables(old, next)
	before := byName(old.Chains)
	for _, ch := range next.Chains {
		was, known := before[ch.Name]
		delete(before, ch.Name)
		if force, kept := p.chain(place{was, old.Kind(was)}, place{ch, next.Kind(ch)}, known, dead(ch.Name)); kept {
			p.Config.Chains = append(p.Config.Chains, force)
		}
	}
	// In the order of the old config: that of a map differs from run to run.
	for _, was := range old.Chains {
		if _, gone := before[was.Name]; gone && !p.remove(place{was, old.Kind(was)}) {
			p.Config.Chains = append(p.Config.Chains, was)
		}
	}
	slices.Sort(p.Refused)
	return p
}

func byName(chains []config.Chain) map[string]config.Chain {
	m := make(map[string]config.Chain, len(chains))
	for _, ch := range chains {
		m[ch.Name] = ch
	}
	return m
}

// place is a chain with what its config has of its provider.
type place struct {
	config.Chain
	kind config.Kind
}

// chain plans for one chain of the new config, and returns what is in force of it.
func (p *Plan) chain(was, ch place, known, dead bool) (force config.Chain, kept bool) {
	switch {
	case !known && ch.kind.Apart != "":
		p.refuse("chain %s, which is %s", ch.Name, ch.kind.Apart)
		return ch.Chain, false
	case !known:
		p.Start = append(p.Start, ch.Chain)
		p.done("chain %s added", ch.Name)
		return ch.Chain, true
	case was.kind.Apart != "":
		if !equal(was, ch) {
			p.refuse("chain %s, which is %s", ch.Name, was.kind.Apart)
		}
		return was.Chain, true
	case dead && ch.kind.Apart == "":
		p.Stop = append(p.Stop, ch.Name)
		p.Start = append(p.Start, ch.Chain)
		p.done("chain %s opened again", ch.Name)
		return ch.Chain, true
	}
	return p.change(was, ch), true
}

// remove plans the end of a chain, and reports whether it ends.
func (p *Plan) remove(was place) bool {
	if was.kind.Apart != "" {
		p.refuse("the end of chain %s, which is %s", was.Name, was.kind.Apart)
		return false
	}
	p.Stop = append(p.Stop, was.Name)
	p.done("chain %s removed", was.Name)
	return true
}

// change plans for a chain that signs, and returns what is in force of it.
func (p *Plan) change(was, ch place) config.Chain {
	force := was.Chain
	force.Nodes, force.ImportedFrom = ch.Nodes, ch.ImportedFrom
	force.Witness, force.WitnessWait = ch.Witness, ch.WitnessWait
	if was.Identity == "" && ch.Identity != "" {
		force.Identity = ch.Identity // it is read when the first node asks for one
		p.done("chain %s: identity", ch.Name)
	}
	if fields := fixed(place{force, was.kind}, ch); len(fields) > 0 {
		p.refuse("chain %s: %s", ch.Name, strings.Join(fields, ", "))
	}
	if slices.Contains(fixed(place{force, was.kind}, ch), "identity") && needsIdentity(ch.Nodes) {
		// Nodes of another identity are another connection: all or nothing.
		force.Nodes = was.Nodes
	}
	c := Change{Chain: force, Witnesses: !slices.Equal(was.Witness, ch.Witness)}
	now := nodesByName(force.Nodes)
	for _, n := range was.Nodes {
		if same, there := now[n.Name]; there && sameNode(same, n) {
			delete(now, n.Name)
			continue
		}
		c.Remove = append(c.Remove, n.Name)
	}
	for _, n := range force.Nodes {
		if _, fresh := now[n.Name]; fresh {
			c.Add = append(c.Add, n)
		}
	}
	nodes := len(c.Remove)+len(c.Add) > 0
	if nodes || c.Witnesses {
		p.Change = append(p.Change, c)
	}
	if nodes {
		p.done("chain %s: nodes", ch.Name)
	}
	if c.Witnesses {
		p.done("chain %s: witnesses", ch.Name)
	}
	return force
}

func needsIdentity(nodes []config.Node) bool {
	return slices.ContainsFunc(nodes, func(n config.Node) bool {
		addr, err := session.ParseAddr(n.Addr) // the config was checked
		return err != nil || addr.Network != "unix"
	})
}

func nodesByName(nodes []config.Node) map[string]config.Node {
	m := make(map[string]config.Node, len(nodes))
	for _, n := range nodes {
		m[n.Name] = n
	}
	return m
}

func sameNode(a, b config.Node) bool {
	samePeer := (a.PeerUID == nil) == (b.PeerUID == nil) && (a.PeerUID == nil || *a.PeerUID == *b.PeerUID)
	return samePeer && a.Name == b.Name && a.Addr == b.Addr
}

// fixed returns the keys that differ and that a signer has from its start to its end.
func fixed(a, b place) (keys []string) {
	for _, k := range []struct {
		key  string
		same bool
	}{
		{"id", a.ID == b.ID},
		{"provider", a.Provider == b.Provider},
		{cmp.Or(b.kind.Table, a.kind.Table), a.kind.Table == b.kind.Table && a.Table == b.Table},
		{"key", a.Key == b.Key},
		{"store", a.Store == b.Store && a.StoreTable == b.StoreTable},
		{"state", a.State == b.State},
		{"identity", a.Identity == b.Identity},
		{"max_height", a.MaxHeight == b.MaxHeight},
		{"height_burst", a.HeightBurst == b.HeightBurst},
		{"height_per_second", a.HeightPerSecond == b.HeightPerSecond},
		{"timeout", a.Timeout == b.Timeout},
		{"allow_sign_bytes", a.AllowSignBytes == b.AllowSignBytes},
		{"allow_raw_bytes", a.AllowRawBytes == b.AllowRawBytes},
	} {
		if !k.same {
			keys = append(keys, k.key)
		}
	}
	return keys
}

func equal(a, b place) bool {
	return len(fixed(a, b)) == 0 && slices.EqualFunc(a.Nodes, b.Nodes, sameNode) &&
		slices.Equal(a.Witness, b.Witness) && a.WitnessWait == b.WitnessWait
}

// tables refuses every change of a provider's tables.
func (p *Plan) tables(old, next *config.Config) {
	for _, name := range config.ChangedTables(old, next) {
		p.refuse("%s", name)
	}
}

// World is the running signer. Its methods are called one after the other, and say
// themselves what fails.
type World interface {
	SetLevel(level string)
	// StopChain ends the sessions of a chain, after what is in flight, and gives its
	// state free.
	StopChain(name string)
	// ChangeChain ends the sessions of nodes, after what is in flight, and dials
	// others.
	ChangeChain(ctx context.Context, c Change)
	// StartChains opens chains and dials their nodes. One that cannot sign is left
	// out, and the others sign.
	StartChains(ctx context.Context, chains []config.Chain)
}

// Apply does what is planned. What ends comes before what starts: a new chain may
// want the state, or a node, that an old one had.
func (p *Plan) Apply(ctx context.Context, w World) {
	if p.Level != "" {
		w.SetLevel(p.Level)
	}
	for _, name := range p.Stop {
		w.StopChain(name)
	}
	for _, c := range p.Change {
		w.ChangeChain(ctx, c)
	}
	if len(p.Start) > 0 {
		w.StartChains(ctx, p.Start)
	}
}
