package config

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"privyseal/internal/cure"
	"privyseal/internal/session"
	"privyseal/internal/witness"
)

// checker collects what is wrong with the values.
type checker struct {
	*Config
	problems *[]Problem
	dialled  witness.Nodes // of all chains
}

func (c *Config) validate(problems *[]Problem) {
	k := checker{Config: c, problems: problems, dialled: witness.Nodes{}}
	for _, ch := range c.Chains {
		for _, n := range ch.Nodes {
			k.dialled.Add(n.Addr)
		}
	}
	if c.Listen != "" {
		if _, err := netip.ParseAddrPort(c.Listen); err != nil {
			k.add(at("listen"), `listen: %q is not IP:port, as in "127.0.0.1:26661" ("" is off)`, c.Listen)
		}
	}
	k.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	k.oneOf("log.format", c.Log.Format, "auto", "text", "json")
	if len(c.Chains) == 0 {
		k.cure("chain", "add one with "+initCommand(k.dir), "no [[chain]]")
	}
	for i := range c.Chains {
		k.chain(i)
	}
	for _, t := range c.tables() {
		t.Check(c.written(t.table, t.name), func(key, wrong string) {
			k.add(at(t.table, t.name, key), "%s %s: %s %s", t.table, t.name, key, wrong)
		})
	}
	for _, kind := range c.kinds {
		if kind.Whole != nil {
			kind.Whole(c, func(text string, place ...any) { k.add(at(place...), "%s", text) })
		}
	}
	k.names()
	k.files()
}

func (k checker) add(path, format string, args ...any) {
	k.cure(path, "", format, args...)
}

// cure adds a problem with what to do about it.
func (k checker) cure(path, next, format string, args ...any) {
	*k.problems = append(*k.problems, Problem{lineOf(k.lines, path), fmt.Sprintf(format, args...), next})
}

func (k checker) oneOf(path, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		k.add(path, "%s: %q is not one of %s", path, value, strings.Join(allowed, ", "))
	}
}

// chain checks the values of one chain on their own.
func (k checker) chain(i int) {
	ch := k.Chains[i]
	path := at("chain", i)
	where := fmt.Sprintf("chain %q: ", ch.Name)
	if _, written := k.lines[at(path, "id")]; !written {
		where = fmt.Sprintf("chain %d: ", i+1)
	} else if err := CheckChainID(ch.ID); err != nil {
		k.add(at(path, "id"), "id: %v", err)
	}
	if _, written := k.lines[at(path, "name")]; written {
		if err := CheckName(ch.Name); err != nil {
			k.add(at(path, "name"), "name: %v", err)
		}
	}
	fail := func(key, format string, args ...any) {
		k.add(at(path, key), "%s%s", where, fmt.Sprintf(format, args...))
	}
	values := []struct{ key, value string }{{"id", ch.ID}, {"provider", ch.Provider}, {"key", ch.Key}, {"state", ch.State}}
	for _, v := range values {
		if _, written := k.lines[at(path, v.key)]; !written {
			fail(v.key, "%s is missing", v.key)
		} else if v.value == "" && v.key != "id" {
			fail(v.key, "%s is empty", v.key)
		}
	}
	if ch.Provider != "" && k.kinds.provider(ch.Provider).Provider == "" {
		fail("provider", "provider %q is not in this build; it has %s", ch.Provider, k.kinds.providers())
	}
	k.store(ch, path, fail)
	k.own(i, fail)
	if _, written := k.lines[at(path, "identity")]; written && ch.Identity == "" {
		fail("identity", "identity is empty")
	}
	if ch.MaxHeight < 0 {
		fail("max_height", "max_height is below 0")
	}
	if ch.HeightBurst < 1 || ch.HeightBurst > math.MaxInt32 {
		fail("height_burst", "height_burst is not from 1 to %d", math.MaxInt32)
	}
	if ch.HeightPerSecond < 1 || ch.HeightPerSecond > 1_000_000 {
		fail("height_per_second", "height_per_second is not from 1 to 1000000")
	}
	if ch.Timeout.Duration < MinTimeout || ch.Timeout.Duration > MaxTimeout {
		fail("timeout", "timeout is not from 5s to 5m")
	}
	k.nodes(i, fail)
	k.witnesses(i, fail)
}

// witnesses checks the addresses of the nodes that are watched. None may be one
// that a signer dials, of whatever chain.
func (k checker) witnesses(i int, fail func(key, format string, args ...any)) {
	ch := k.Chains[i]
	if ch.WitnessWait.Duration < MinWitnessWait || ch.WitnessWait.Duration > MaxWitnessWait {
		fail("witness_wait", "witness_wait is not from 1s to 10m")
	}
	if len(ch.Witness) > MaxWitnesses {
		fail("witness", "%d witnesses; a chain has at most %d", len(ch.Witness), MaxWitnesses)
		return
	}
	for j, addr := range ch.Witness {
		if err := witness.CheckAddr(addr, k.dialled); err != nil {
			fail("witness", "witness: %v", err)
		} else if slices.Contains(ch.Witness[:j], addr) {
			fail("witness", "witness: duplicate %q", addr)
		}
	}
}

// store checks that a store that is named is in this build.
func (k checker) store(ch Chain, path string, fail func(key, format string, args ...any)) {
	_, written := k.lines[at(path, "store")]
	switch {
	case !written || ch.Store != "" && k.kinds.store(ch.Store).Store != "":
	case ch.Store == "":
		fail("store", "store is empty")
	default:
		fail("store", "store %q is not in this build; it has %s", ch.Store, k.kinds.stores())
	}
}

