package home

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/durable"
	"privyseal/internal/key/soft"
	"privyseal/internal/key/soft/keyfile"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/session"
	"privyseal/internal/watermark"
	"privyseal/internal/witness"
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
	// Make makes or imports the key where the provider has it, and fills in Public and
	// Files: the last thing before all that is here is made, when nothing refuses it any
	// more. nil: there is nothing to do.
	Make func() error

	Saved watermark.Saved // the state to begin with
	// Foreign says that the state comes from elsewhere, through the gate.
	Foreign bool
	Listens []string // what its nodes listen on already, see migrate.Node

	// SoftIdentity is a key to take over, nil for the home folder's own, which is
	// made if it is missing. Neither counts where all nodes are unix sockets.
	SoftIdentity *soft.Key
}

// Installer adds chains to a home folder, for init and migrate.
type Installer struct {
	House  *provider.House
	Dir    string
	Path   string         // of the config
	Config *config.Config // nil: there is none yet
	Undo   Undo
	tables map[string]map[string]config.Section // that come with the chains
	kept   []string                             // what was moved aside, see home.NoteName
}

// NewInstaller looks at what is there.
func NewInstaller(a *provider.House) (*Installer, error) {
	in := &Installer{House: a}
	var err error
	if in.Dir, err = a.Home(); err != nil {
		return nil, err
	}
	if err := a.CheckOwner(); err != nil {
		return nil, err
	}
	in.Path = filepath.Join(in.Dir, config.FileName)
	if _, err := os.Lstat(in.Path); errors.Is(err, fs.ErrNotExist) {
		return in, nil
	}
	if in.Config, err = in.House.Kinds.Load(in.Path); err != nil {
		return nil, cli.BadConfig(err)
	}
	return in, nil
}

// CheckFree refuses a chain whose name is in the config already, or is the id of
// another chain there.
func (in *Installer) CheckFree(ch config.Chain) error {
	if in.Config == nil {
		return nil
	}
	for i, other := range in.Config.Chains {
		if other.Name == ch.Name || other.ID == ch.Name && other.ID != ch.ID || other.Name == ch.ID && other.ID != ch.ID {
			return cure.Add(cli.Usagef("chain %q is in %s already, line %d", other.Name, in.Path, in.Config.Line("chain", i, "id")),
				"look at it with %s; a second key of the chain takes a name of its own, --name", in.House.Command("check"))
		}
	}
	return nil
}

// CheckKey refuses a key that another chain of the same id has: it would have two
// states. A key that cannot be read is left to `start` and `check`, which refuse it.
func (in *Installer) CheckKey(id string, key pubkey.Key) error {
	if in.Config == nil {
		return nil
	}
	for _, other := range in.Config.Chains {
		if other.ID != id {
			continue
		}
		if known, err := in.House.Providers.Public(in.Config, other); err == nil && known.Equal(key) {
			return cli.Usagef("chain %q in %s has this key already, and one key has one state", other.Name, in.Path)
		}
	}
	return nil
}

// Install makes everything or nothing: the config comes last, and what was made
// before a failure is removed. What a crash in between leaves, the next run removes.
func (in *Installer) Install(chains ...*Chain) error {
	return in.Noted(func(note *Note) error { return in.makeAll(note, chains) })
}

// Noted has make make what it writes into a note: all of it or nothing. What a crash in
// between leaves, the next installation takes back.
func (in *Installer) Noted(make func(*Note) error) error {
	var note *Note
	err := in.Undo.Folder(in.Dir)
	if err == nil {
		note, err = BeginNote(Place{Dir: in.Dir, Config: in.Config, Kinds: in.House.Kinds, Stores: in.House.Stores, IsKey: keyfile.IsMade})
	}
	if err != nil {
		in.Undo.all()
		return err
	}
	in.kept = note.Kept
	if err := make(note); err != nil {
		if note.MayBeNamed(in.Path) {
			return errors.Join(err, note.Leave())
		}
		in.Undo.all() // before the note of it goes
		err = errors.Join(err, note.End())
		in.Undo.all() // the home, empty now
		return err
	}
	return note.End()
}

