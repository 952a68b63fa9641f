package home

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/key/soft"
	"privyseal/internal/key/soft/keyfile"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/pubkey/keytext"
	"privyseal/internal/watermark"
)

// Chain is a chain that is about to be installed.
type Chain struct {
	config.Chain
	// SoftKey is its key file. Where a provider has the key elsewhere it is nil, public is the
	// public key, files are what the provider keeps in the home folder instead, and tables
	// those of the config that the chain needs and that are new.
	SoftKey *soft.Key
	Public  pubkey.Key
	Files   []File
	Tables  map[string]map[string]config.Section
	// StoreTables are what Tables are, for the store.
	StoreTables map[string]map[string]config.Section
	// Make makes or imports the key where the provider has it, and fills in Public and
	// Files: the last thing before all that is here is made, when nothing refuses it any
	// more. nil: there is nothing to do.
	Make func() error
	// Makes are the paths of what Make writes beside Files, for who shows what would be done.
	Makes []string

	Saved watermark.Saved // the state to begin with
	// Foreign says that the state comes from elsewhere, through the gate.
	Foreign bool
	// Join says that the state is there, and is shared.
	Join    bool
	Listens []string // what its nodes listen on already, see migrate.Node

	// SoftIdentity is a key to take over, nil for the home folder's own, which is
	// made if it is missing. Neither counts where all nodes are unix sockets.
	SoftIdentity *soft.Key
}

// PublicKey returns the public key of the chain.
func (ch *Chain) PublicKey() pubkey.Key {
	if ch.SoftKey == nil {
		return ch.Public
	}
	return ch.SoftKey.PublicKey()
}

// Wipe takes the secrets out of memory.
func (ch *Chain) Wipe() {
	for _, key := range []*soft.Key{ch.SoftKey, ch.SoftIdentity} {
		if key != nil {
			key.Wipe()
		}
	}
}

// NewTables returns the tables of the config that come with chains.
func NewTables(chains []*Chain) map[string]map[string]config.Section {
	tables := map[string]map[string]config.Section{}
	for _, ch := range chains {
		AddTables(tables, ch.Tables)
		AddTables(tables, ch.StoreTables)
	}
	return tables
}

// Install makes everything or nothing: the config comes last, and what was made
// before a failure is removed. What a crash in between leaves, the next run removes.
func (in *Installer) Install(chains ...*Chain) error {
	in.tables = NewTables(chains)
	return in.Noted(func(note *Note) error { return in.makeAll(note, chains) })
}

func (in *Installer) makeAll(note *Note, chains []*Chain) error {
	list := make([]Making, len(chains))
	for i, ch := range chains {
		if ch.Make != nil {
			if err := ch.Make(); err != nil {
				return err
			}
		}
		var err error
		if list[i], err = ch.Unfinished(in); err != nil {
			return err
		}
	}
	if err := note.Write(list...); err != nil {
		return err
	}
	configs := make([]config.Chain, len(chains))
	for i, ch := range chains {
		if err := in.CheckKey(ch.ID, ch.PublicKey()); err != nil {
			return err
		}
		for _, step := range in.steps() {
			if err := step(ch); err != nil {
				return err
			}
		}
		configs[i] = ch.Chain
	}
	if err := note.Named(); err != nil {
		return err
	}
	return in.AddToConfig(in.tables, configs...)
}

// steps are what is made for a chain, in this order, before the config names it.
func (in *Installer) steps() []func(*Chain) error {
	return []func(*Chain) error{in.AddKey, in.AddState, in.AddIdentity}
}

