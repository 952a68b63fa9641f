package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/filestore"
	"privyseal/internal/home"
	"privyseal/internal/key/soft"
	"privyseal/internal/pubkey"
	"privyseal/internal/session"
	"privyseal/internal/watermark"
	"privyseal/internal/witness"
)

// newChain is a chain that is about to be installed.
type newChain struct {
	config.Chain
	key   *soft.Key
	saved watermark.Saved // the state to begin with
	// foreign says that the state comes from elsewhere, through the gate.
	foreign bool
	own     []string // what its nodes listen on already, see migrate.Node

	// identity is a key to take over, nil for the home folder's own, which is
	// made if it is missing. Neither counts where all nodes are unix sockets.
	identity *soft.Key
}

// installer adds chains to a home folder, for init and migrate.
type installer struct {
	app    *app
	home   string
	path   string         // of the config
	config *config.Config // nil: there is none yet
	undo   undoList
	kept   []string // what was moved aside, see home.NoteName
}

// newInstaller looks at what is there.
func newInstaller(a *app) (*installer, error) {
	in := &installer{app: a}
	var err error
	if in.home, err = a.Home(); err != nil {
		return nil, err
	}
	if err := a.CheckOwner(); err != nil {
		return nil, err
	}
	in.path = filepath.Join(in.home, config.FileName)
	if _, err := os.Lstat(in.path); errors.Is(err, fs.ErrNotExist) {
		return in, nil
	}
	if in.config, err = in.app.Kinds.Load(in.path); err != nil {
		return nil, asConfig(err)
	}
	return in, nil
}

// checkFree refuses a chain whose name is in the config already, or is the id of
// another chain there.
func (in *installer) checkFree(ch config.Chain) error {
	if in.config == nil {
		return nil
	}
	for i, other := range in.config.Chains {
		if other.Name == ch.Name || other.ID == ch.Name && other.ID != ch.ID || other.Name == ch.ID && other.ID != ch.ID {
			return cure.Add(usagef("chain %q is in %s already, line %d", other.Name, in.path, in.config.Line("chain", i, "id")),
				"look at it with %s; a second key of the chain takes a name of its own, --name", in.app.Command("check"))
		}
	}
	return nil
}

// checkKey refuses a key that another chain of the same id has: it would have two
// states. A key that cannot be read is left to `start` and `check`, which refuse it.
func (in *installer) checkKey(id string, key pubkey.Key) error {
	if in.config == nil {
		return nil
	}
	for _, other := range in.config.Chains {
		if other.ID != id {
			continue
		}
		if known, err := in.app.Providers.Public(in.config, other); err == nil && known.Equal(key) {
			return usagef("chain %q in %s has this key already, and one key has one state", other.Name, in.path)
		}
	}
	return nil
}

// install makes everything or nothing: the config comes last, and what was made
// before a failure is removed. What a crash in between leaves, the next run removes.
func (in *installer) install(chains ...*newChain) error {
	return in.noted(func(note *home.Note) error { return in.makeAll(note, chains) })
}

