package migrate

import (
	"fmt"
	"slices"
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

	// Device is the key where a device has it, and nobody can read it. Then Key is nil, and
	// KeyFile "".
	Device *DeviceKey

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

	MaxHeight int64         // highest height that is signed; 0: no bound
	Timeout   time.Duration // of reads and writes; 0 is not set

	Warnings []string

	parseState func(c *Chain, data []byte) (watermark.Mark, error)
	// moreKeys and moreStates are files beside KeyFile and StateFile, where several
	// make one.
	moreKeys, moreStates []string
}

// KeyFiles returns KeyFile, and the other files that hold a part of the key; none where a
// device has it.
func (c *Chain) KeyFiles() []string {
	if c.KeyFile == "" {
		return nil
	}
	return append([]string{c.KeyFile}, c.moreKeys...)
}

// Origin says where the key is.
func (c *Chain) Origin() string {
	if c.Device != nil {
		return c.Device.String()
	}
	return c.KeyFile
}

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

// Enclave is what an installation says of its enclave, as far as ours has a
// place for it. A setting that it does not have is 0.
type Enclave struct {
	// File is where the settings are from besides the installation's own config;
	// "" if there is none.
	File string

	CID       uint32 // context id, 4 or above
	MemoryMiB int    // 64 to 2^20
	CPUCount  int    // 1 to 256

	// Warnings say what could not be taken over, and what to look at.
	Warnings []string

	configCID uint32 // of tmkms.toml
	region    string
}

func (in *Installation) warn(format string, args ...any) {
	in.Warnings = append(in.Warnings, shell.Line(fmt.Sprintf(format, args...)))
}

func (c *Chain) warn(format string, args ...any) {
	c.Warnings = append(c.Warnings, shell.Line(fmt.Sprintf(format, args...)))
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
	maxHeight int64 // 0: no bound
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
		c.warn("its nodes have different max_height values; the lowest applies to all of them")
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
	if k.PublicKey().Equal(c.public()) {
		c.warn("the identity key %s is the validator key itself, which must sign no handshakes; privyseal makes another", path)
		return nil
	}
	c.Identity, c.IdentityFile = k, path
	return nil
}