// Unfinished returns what is noted of a chain while it is made.
func (ch *Chain) Unfinished(in *Installer) (u Making, err error) {
	u = Making{Name: ch.Name, ChainID: ch.ID, State: ch.State, Store: ch.Store, StoreTable: ch.StoreTable, Files: ch.Files}
	if ch.SoftKey != nil {
		u.Key = ch.Key
	}
	u.Begin(ch.Saved.Mark)
	if ch.Join {
		u.State = "" // nothing of it is taken back: what this host has seen of it stays true
	}
	u.PublicKey = json.RawMessage(ch.PublicKey().JSON())
	if !ch.needsIdentity() {
		return u, nil
	}
	u.Identity = in.identityPath()
	there, err := in.openIdentity(u.Identity)
	if there != nil {
		defer there.Wipe()
	}
	switch {
	case err != nil || ch.SoftIdentity == nil && there != nil:
		u.Identity = ""
	case ch.SoftIdentity == nil: // it is made then
	case there != nil && there.PublicKey().Equal(ch.SoftIdentity.PublicKey()):
		u.Identity = ""
	default:
		if there != nil {
			u.Identity = ch.ownIdentity()
		}
		u.IdentityKey = json.RawMessage(ch.SoftIdentity.PublicKey().JSON())
	}
	return u, err
}

func (in *Installer) AddKey(ch *Chain) error {
	if ch.SoftKey == nil {
		return in.AddFiles(ch.Files...)
	}
	return in.saveKey(ch.Key, ch.SoftKey)
}

// saveKey writes a key to a path of the config.
func (in *Installer) saveKey(path string, key *soft.Key) error {
	path = in.Abs(path)
	if err := in.Undo.Folder(filepath.Dir(path)); err != nil {
		return err
	}
	err := keyfile.Create(path, key)
	in.Undo.written(path, err)
	return err
}

func (in *Installer) AddState(ch *Chain) error {
	if ch.Join {
		return in.joinState(ch.Chain, ch.PublicKey())
	}
	return in.MakeState(ch.Chain, ch.PublicKey(), ch.Saved, ch.Foreign)
}

// AddIdentity sees to it that a tcp or noise node finds the identity it needs.
func (in *Installer) AddIdentity(ch *Chain) (err error) {
	if !ch.needsIdentity() {
		ch.SoftIdentity = nil
		return nil
	}
	ch.Identity = in.identityPath()
	there, err := in.openIdentity(ch.Identity)
	switch {
	case err != nil:
		return err
	case there != nil && (ch.SoftIdentity == nil || there.PublicKey().Equal(ch.SoftIdentity.PublicKey())):
		ch.SoftIdentity = there
		return nil
	case there != nil: // chains that were moved here may be known by other names
		ch.Identity = ch.ownIdentity()
	case ch.SoftIdentity == nil:
		if ch.SoftIdentity, err = soft.Generate(pubkey.Ed25519); err != nil {
			return err
		}
	}
	return in.saveKey(ch.Identity, ch.SoftIdentity)
}

func (ch *Chain) needsIdentity() bool { return NeedsIdentity(ch.Nodes) }

// ownIdentity is where the identity of a chain lies that does not share the home's.
func (ch *Chain) ownIdentity() string { return "keys/" + ch.Name + ".identity" }

// identityPath returns the identity that the chains of this home share.
func (in *Installer) identityPath() string {
	if in.Config != nil {
		for _, ch := range in.Config.Chains {
			if ch.Identity != "" && in.isLocal(ch) {
				return ch.Identity
			}
		}
	}
	return "identity.key"
}

// isLocal reports whether the keys of a chain's nodes are key files.
func (in *Installer) isLocal(ch config.Chain) bool {
	_, ok := in.House.Providers.Local(ch)
	return ok
}

// openIdentity returns nil if there is no such file.
func (in *Installer) openIdentity(path string) (*soft.Key, error) {
	path = in.Abs(path)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	key, err := provider.OpenFile(path)
	if err != nil {
		return nil, err
	}
	if key.Type() != pubkey.Ed25519 {
		return nil, cure.Add(cli.Actf("the identity key %s is of type %s, and nodes need ed25519", path, key.Type()), "move it aside with %s", cure.Command("mv", path, path+".old"))
	}
	return key, nil
}

// Report prints what the operator of the node needs.
func (ch *Chain) Report(w io.Writer, form keytext.Form) error {
	var identity pubkey.Key
	if ch.SoftIdentity != nil {
		identity = ch.SoftIdentity.PublicKey()
	}
	return Report(w, ch.Chain, ch.PublicKey(), identity, ch.Listens, form)
}
