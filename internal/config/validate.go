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
	"privyseal/internal/hostlink"
	"privyseal/internal/session"
	"privyseal/internal/watermark"
	"privyseal/internal/witness"
)

// laterProviders are named in the design and are not in this build.
var laterProviders = []string{"sgx", "yubihsm", "pkcs11", "tpm", "sev", "tdx"}

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
	for _, name := range slices.Sorted(maps.Keys(c.Enclaves)) {
		k.enclave(name)
	}
	k.enclaves()
	k.capacity()
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
	if _, written := k.lines[at(path, "name")]; written && !ValidName(ch.Name) {
		k.add(at(path, "name"), "name: %q is not a name: %s", ch.Name, NameRule)
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
	switch {
	case ch.Provider == "" || ch.Provider == "soft" || ch.Provider == "nitro":
	case slices.Contains(laterProviders, ch.Provider):
		fail("provider", `provider %q is not in this build; it has "soft" and "nitro"`, ch.Provider)
	default:
		fail("provider", `unknown provider %q; this build has "soft" and "nitro"`, ch.Provider)
	}
	k.inEnclave(i, fail)
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
			fail("witness", "witness: %q is there twice", addr)
		}
	}
}

// inEnclave checks what only chains in an enclave have, and what they have not.
func (k checker) inEnclave(i int, fail func(key, format string, args ...any)) {
	ch := k.Chains[i]
	_, written := k.lines[at("chain", i, "enclave")]
	if ch.Provider != "nitro" {
		if written {
			fail("enclave", `enclave is for the provider "nitro"`)
		}
		return
	}
	if _, found := k.Enclaves[ch.Enclave]; !written {
		fail("enclave", "enclave is missing: the name of an [enclave.NAME]")
	} else if !found {
		fail("enclave", "there is no [enclave.%s]", ch.Enclave)
	}
	for _, key := range []string{"max_height", "allow_sign_bytes", "allow_raw_bytes"} {
		if _, written := k.lines[at("chain", i, key)]; written {
			fail(key, "%s of a chain in an enclave is in the measured policy of the image", key)
		}
	}
}

// enclave checks the values of one enclave.
func (k checker) enclave(name string) {
	written := func(key string) bool {
		_, found := k.lines[at("enclave", name, key)]
		return found
	}
	CheckEnclave(k.Enclaves[name], written, func(key, wrong string) {
		k.add(at("enclave", name, key), "enclave %s: %s %s", name, key, wrong)
	})
}

// CheckEnclave calls fail with each key of an enclave whose value cannot be, and
// what is wrong with it, as in "cid", "is not from 4 to 4294967294". written tells
// which keys somebody has set; a zero that nobody has is the default.
func CheckEnclave(e Enclave, written func(key string) bool, fail func(key, wrong string)) {
	if !written("eif") {
		fail("eif", "is missing: the image, as of `privyseal nitro build`")
	} else if e.EIF == "" {
		fail("eif", "is empty")
	}
	// 0 to 3 are the hypervisor, loopback, the host, and an enclave's parent.
	if written("cid") && (e.CID < 4 || e.CID == math.MaxUint32) {
		fail("cid", "is not from 4 to 4294967294")
	}
	if written("memory_mib") && (e.MemoryMiB < MinMemoryMiB || e.MemoryMiB > 1<<20) {
		fail("memory_mib", fmt.Sprintf("is not from %d to %d", MinMemoryMiB, 1<<20))
	}
	if e.CPUCount < 1 || e.CPUCount > 256 {
		fail("cpu_count", "is not from 1 to 256")
	}
	if e.NitroCLI == "" {
		fail("nitro_cli", "is empty")
	}
	if e.Credentials != nil && (e.Credentials.AccessKeyID == "" || e.Credentials.SecretAccessKey.Reveal() == "") {
		fail("credentials", "need access_key_id and secret_access_key")
	}
}

// enclaves checks that no two enclaves are in each other's way.
func (k checker) enclaves() {
	used := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(k.Enclaves)) {
		e := k.Enclaves[name]
		place := "AF_VSOCK, whose ports they would share; one enclave signs for any number of chains"
		if e.Transport != "" {
			if e.CID == 0 {
				continue
			}
			place = fmt.Sprintf("CID %d in %s", e.CID, k.Path(e.Transport))
		}
		if other, taken := used[place]; taken {
			k.add(at("enclave", name), "enclave %s: it and enclave %s both have %s", name, other, place)
		}
		used[place] = name
	}
}