// own checks what only chains of one provider or store have, and what they have not.
func (k checker) own(i int, fail func(key, format string, args ...any)) {
	ch := k.Chains[i]
	own := k.kinds.of(ch)
	named := k.Named(ch)
	for _, other := range k.kinds {
		_, written := k.lines[at("chain", i, other.Table)]
		if other.Store != "" && (ch.Store == "" || own[1].Store == "") { // its store is unknown: that is enough
			continue
		}
		if _, own := named[other.Table]; written && other.Table != "" && !own {
			fail(other.Table, "%s is for the %s", other.Table, other.short())
		}
	}
	for _, kind := range own {
		for _, key := range slices.Sorted(maps.Keys(kind.Refused)) {
			if _, written := k.lines[at("chain", i, key)]; written {
				fail(key, "%s %s", key, kind.Refused[key])
			}
		}
		if kind.Table == "" {
			continue
		}
		_, written := k.lines[at("chain", i, kind.Table)]
		if _, found := k.Tables[kind.Table][named[kind.Table]]; !written {
			fail(kind.Table, "%s is missing: the name of a table [%s.NAME]", kind.Table, kind.Table)
		} else if !found {
			fail(kind.Table, "there is no [%s.%s]", kind.Table, named[kind.Table])
		}
	}
}

// nodes checks the nodes of one chain.
func (k checker) nodes(i int, fail func(key, format string, args ...any)) {
	ch := k.Chains[i]
	if len(ch.Nodes) == 0 {
		fail("node", `no node; add node = [ { addr = "unix:///…" } ]`)
	}
	names, addrs := map[string]int{}, map[string]int{}
	for j, n := range ch.Nodes {
		node := func(key, format string, args ...any) {
			fail(at("node", j, key), "node %q: %s", n.Name, fmt.Sprintf(format, args...))
		}
		if !ValidName(n.Name) {
			node("name", "the name is not %s", NameRule)
		} else if first, taken := names[n.Name]; taken {
			node("name", "it is also the name of node %d", first+1)
		}
		names[n.Name] = j
		if _, written := k.lines[at("chain", i, "node", j, "addr")]; !written {
			node("addr", "addr is missing")
			continue
		}
		addr, err := session.ParseAddr(n.Addr)
		if err != nil {
			node("addr", "%v", err)
			continue
		}
		if first, taken := addrs[addr.String()]; taken {
			node("addr", "it is also the address of node %d", first+1)
		}
		addrs[addr.String()] = j
		if n.PeerUID != nil && addr.Network != "unix" {
			node("peer_uid", "only a unix:// address has a peer_uid")
		}
		if _, written := k.lines[at("chain", i, "identity")]; addr.Network != "unix" && !written {
			k.cure(at("chain", i, "node", j, "addr"), k.identity(ch), "chain %q: node %q: %s:// needs the chain's identity", ch.Name, n.Name, addr.Network)
		}
	}
}

// files checks that no file has two uses, among them those of two states.
func (k checker) files() {
	uses := map[string]string{}
	use := func(i int, key, file string) {
		if file == "" {
			return
		}
		if base := filepath.Base(file); base == "/" || base == "." || base == ".." || strings.ContainsFunc(file, isControl) {
			k.add(at("chain", i, key), "chain %q: %s: %q is not the name of a file", k.Chains[i].Name, key, file)
			return
		}
		file = k.Path(file)
		purpose := key
		if key == "state" {
			purpose = fmt.Sprintf("the state of chain %q", k.Chains[i].Name)
		}
		if other, taken := uses[file]; taken && (other != purpose || key == "state") {
			k.add(at("chain", i, key), "chain %q: %s: %s is also used as %s", k.Chains[i].Name, key, file, other)
		}
		uses[file] = purpose
	}
	for i, ch := range k.Chains {
		use(i, "key", ch.Key)
		use(i, "state", ch.State)
		use(i, "identity", ch.Identity)
	}
}

// identity says how a chain comes to the key by which nodes know it.
func (k checker) identity(ch Chain) string {
	if kind := k.Kind(ch); kind.Identity != nil {
		return kind.Identity(k.Config)
	}
	return fmt.Sprintf("make the key with %s and add identity = \"identity.key\"", cure.Command("privyseal", "key", "generate", "--out", k.Path("identity.key")))
}

// names checks that each chain has a name of its own, and that two chains with one
// id have two keys, as far as the file says so.
func (k checker) names() {
	names, keys, ids := map[string]int{}, map[[2]string]int{}, map[string]int{}
	for i, ch := range k.Chains {
		ids[ch.ID] = i
	}
	for i, ch := range k.Chains {
		line := func(first int, key string) int { return k.Line("chain", first, key) }
		fail := func(key, format string, args ...any) { k.add(at("chain", i, key), format, args...) }
		key := [2]string{ch.ID, k.Path(ch.Key)}
		if first, taken := names[ch.Name]; taken && k.Chains[first].ID == ch.ID {
			fail("id", "duplicate chain %q, first on line %d; a second key of a chain needs a name of its own, as in name = %q", ch.Name, line(first, "id"), ch.Name+"-next")
		} else if taken {
			fail("name", "chain %q: the chain on line %d has this name as well", ch.Name, line(first, "id"))
		} else if other, taken := ids[ch.Name]; taken && k.Chains[other].ID != ch.ID {
			fail("name", "chain %q: its name is the id of the chain on line %d; choose another", ch.Name, line(other, "id"))
		} else if first, taken := keys[key]; taken && ch.Key != "" {
			fail("key", "chain %q: it has the key of chain %q, which has the same id; one key has one state", ch.Name, k.Chains[first].Name)
		}
		names[ch.Name], keys[key] = i, i
	}
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }
