package home

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/durable"
	"privyseal/internal/key/soft/keyfile"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/pubkey/keytext"
	"privyseal/internal/session"
	"privyseal/internal/watermark"
	"privyseal/internal/witness"
)

// Installer adds chains to a home folder, for init and migrate.
type Installer struct {
	House  *provider.House
	Dir    string
	Path   string         // of the config
	Config *config.Config // nil: there is none yet
	Undo   Undo
	tables map[string]map[string]config.Section // that come with the chains
	kept   []string                             // what was moved aside, see home.NoteName
	pins   []string                             // what there is to say of databases that are pinned
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
				"look at it with %s; for a second key of the chain, choose another name with --name", in.House.Command("check"))
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

// Noted has make make what it writes into a note: all of it or nothing. What a crash in
// between leaves, the next installation takes back.
func (in *Installer) Noted(make func(*Note) error) error {
	var note *Note
	err := in.Undo.Folder(in.Dir)
	if err == nil {
		note, err = BeginNote(Place{Dir: in.Dir, Config: in.Config, Kinds: in.House.Kinds, Stores: in.House.Stores, Tables: in.allTables(), IsKey: keyfile.IsMade})
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

// NoteName is the file in which an installation notes what it is about to make, while
// it makes it. Where it is found, and nobody has it locked, an installation was cut
// off, and the next one takes back what it lists.
//
// A key is precious from the moment in which a config may name it: from then on our
// commands print its public half, which may be in a genesis or a staking transaction a
// minute later, and of a key that an enclave has made the wrapped file is the only copy
// there is. Before that, nobody can know it: what an enclave has made or taken in is
// reported after the last step only. So the note says durably that this moment has
// come, just before the config is written ([Note.Named]): a key of an earlier one is
// removed, a key of a later one that the config does not name is moved aside, and
// whatever has signed, or is not as it was made, stays where it is.
const NoteName = ".unfinished"

// Note is the note, locked.
type Note struct {
	Place
	// Kept are the keys of an earlier installation that were moved aside.
	Kept  []string
	file  *os.File
	size  int64 // of the list
	named bool
}

// BeginNote locks the note, and takes back what an installation that was cut off has
// left. Another installation of this home that runs is an error.
func BeginNote(at Place) (*Note, error) {
	n := &Note{Place: at}
	if err := n.lock(); err != nil {
		return nil, err
	}
	left, err := io.ReadAll(io.LimitReader(n.file, maxNote))
	if err == nil && len(left) > 0 {
		n.Kept, err = takeUnfinished(at, left)
	}
	if err != nil {
		n.file.Close()
		return nil, err
	}
	return n, nil
}

func (n *Note) path() string { return filepath.Join(n.Dir, NoteName) }

func (n *Note) lock() (err error) {
	n.file, err = durable.Lock(n.path())
	switch {
	case errors.Is(err, durable.ErrLocked):
		return fmt.Errorf("another command is creating a chain in this home (%s is locked)", n.path())
	case errors.Is(err, durable.ErrIrregular):
		return cli.Actf("%s is not a regular file, so privyseal did not make it; move it away", n.path())
	}
	return err
}

// Begin notes the mark that the state begins with.
func (m *Making) Begin(at watermark.Mark) {
	m.Height, m.Round, m.Step, m.SignBytes = at.Height, at.Round, at.Step.String(), at.SignBytes
}

// Write notes what is made. It is durable before the first file is.
func (n *Note) Write(list ...Making) error {
	data, err := json.Marshal(list)
	data = append(data, '\n')
	if err == nil {
		err = n.file.Truncate(0)
	}
	if err == nil {
		_, err = n.file.WriteAt(data, 0)
	}
	if err == nil {
		err = n.file.Sync()
	}
	if err == nil {
		err = durable.SyncFolder(n.Dir)
	}
	n.size = int64(len(data))
	return err
}

// Named notes that from now on a config may name what is in the list. A line cut short
// is none.
func (n *Note) Named() error {
	if _, err := n.file.WriteAt([]byte(namedLine), n.size); err != nil {
		return err
	}
	n.named = true
	return n.file.Sync()
}

// MayBeNamed reports, after a failure, whether the config at path may be another one
// than it was: the error may have come after it was written.
func (n *Note) MayBeNamed(path string) bool {
	if !n.named {
		return false
	}
	c, err := n.Kinds.Load(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false
	case err != nil || n.Config == nil:
		return true
	}
	return len(c.Chains) != len(n.Config.Chains)
}

// Leave lets go of the note, for the next installation to find.
func (n *Note) Leave() error { return n.file.Close() }

// End removes the note, durably: all of it is in the config and is about to be
// reported, or was removed again.
func (n *Note) End() error {
	err := os.Remove(n.path())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, durable.SyncFolder(n.Dir), n.file.Close())
}

// AddTables adds tables to others.
func AddTables(to, more map[string]map[string]config.Section) {
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
		AddTables(all, in.Config.Tables)
	}
	AddTables(all, in.tables)
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

// CheckPort reports why an IP:port cannot be listened on, nil if it can. It binds
// without listening: nobody can connect meanwhile, and it is in nobody's way.
func CheckPort(addr string) error {
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		return err
	}
	family := syscall.AF_INET6
	var to syscall.Sockaddr = &syscall.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	if a.Addr().Is4() {
		family, to = syscall.AF_INET, &syscall.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	// As every listener has it: a connection that ended is in nobody's way.
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return err
	}
	return syscall.Bind(fd, to)
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
	if err := in.prepare(ch, state); err != nil {
		return err
	}
	free := !slices.ContainsFunc(state.Files, exists)
	err = state.Create(context.Background(), saved)
	if err != nil && free {
		// What this host keeps of a shared state is made before it. Where the database has
		// refused the state itself, that is all that there is.
		_, looked := state.Inspect(context.Background())
		free = errors.Is(looked, provider.ErrMissing)
	}
	if err == nil || free {
		for _, file := range state.Files {
			in.Undo.file(file)
		}
	}
	return err
}

// prepare has a database accept the state of a chain, before it begins there.
func (in *Installer) prepare(ch config.Chain, state provider.Kept) error {
	if state.Prepare == nil {
		return nil
	}
	pin, err := state.Prepare(context.Background())
	if pin != "" {
		table := in.House.Stores.Table(ch.Store)
		_, comes := in.tables[table][ch.StoreTable]
		in.pins = append(in.pins, PinNote(table, ch, pin, comes))
	}
	return err
}

// exists reports whether there is anything at a path.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// joinState has this host share the state of a chain, which is there. A floor that is made
// stays, whatever fails afterwards: a host that has seen a state does not forget it.
func (in *Installer) joinState(ch config.Chain, public pubkey.Key) error {
	if err := in.Undo.Folder(filepath.Dir(in.Abs(ch.State))); err != nil {
		return err
	}
	state, err := in.House.Stores.StateIn(in.allTables(), in.Abs, ch, watermark.ID{ChainID: ch.ID, Key: public.ID()})
	if err != nil {
		return err
	}
	return JoinState(context.Background(), state)
}

// NeedsIdentity reports whether a node has to know our identity.
func NeedsIdentity(nodes []config.Node) bool {
	for _, n := range nodes {
		if addr, err := session.ParseAddr(n.Addr); err == nil && addr.Network != "unix" {
			return true
		}
	}
	return false
}

// Abs returns where a path of the config is.
func (in *Installer) Abs(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(in.Dir, path)
}

// Report prints the public key of a chain, and what its nodes need. identity
// is zero if there is none; own is what the nodes listen on already, by position.
func Report(w io.Writer, ch config.Chain, public, identity pubkey.Key, own []string, form keytext.Form) error {
	key, err := form.Text(public)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "chain %s\n  public key  %s\n", ch.Name, key)
	if form.Format != "address" {
		fmt.Fprintf(w, "  address     %X\n", public.Address())
	}
	if !identity.IsZero() {
		fmt.Fprintf(w, "  our node id %s\n  our peer id %s\n", identity.NodeID(), keytext.PeerID(identity))
	}
	for i, n := range ch.Nodes {
		if err := reportNode(w, n, own[min(i, len(own)):], identity); err != nil {
			return err
		}
	}
	return nil
}

// reportNode prints the line for a node's config.toml. own begins with what the node
// listens on already, "" if that is not known; it is empty for a node that does not
// listen yet.
func reportNode(w io.Writer, n config.Node, own []string, identity pubkey.Key) error {
	addr, err := session.ParseAddr(n.Addr)
	if err != nil {
		return err
	}
	line := listenAddr(addr, identity)
	switch {
	case len(own) > 0 && own[0] == "":
		_, err = fmt.Fprintf(w, "node %s is already configured to wait for its signer: its priv_validator_laddr stays as it is\n", n.Name)
		return err
	case len(own) > 0:
		line = own[0]
	}
	fmt.Fprintf(w, "in config.toml of node %s:\n  priv_validator_laddr = %q\n", n.Name, line)
	if exposed(line) {
		fmt.Fprintf(w, "  # whoever reaches this port first is the node's signer: let a firewall admit only this\n  # host, or use unix:// or noise://\n")
	}
	return nil
}

// listenAddr returns what a node has to listen on to be dialled at addr.
func listenAddr(addr session.Addr, identity pubkey.Key) string {
	if addr.Network == "unix" {
		return addr.String()
	}
	host, port, err := net.SplitHostPort(addr.Address)
	if err != nil {
		return addr.String() // cannot be: ParseAddr has split it
	}
	// A name means whatever it resolves to; a node listens on addresses.
	if ip, known := loopbackName(host); known {
		host = ip
	} else if _, err := netip.ParseAddr(host); err != nil {
		host = "0.0.0.0"
	}
	listen := session.Addr{Network: addr.Network, Address: net.JoinHostPort(host, port)}
	if addr.Network == "noise" {
		listen.Peer = keytext.PeerID(identity)
	}
	return listen.String()
}

// loopbackName returns the loopback address for a host name that means one on every
// system: RFC 6761, section 6.3, and Debian's names for ::1.
func loopbackName(host string) (ip string, known bool) {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	switch {
	case host == "localhost" || host == "localhost.localdomain" || strings.HasSuffix(host, ".localhost"):
		return "127.0.0.1", true
	case slices.Contains([]string{"ip6-localhost", "ip6-loopback", "localhost6", "localhost6.localdomain6"}, host):
		return "::1", true
	}
	return "", false
}

// exposed reports whether others than this host's users can be the signer of a node
// with that priv_validator_laddr: over tcp nobody authenticates anybody.
func exposed(laddr string) bool {
	scheme, rest, found := strings.Cut(laddr, "://")
	if !found {
		scheme, rest = "tcp", laddr
	}
	host, _, err := net.SplitHostPort(rest)
	if scheme != "tcp" || err != nil {
		return false
	}
	_, loopback := loopbackName(host)
	ip, err := netip.ParseAddr(host)
	return !loopback && (err != nil || !ip.Unmap().IsLoopback())
}

// wrote lists the files that were made.
func (in *Installer) wrote(w io.Writer) {
	fmt.Fprintln(w, "wrote:")
	for _, path := range append(slices.Clone(in.Undo.paths), in.Path) {
		if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
			fmt.Fprintf(w, "  %s\n", path)
		}
	}
	for _, pin := range in.pins {
		fmt.Fprintln(w, pin)
	}
	for _, path := range in.kept {
		fmt.Fprintf(w, "kept %s: an interrupted command created it, and nothing uses it\n", path)
	}
}

// Next says what to type after an installation.
func (in *Installer) Next(w io.Writer) {
	in.wrote(w)
	if in.Config != nil {
		fmt.Fprintln(w, "a running signer picks up the chain when it is reloaded, for example with `systemctl reload privyseal`; a chain in an enclave needs a restart")
	}
	fmt.Fprintf(w, "next: %s, then %s\n", in.House.Command("check"), in.House.Command("start"))
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