// capacity checks that no enclave has more to sign for than it takes: it would refuse
// all its chains, and only at the next boot.
func (k checker) capacity() {
	chains, nodes := map[string]int{}, map[string]int{} // by enclave
	for i, ch := range k.Chains {
		e := ch.Enclave
		if ch.Provider != "nitro" {
			continue
		}
		if n := len(ch.Nodes); n > hostlink.MaxNodes {
			k.add(at("chain", i, "node"), "chain %q: %d nodes; in an enclave a chain has at most %d", ch.Name, n, hostlink.MaxNodes)
		}
		// Told where it becomes too much, and once.
		before := nodes[e]
		chains[e], nodes[e] = chains[e]+1, nodes[e]+len(ch.Nodes)
		if chains[e] == hostlink.MaxChains+1 {
			k.add(at("chain", i), "chain %q: enclave %s signs for at most %d chains; give this one another enclave, on another instance", ch.Name, e, hostlink.MaxChains)
		}
		if before <= hostlink.MaxServed && nodes[e] > hostlink.MaxServed {
			k.add(at("chain", i, "node"), "chain %q: enclave %s serves at most %d nodes of all its chains, and this makes %d", ch.Name, e, hostlink.MaxServed, nodes[e])
		}
	}
}

// ValidEnclave reports whether s is 1 to 40 of A-Z a-z 0-9 _ -: an enclave's name.
func ValidEnclave(s string) bool {
	return ValidName(s) && len(s) <= 40 && !strings.Contains(s, ".")
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
			node("name", "the name of node %d too", first+1)
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
			node("addr", "the address of node %d too", first+1)
		}
		addrs[addr.String()] = j
		if n.PeerUID != nil && addr.Network != "unix" {
			node("peer_uid", "only a unix:// address has a peer_uid")
		}
		if _, written := k.lines[at("chain", i, "identity")]; addr.Network != "unix" && !written {
			k.cure(at("chain", i, "node", j, "addr"), k.identity(ch.Provider), "chain %q: node %q: %s:// needs the chain's identity", ch.Name, n.Name, addr.Network)
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
			k.add(at("chain", i, key), "chain %q: %s: %s is used as %s too", k.Chains[i].Name, key, file, other)
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
func (k checker) identity(provider string) string {
	if provider == "nitro" {
		return fmt.Sprintf("while this node is not in the config yet, %s has the enclave make one; then add identity = \"identity.wrapped\"",
			cure.Command("privyseal", "nitro", "identity", "--home", k.dir))
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
		host := [2]string{ch.ID, "enclave " + ch.Enclave}
		if first, taken := names[ch.Name]; taken && k.Chains[first].ID == ch.ID {
			fail("id", "chain %q is there twice, first on line %d; a second key of a chain needs a name of its own, as in name = %q", ch.Name, line(first, "id"), ch.Name+"-next")
		} else if taken {
			fail("name", "chain %q: the chain on line %d has this name too", ch.Name, line(first, "id"))
		} else if other, taken := ids[ch.Name]; taken && k.Chains[other].ID != ch.ID {
			fail("name", "chain %q: its name is the id of the chain on line %d; choose another", ch.Name, line(other, "id"))
		} else if first, taken := keys[key]; taken && ch.Key != "" {
			fail("key", "chain %q: the key of chain %q, which has the same id; one key has one state", ch.Name, k.Chains[first].Name)
		} else if first, taken := keys[host]; taken && ch.Provider == "nitro" {
			// Host and enclave name a chain by its id.
			fail("enclave", "chain %q: enclave %s signs for the id %s already, with the key of chain %q; this one needs another enclave", ch.Name, ch.Enclave, ch.ID, k.Chains[first].Name)
		}
		names[ch.Name], keys[key], keys[host] = i, i, i
	}
}

// NameRule says what chain ids and names are made of.
const NameRule = "1 to 50 of A-Z a-z 0-9 . _ - that do not start with a point"

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// CheckChainID says what is wrong with a chain id.
func CheckChainID(id string) error {
	if !watermark.ValidChainID(id) {
		return fmt.Errorf("%.80q is not a chain id: %s", id, NameRule)
	}
	return nil
}

// ValidName reports whether s may be the name of a chain or of a node. The rule is
// that of chain ids, beside which it stands in metrics and file names.
func ValidName(s string) bool { return watermark.ValidChainID(s) }
