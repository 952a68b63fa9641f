// Package migrate reads the installations of other signers: their keys, their
// states and their connections, as far as privyseal has a place for them.
//
// It only reads: it writes, deletes and dials nothing. What it returns is for
// the caller to write, and for the operator to check. It trusts the files in
// that they are the operator's own, but not that they are whole: a state has to
// be there, to have stopped changing, and, where it holds what was signed, to
// belong to the chain and the key.
package migrate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"privyseal/internal/key/soft"
	"privyseal/internal/pubkey"
	"privyseal/internal/session"
	"privyseal/internal/shell"
	"privyseal/internal/watermark"
)

// Installation is what was found in one installation of another signer.
type Installation struct {
	Source string // one of Sources
	Chains []Chain

	// Enclave is where the key of its one chain was used; nil if no enclave has it.
	Enclave *Enclave

	// Warnings say what could not be taken over, and what to look at.
	Warnings []string

	// SwitchOff are the steps that end the old installation, in their order.
	SwitchOff []string

	before []string // the steps that come before the first signature of ours
}

// Chain is one chain that the installation signs for.
type Chain struct {
	ID      string
	Key     *soft.Key
	KeyFile string // where the key lay, in plain text

	// KMS is the key as a ciphertext of AWS KMS, where only an enclave may read
	// it. Then Key is nil, and KeyFile holds the ciphertext. Region is the KMS key's.
	KMS    []byte
	Region string

	expected pubkey.Key // of ParseState, which has no Key

	// Mark is the last message that was signed. If it is zero, the state says
	// that the key never signed; a Warning says so.
	Mark      watermark.Mark
	StateFile string
	// Unsigned is one of several states, of a party without which others may have
	// signed, that says that nothing was ever signed, as a reset one does; "" if none does.
	Unsigned string
	Written  time.Time // when the state was written last

	Nodes []Node // at least one

	// Identity is the key by which the nodes know the signer; nil if there is
	// none, because all sockets are unix sockets or the signer makes it afresh.
	Identity     *soft.Key
	IdentityFile string

	MaxHeight int64         // highest height that is signed; 0 is no bound
	Timeout   time.Duration // of reads and writes; 0 is not set

	Warnings []string

	parseState func(c *Chain, data []byte) (watermark.Mark, error)
	// moreKeys and moreStates are files beside KeyFile and StateFile, where several
	// make one.
	moreKeys, moreStates []string
}

// KeyFiles returns KeyFile, and the other files that hold a part of the key.
func (c *Chain) KeyFiles() []string { return append([]string{c.KeyFile}, c.moreKeys...) }

// stateFiles returns StateFile, and the other states of the chain and key.
func (c *Chain) stateFiles() []string { return append([]string{c.StateFile}, c.moreStates...) }

// Node is a validator node that the signer dials.
type Node struct {
	Name string // unique in its chain
	Addr string // as session.ParseAddr reads it

	// Listens is the node's priv_validator_laddr, or what that has to become; "" if
	// only the node knows, which then listens already.
	Listens string
}

// DefaultSettle is longer than the pause between two signatures on most chains.
const DefaultSettle = 10 * time.Second

// Sources returns the names of the signers that [Read] knows.
func Sources() []string { return []string{"cometbft", "tmkms", "tmkms-light", "cosmos-kms", "horcrux"} }

// Place says which installation is meant.
type Place struct {
	Source string   // one of [Sources]
	Paths  []string // one, or with horcrux one or more
	// Nodes are addresses of nodes beside those of the installation, with horcrux.
	Nodes []string
}

// Read reads the installation of another signer:
//
//   - cometbft: the home of a node that signs with its own key, or the config
//     folder in it;
//   - tmkms: its tmkms.toml, or the folder with it;
//   - tmkms-light: the tmkms.toml of its software signer or of its Nitro helper,
//     or the folder with it;
//   - cosmos-kms: its home, or the kms.yaml in it;
//   - horcrux: the homes of as many cosigners as make the key, or the folder that they
//     lie in.
//
// A state file has to be older than settle and may not change between two
// reads, so Read can take as long as settle. Errors are a *[StateError] where a
// state is missing or does not fit, a *[LiveError] where the old signer still
// runs, and the context's.
func Read(ctx context.Context, at Place, settle time.Duration) (*Installation, error) {
	source, paths := at.Source, make([]string, len(at.Paths))
	for i := range paths {
		var err error
		if paths[i], err = filepath.Abs(at.Paths[i]); err != nil {
			return nil, err
		}
	}
	if len(paths) == 0 || len(paths) > 1 && source != "horcrux" {
		return nil, fmt.Errorf("cannot migrate from %s: it lies in one place, not in %d", source, len(paths))
	}
	path := paths[0]
	var in *Installation
	var err error
	switch source {
	case "cometbft":
		in, err = readCometBFT(path)
	case "tmkms":
		in, err = readTMKMS(path)
	case "tmkms-light":
		in, err = readTMKMSLight(path)
	case "cosmos-kms":
		in, err = readCosmosKMS(path)
	case "horcrux":
		in, err = readHorcrux(paths, at.Nodes)
	default:
		return nil, fmt.Errorf("unknown signer %.40q: it is one of %s", source, strings.Join(Sources(), ", "))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot migrate from %s: %w", source, err)
	}
	in.Source = source
	if err := in.check(); err != nil {
		return nil, fmt.Errorf("cannot migrate from %s: %w", source, err)
	}
	if err := in.readStates(ctx, settle); err != nil {
		return nil, fmt.Errorf("cannot migrate from %s: %w", source, err)
	}
	for _, step := range in.switchOff() {
		in.SwitchOff = append(in.SwitchOff, shell.Line(step))
	}
	return in, nil
}

// check looks for what no signer should allow, and what would be one state for
// two chains here.
func (in *Installation) check() error {
	if len(in.Chains) == 0 {
		return errors.New("it signs for no chain")
	}
	ids, states := map[string]bool{}, map[string]string{}
	for _, c := range in.Chains {
		if !watermark.ValidChainID(c.ID) {
			return fmt.Errorf("%.60q is not a chain id: it has 1 to %d of A-Z a-z 0-9 . _ - and does not begin with a point", c.ID, watermark.MaxChainID)
		}
		if ids[c.ID] {
			return fmt.Errorf("it holds the chain %s twice", c.ID)
		}
		ids[c.ID] = true
		if other, ok := states[c.StateFile]; ok {
			return fmt.Errorf("the chains %s and %s share the state %s, so that neither's is known; import the keys one by one, each with a height H well above everything that its chain has reached, by `privyseal init --chain-id ID --node ADDR --import-key FILE --after-height H`", other, c.ID, c.StateFile)
		}
		states[c.StateFile] = c.ID
		if len(c.Nodes) == 0 {
			return fmt.Errorf("the chain %s has no node", c.ID)
		}
	}
	return nil
}

// readStates fills in the marks.
func (in *Installation) readStates(ctx context.Context, settle time.Duration) error {
	states, err := settled(ctx, in.Chains, settle)
	if err != nil {
		return err
	}
	for i := range in.Chains {
		c := &in.Chains[i]
		if err := c.readMark(states[i]); err != nil {
			return err
		}
		if !c.Mark.IsZero() && c.Mark.SignBytes == nil { // of the zero mark the gate has more to say
			c.warn("the state %s does not hold what was signed last, so nothing is signed again at %v", c.StateFile, c.Mark)
		}
	}
	return nil
}

// readMark takes the highest mark of all states; StateFile becomes the one that has
// it.
func (c *Chain) readMark(states []snapshot) error {
	for i, s := range states {
		m, err := c.parseState(c, s.data)
		if err != nil {
			return c.stateError(s.path, err)
		}
		if i == 0 || c.Mark.Less(m) {
			if i > 0 {
				c.StateFile, c.moreStates[i-1] = s.path, c.StateFile
			}
			c.Written = s.info.ModTime()
		}
		c.Mark = higher(c.Mark, m)
		if m.IsZero() && strings.HasSuffix(s.path, shareState) {
			c.Unsigned = s.path
		}
	}
	return nil
}

// stateError says what is wrong with one of the states. Where the key is in parts, no
// file holds it that could be imported by hand.
func (c *Chain) stateError(path string, err error) error {
	e := &StateError{ChainID: c.ID, Path: path, KeyFile: c.KeyFile, KMS: c.KMS != nil, Err: err}
	if len(c.moreKeys) > 0 {
		e.KeyFile = ""
	}
	return e
}

func (in *Installation) warn(format string, args ...any) {
	in.Warnings = append(in.Warnings, shell.Line(fmt.Sprintf(format, args...)))
}

func (c *Chain) warn(format string, args ...any) {
	c.Warnings = append(c.Warnings, shell.Line(fmt.Sprintf(format, args...)))
}

// switchOff returns the closing list. Its order matters: two signers with one
// key must never run at once, and the old key is not destroyed before the new
// signer has shown that it has it.
func (in *Installation) switchOff() []string {
	steps := append(slices.Clone(in.before), "Start privyseal, then the nodes, and wait until `privyseal status` shows new signatures.")
	var keys, identities, states []string
	for _, c := range in.Chains {
		if c.KMS != nil {
			steps = append(steps,
				"Replace the KMS key's policy by one of `privyseal nitro key-policy`: without the old image, and without kms:Encrypt and kms:Decrypt for anybody else.",
				fmt.Sprintf("Delete the old ciphertext of the key, here and in every backup; it opens without its chain being named: `rm %s`", shell.File(c.KeyFile)))
		} else {
			for _, f := range c.KeyFiles() {
				keys = appendOnce(keys, f)
			}
		}
		identities = appendOnce(identities, c.IdentityFile)
		for _, f := range c.stateFiles() {
			states = appendOnce(states, f)
		}
	}
	for _, f := range keys {
		steps = append(steps, fmt.Sprintf("Destroy the validator key in plain text, here and in every backup and snapshot: `shred -u %s`", shell.File(f)))
	}
	for _, f := range identities {
		steps = append(steps, fmt.Sprintf("Destroy the old copy of the identity key: `shred -u %s`", shell.File(f)))
	}
	for _, f := range states {
		steps = append(steps, fmt.Sprintf("Delete the old state; from now on it is behind, and a signer that starts with it can sign twice: `rm %s`", shell.File(f)))
	}
	return steps
}

// stopFor returns the first step of the closing list, for signers that are
// programs of their own.
func stopFor(signer string) string {
	return fmt.Sprintf("Stop %s on every host that has it, and keep it from starting again (systemctl disable): it and privyseal must never run at the same time.", signer)
}

func appendOnce(list []string, s string) []string {
	if s == "" || slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// connection is what other signers configure for each node.
type connection struct {
	addr      string
	listens   string // see Node
	identity  string // path, or ""
	timeout   time.Duration
	maxHeight int64 // 0 is no bound
}

// connect adds a node. Identity, timeout and highest height are settings of
// the chain here, so that the strictest of several counts.
func (c *Chain) connect(n connection) error {
	a, err := session.ParseAddr(n.addr)
	if err != nil {
		return fmt.Errorf("the chain %s has a node that cannot be dialled: %w", c.ID, err)
	}
	node := Node{Name: fmt.Sprintf("node%d", len(c.Nodes)+1), Addr: a.String(), Listens: n.listens}
	if slices.ContainsFunc(c.Nodes, func(other Node) bool { return other.Addr == node.Addr }) {
		return fmt.Errorf("the chain %s has the node %s twice", c.ID, node.Addr)
	}
	if len(c.Nodes) > 0 && n.maxHeight != c.MaxHeight {
		c.warn("its nodes differ in their highest height; the lowest counts for all")
	}
	c.MaxHeight = lower(c.MaxHeight, n.maxHeight)
	c.Nodes = append(c.Nodes, node)
	if a.Network == "unix" {
		return nil // these have neither an identity nor, elsewhere, a timeout
	}
	if a.Network == "tcp" && a.Peer != "" {
		c.warn("the node id in %s: a stock node makes a new key for this port at each start, and will then be refused; keep the id only if your node does not", node.Addr)
	}
	c.Timeout = max(c.Timeout, n.timeout)
	return c.identify(n.identity)
}

// public returns the public key, as far as it is known.
func (c *Chain) public() pubkey.Key {
	if c.Key != nil {
		return c.Key.PublicKey()
	}
	return c.expected
}

// lower returns the lower of two bounds, where 0 is none.
func lower(a, b int64) int64 {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// identify reads the identity key at path.
func (c *Chain) identify(path string) error {
	switch {
	case path == "" || path == c.IdentityFile:
		return nil
	case c.Identity != nil:
		c.warn("its nodes know the signer by several identity keys; only %s is taken over, not %s", c.IdentityFile, path)
		return nil
	}
	k, err := readKey(path, pubkey.Ed25519)
	if err != nil {
		return fmt.Errorf("the identity key of chain %s: %w", c.ID, err)
	}
	if k.PublicKey().Equal(c.Key.PublicKey()) {
		c.warn("the identity key %s is the validator key itself, which must sign no handshakes; privyseal makes another", path)
		return nil
	}
	c.Identity, c.IdentityFile = k, path
	return nil
}

// readKey reads the key file of another signer.
func readKey(path string, as pubkey.Type) (*soft.Key, error) {
	k, err := soft.ReadForeign(path, as)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; if the config names it by a path relative to some other folder, write the whole path there", err)
	}
	return k, err
}

// resolve returns the path p of a config file in dir.
func resolve(dir, p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(dir, p)
}