func (in *Installer) makeAll(note *Note, chains []*Chain) error {
	list := make([]Making, len(chains))
	in.tables = map[string]map[string]config.Section{}
	for i, ch := range chains {
		addTables(in.tables, ch.Tables)
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

// addTables adds tables to others.
func addTables(to, more map[string]map[string]config.Section) {
	for table, sections := range more {
		if to[table] == nil {
			to[table] = map[string]config.Section{}
		}
		maps.Copy(to[table], sections)
	}
}

// allTables returns the tables of the config, and those that come with what is installed.
func (in *Installer) allTables() map[string]map[string]config.Section {
	all := map[string]map[string]config.Section{}
	if in.Config != nil {
		addTables(all, in.Config.Tables)
	}
	addTables(all, in.tables)
	return all
}

// AddToConfig adds chains, and the tables of their providers that are new.
func (in *Installer) AddToConfig(tables map[string]map[string]config.Section, chains ...config.Chain) error {
	if in.Config != nil {
		return in.House.Kinds.Append(in.Path, tables, chains...)
	}
	c := in.NewConfig(chains...)
	c.Tables = tables
	return config.WriteNew(in.Path, c)
}

// NewConfig returns a new config with metrics on a port that is free: the usual one,
// or one of the next, as on a host with two signers.
func (in *Installer) NewConfig(chains ...config.Chain) *config.Config {
	c := in.House.Kinds.New(chains...)
	usual, err := netip.ParseAddrPort(c.Listen)
	if err != nil {
		return c
	}
	const tries = 20
	for port := usual.Port(); port < usual.Port()+tries; port++ {
		addr := netip.AddrPortFrom(usual.Addr(), port).String()
		if err := CheckPort(addr); !errors.Is(err, syscall.EADDRINUSE) {
			c.Listen = addr
			break
		}
	}
	return c
}

// PublicKey returns the public key of the chain.
func (ch *Chain) PublicKey() pubkey.Key {
	if ch.SoftKey == nil {
		return ch.Public
	}
	return ch.SoftKey.PublicKey()
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
	if u.PublicKey, err = cli.KeyJSON(ch.PublicKey()); err != nil || !ch.needsIdentity() {
		return u, err
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
		u.IdentityKey, err = cli.KeyJSON(ch.SoftIdentity.PublicKey())
	}
	return u, err
}

// ownIdentity is where the identity of a chain lies that does not share the home's.
func (ch *Chain) ownIdentity() string { return "keys/" + ch.Name + ".identity" }

func (in *Installer) AddKey(ch *Chain) error {
	if ch.SoftKey == nil {
		return in.AddFiles(ch.Files...)
	}
	return in.saveKey(ch.Key, ch.SoftKey)
}

// AddFiles makes files at paths of the config, for their owner alone.
func (in *Installer) AddFiles(files ...File) error {
	for _, f := range files {
		path := in.Abs(f.Path)
		if err := in.Undo.Folder(filepath.Dir(path)); err != nil {
			return err
		}
		err := cli.WriteNew(path, f.Data, 0o600)
		in.Undo.written(path, err)
		if err != nil {
			return err
		}
	}
	return nil
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
	return in.MakeState(ch.Chain, ch.PublicKey(), ch.Saved, ch.Foreign)
}

// MakeState makes the state of a chain, which comes from elsewhere or not.
func (in *Installer) MakeState(ch config.Chain, public pubkey.Key, saved watermark.Saved, foreign bool) error {
	path := in.Abs(ch.State)
	if err := in.Undo.Folder(filepath.Dir(path)); err != nil {
		return err
	}
	if foreign {
		if err := Quarantine(path, "the key was brought from elsewhere"); err != nil {
			return err
		}
		in.Undo.file(witness.FlagPath(path))
	}
	id := watermark.ID{ChainID: ch.ID, Key: public.ID()}
	state, err := in.House.Stores.StateIn(in.allTables(), in.Abs, ch, id)
	if err != nil {
		return err
	}
	if err := state.Create(context.Background(), saved); err != nil {
		return err
	}
	for _, file := range state.Files {
		in.Undo.file(file)
	}
	return nil
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

// NeedsIdentity reports whether a node has to know who we are.
func NeedsIdentity(nodes []config.Node) bool {
	for _, n := range nodes {
		if addr, err := session.ParseAddr(n.Addr); err == nil && addr.Network != "unix" {
			return true
		}
	}
	return false
}

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

// Abs returns where a path of the config is.
func (in *Installer) Abs(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(in.Dir, path)
}

// Report prints what the operator of the node needs.
func (ch *Chain) Report(w io.Writer, form cli.KeyFormat) error {
	var identity pubkey.Key
	if ch.SoftIdentity != nil {
		identity = ch.SoftIdentity.PublicKey()
	}
	return Report(w, ch.Chain, ch.PublicKey(), identity, ch.Listens, form)
}

// Report prints the public key of a chain, and what its nodes need. identity
// is zero if there is none; own is what the nodes listen on already, by position.
func Report(w io.Writer, ch config.Chain, public, identity pubkey.Key, own []string, form cli.KeyFormat) error {
	key, err := cli.FormatKey(public, form)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "chain %s\n  public key  %s\n", ch.Name, key)
	if form.Format != "address" {
		fmt.Fprintf(w, "  address     %X\n", public.Address())
	}
	if !identity.IsZero() {
		fmt.Fprintf(w, "  our node id %s\n  our peer id %s\n", identity.NodeID(), cli.PeerID(identity))
	}
	for i, n := range ch.Nodes {
		if err := reportNode(w, n, own[min(i, len(own)):], identity); err != nil {
			return err
		}
	}
	return nil
}

// wrote lists the files that were made.
func (in *Installer) wrote(w io.Writer) {
	fmt.Fprintln(w, "wrote:")
	for _, path := range append(slices.Clone(in.Undo.paths), in.Path) {
		if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
			fmt.Fprintf(w, "  %s\n", path)
		}
	}
	for _, path := range in.kept {
		fmt.Fprintf(w, "kept %s: an interrupted command made it, and nothing uses it any more\n", path)
	}
}

// Next says what to type after an installation.
func (in *Installer) Next(w io.Writer) {
	in.wrote(w)
	if in.Config != nil {
		fmt.Fprintln(w, "a running signer picks up the chain when it is reloaded, as by `systemctl reload privyseal`; a chain in an enclave needs a restart")
	}
	fmt.Fprintf(w, "next: %s, then %s\n", in.House.Command("check"), in.House.Command("start"))
}

// Wipe takes the secrets out of memory.
func (ch *Chain) Wipe() {
	for _, key := range []*soft.Key{ch.SoftKey, ch.SoftIdentity} {
		if key != nil {
			key.Wipe()
		}
	}
}

// Undo is what a command has made so far, to be taken back if it fails.
type Undo struct{ paths []string }

func (u *Undo) file(path string) { u.paths = append(u.paths, path) }

// written notes a file that may be there, unless it was there before.
func (u *Undo) written(path string, err error) {
	if !errors.Is(err, fs.ErrExist) {
		u.file(path)
	}
}

// Folder makes a folder and what is missing above it, as [durable.Folders] does.
func (u *Undo) Folder(path string) error {
	made, err := durable.Folders(path)
	u.paths = append(u.paths, made...)
	return err
}

// all removes what was made, the last first; a folder only while it is empty.
func (u *Undo) all() {
	for i := len(u.paths) - 1; i >= 0; i-- {
		os.Remove(u.paths[i])
	}
}