// noted has make make what it writes into a note: all of it or nothing. What a crash in
// between leaves, the next installation takes back.
func (in *installer) noted(make func(*home.Note) error) error {
	var note *home.Note
	err := in.undo.folder(in.home)
	if err == nil {
		note, err = home.BeginNote(home.Place{Dir: in.home, Config: in.config, Kinds: in.app.Kinds, IsKey: soft.IsMade})
	}
	if err != nil {
		in.undo.all()
		return err
	}
	in.kept = note.Kept
	if err := make(note); err != nil {
		if note.MayBeNamed(in.path) {
			return errors.Join(err, note.Leave())
		}
		in.undo.all() // before the note of it goes
		err = errors.Join(err, note.End())
		in.undo.all() // the home, empty now
		return err
	}
	return note.End()
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func (in *installer) makeAll(note *home.Note, chains []*newChain) error {
	list := make([]home.Making, len(chains))
	for i, ch := range chains {
		var err error
		if list[i], err = ch.unfinished(in); err != nil {
			return err
		}
	}
	if err := note.Write(list...); err != nil {
		return err
	}
	configs := make([]config.Chain, len(chains))
	for i, ch := range chains {
		if err := in.checkKey(ch.ID, ch.key.PublicKey()); err != nil {
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
	if in.config == nil {
		return config.WriteNew(in.path, in.newConfig(configs...))
	}
	return in.app.Kinds.AppendChains(in.path, configs...)
}

// steps are what is made for a chain, in this order, before the config names it.
func (in *installer) steps() []func(*newChain) error {
	return []func(*newChain) error{in.addKey, in.addState, in.addIdentity}
}

// unfinished returns what is noted of a chain while it is made.
func (ch *newChain) unfinished(in *installer) (u home.Making, err error) {
	u = home.Making{Name: ch.Name, ChainID: ch.ID, Key: ch.Key, State: ch.State}
	u.Begin(ch.saved.Mark)
	if u.PublicKey, err = keyJSON(ch.key.PublicKey()); err != nil || !ch.needsIdentity() {
		return u, err
	}
	u.Identity = in.identityPath()
	there, err := in.openIdentity(u.Identity)
	if there != nil {
		defer there.Wipe()
	}
	switch {
	case err != nil || ch.identity == nil && there != nil:
		u.Identity = ""
	case ch.identity == nil: // it is made then
	case there != nil && there.PublicKey().Equal(ch.identity.PublicKey()):
		u.Identity = ""
	default:
		if there != nil {
			u.Identity = ch.ownIdentity()
		}
		u.IdentityKey, err = keyJSON(ch.identity.PublicKey())
	}
	return u, err
}

// ownIdentity is where the identity of a chain lies that does not share the home's.
func (ch *newChain) ownIdentity() string { return "keys/" + ch.Name + ".identity" }

func (in *installer) addKey(ch *newChain) error { return in.saveKey(ch.Key, ch.key) }

// saveKey writes a key to a path of the config.
func (in *installer) saveKey(path string, key *soft.Key) error {
	path = in.abs(path)
	if err := in.undo.folder(filepath.Dir(path)); err != nil {
		return err
	}
	if err := soft.Create(path, key); err != nil {
		return err
	}
	in.undo.file(path)
	return nil
}

func (in *installer) addState(ch *newChain) error {
	path := in.abs(ch.State)
	if err := in.undo.folder(filepath.Dir(path)); err != nil {
		return err
	}
	if ch.foreign {
		if err := quarantine(path, "the key was brought from elsewhere"); err != nil {
			return err
		}
		in.undo.file(witness.FlagPath(path))
	}
	id := watermark.ID{ChainID: ch.ID, Key: ch.key.PublicKey().ID()}
	if err := filestore.Create(stateFile(path, id), ch.saved); err != nil {
		return err
	}
	in.undo.file(path)
	in.undo.file(path + filestore.CompanionSuffix)
	return nil
}

// addIdentity sees to it that a tcp or noise node finds the identity it needs.
func (in *installer) addIdentity(ch *newChain) (err error) {
	if !ch.needsIdentity() {
		ch.identity = nil
		return nil
	}
	ch.Identity = in.identityPath()
	there, err := in.openIdentity(ch.Identity)
	switch {
	case err != nil:
		return err
	case there != nil && (ch.identity == nil || there.PublicKey().Equal(ch.identity.PublicKey())):
		ch.identity = there
		return nil
	case there != nil: // chains that were moved here may be known by other names
		ch.Identity = ch.ownIdentity()
	case ch.identity == nil:
		if ch.identity, err = soft.Generate(pubkey.Ed25519); err != nil {
			return err
		}
	}
	return in.saveKey(ch.Identity, ch.identity)
}

func (ch *newChain) needsIdentity() bool { return needsIdentity(ch.Nodes) }

// needsIdentity reports whether a node has to know who we are.
func needsIdentity(nodes []config.Node) bool {
	for _, n := range nodes {
		if addr, err := session.ParseAddr(n.Addr); err == nil && addr.Network != "unix" {
			return true
		}
	}
	return false
}

// identityPath returns the identity that the chains of this home share.
func (in *installer) identityPath() string {
	if in.config != nil {
		for _, ch := range in.config.Chains {
			if ch.Provider == "soft" && ch.Identity != "" {
				return ch.Identity
			}
		}
	}
	return "identity.key"
}

// openIdentity returns nil if there is no such file.
func (in *installer) openIdentity(path string) (*soft.Key, error) {
	path = in.abs(path)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	key, err := openFile(path)
	if err != nil {
		return nil, err
	}
	if key.Type() != pubkey.Ed25519 {
		return nil, cure.Add(actf("the identity key %s is of type %s, and nodes want ed25519", path, key.Type()), "move it aside with %s", cure.Command("mv", path, path+".old"))
	}
	return key, nil
}

// abs returns where a path of the config lies.
func (in *installer) abs(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(in.home, path)
}

// report prints what the operator of the node needs.
func (ch *newChain) report(w io.Writer, form formatFlags) error {
	var identity pubkey.Key
	if ch.identity != nil {
		identity = ch.identity.PublicKey()
	}
	return reportChain(w, ch.Chain, ch.key.PublicKey(), identity, ch.own, form)
}

// reportChain prints the public key of a chain, and what its nodes need. identity
// is zero if there is none; own is what the nodes listen on already, by position.
func reportChain(w io.Writer, ch config.Chain, public, identity pubkey.Key, own []string, form formatFlags) error {
	key, err := formatKey(public, form)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "chain %s\n  public key  %s\n", ch.Name, key)
	if form.Format != "address" {
		fmt.Fprintf(w, "  address     %X\n", public.Address())
	}
	if !identity.IsZero() {
		fmt.Fprintf(w, "  our node id %s\n  our peer id %s\n", identity.NodeID(), peerID(identity))
	}
	for i, n := range ch.Nodes {
		if err := reportNode(w, n, own[min(i, len(own)):], identity); err != nil {
			return err
		}
	}
	return nil
}

// wrote lists the files that were made.
func (in *installer) wrote(w io.Writer) {
	fmt.Fprintln(w, "wrote:")
	for _, path := range append(slices.Clone(in.undo.paths), in.path) {
		if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
			fmt.Fprintf(w, "  %s\n", path)
		}
	}
	for _, path := range in.kept {
		fmt.Fprintf(w, "kept %s: a command that was cut off has made it, and nothing names it any more\n", path)
	}
}

// next says what to type after an installation.
func (in *installer) next(w io.Writer) {
	in.wrote(w)
	if in.config != nil {
		fmt.Fprintln(w, "a signer that runs takes up the chain when it is reloaded, as by `systemctl reload privyseal`; one in an enclave when it is restarted")
	}
	fmt.Fprintf(w, "next: %s, then %s\n", in.app.Command("check"), in.app.Command("start"))
}

// wipe takes the secrets out of memory.
func (ch *newChain) wipe() {
	for _, key := range []*soft.Key{ch.key, ch.identity} {
		if key != nil {
			key.Wipe()
		}
	}
}

// undoList is what a command has made so far, to be taken back if it fails.
type undoList struct{ paths []string }

func (u *undoList) file(path string) { u.paths = append(u.paths, path) }

// folder makes a folder and what is missing above it, mode 0700, each durable
// before the next.
func (u *undoList) folder(path string) error {
	path = filepath.Clean(path) // of "new/" the parent is "new" otherwise
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	if parent := filepath.Dir(path); parent != path {
		if err := u.folder(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	u.file(path)
	return syncFolder(filepath.Dir(path))
}

// all removes what was made, the last first; a folder only while it is empty.
func (u *undoList) all() {
	for i := len(u.paths) - 1; i >= 0; i-- {
		os.Remove(u.paths[i])
	}
}
