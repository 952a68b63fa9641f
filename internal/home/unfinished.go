package home

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/durable"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/strictjson"
	"privyseal/internal/watermark"
	"privyseal/internal/witness"
)

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

// namedLine follows the list once a config may name what is in it.
const namedLine = "named\n"

// Making is what is made for one chain: paths in the home folder. The list of them is
// one line of JSON.
type Making struct {
	Name    string `json:"name"`
	ChainID string `json:"chain_id"`

	// Key, a key file of ours, and Files are what there may be of keys. Identity is made
	// only if there is none: IdentityKey is its public key, where that is known before.
	Key         string          `json:"key"`
	PublicKey   json.RawMessage `json:"public_key"`
	Identity    string          `json:"identity,omitempty"`
	IdentityKey json.RawMessage `json:"identity_key,omitempty"`
	// Files hold keys that are wrapped, and the documents that came with them.
	Files []File `json:"files,omitempty"`

	State      string `json:"state"`
	Store      string `json:"store,omitempty"`
	StoreTable string `json:"store_table,omitempty"`
	Height     int64  `json:"height"` // of the mark that the state begins with
	Round      int32  `json:"round"`
	Step       string `json:"step"`
	SignBytes  []byte `json:"sign_bytes,omitempty"`
}

// Begin notes the mark that the state begins with.
func (m *Making) Begin(at watermark.Mark) {
	m.Height, m.Round, m.Step, m.SignBytes = at.Height, at.Round, at.Step.String(), at.SignBytes
}

// File is a file with all that it is made with. It is no secret.
type File struct {
	Path string `json:"path"`
	Data []byte `json:"data"`
}

// maxNote bounds a note in bytes: some chains of a migration, or wrapped keys with
// their documents.
const maxNote = 4 << 20

// Place is where an installation is made.
type Place struct {
	Dir    string         // the home folder, which is there
	Config *config.Config // nil: there is none yet
	Kinds  config.Kinds   // what it may have
	Stores provider.Stores
	// IsKey reports whether a key file holds the key of a public key, or is torn. With the
	// zero key it is only asked whether it is torn. It is called for regular files.
	IsKey func(path string, key pubkey.Key) bool
}

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
	if err := n.recover(); err != nil {
		n.file.Close()
		return nil, err
	}
	return n, nil
}

func (n *Note) path() string { return filepath.Join(n.Dir, NoteName) }

func (n *Note) lock() error {
	for {
		f, err := os.OpenFile(n.path(), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
		if err != nil {
			return err
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			f.Close()
			return fmt.Errorf("another command makes a chain in this home (%s is locked): %w", n.path(), err)
		}
		// Who held it before us may have removed it.
		held, err1 := f.Stat()
		there, err2 := os.Stat(n.path())
		if err1 == nil && !held.Mode().IsRegular() {
			f.Close()
			return cli.Actf("%s is not a regular file, so privyseal did not make it; move it away", n.path())
		}
		if err1 == nil && err2 == nil && os.SameFile(held, there) {
			n.file = f
			return nil
		}
		f.Close()
	}
}

// recover takes back what the note lists and the config does not have.
func (n *Note) recover() error {
	data, err := io.ReadAll(io.LimitReader(n.file, maxNote))
	if err != nil || len(data) == 0 {
		return err
	}
	line, rest, _ := bytes.Cut(data, []byte("\n"))
	var list []Making
	if err := strictjson.Decode(line, &list); err != nil {
		return nil // it was cut off itself, and so came before every file
	}
	for _, m := range list {
		if n.knows(&m) {
			continue // it was finished but for the note
		}
		if err := n.takeBack(&m, string(rest) == namedLine); err != nil {
			return err
		}
	}
	return nil
}

// knows reports whether the config has the chain, or names a file of it.
func (n *Note) knows(m *Making) bool {
	if n.Config == nil {
		return false
	}
	if m.Name != "" && len(n.Config.Find(m.Name)) > 0 {
		return true
	}
	paths := append(m.keyPaths(), m.State)
	for _, other := range n.Config.Chains {
		for _, named := range []string{other.Key, other.Identity, other.State} {
			for _, path := range paths {
				if path != "" && named != "" && samePath(n.abs(path), n.Config.Path(named)) {
					return true
				}
			}
		}
	}
	return false
}

// keyPaths returns where there may be keys, or files that came with them.
func (m *Making) keyPaths() (paths []string) {
	for _, path := range []string{m.Key, m.Identity} {
		if path != "" {
			paths = append(paths, path)
		}
	}
	for _, f := range m.Files {
		paths = append(paths, f.Path)
	}
	return paths
}

// samePath reports whether two paths lead to one file, or would.
func samePath(a, b string) bool {
	x, err1 := filepath.Abs(a)
	y, err2 := filepath.Abs(b)
	if err1 == nil && err2 == nil && x == y {
		return true
	}
	one, err1 := os.Stat(a)
	other, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(one, other)
}

// abs returns where a path of the home is.
func (n *Note) abs(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(n.Dir, path)
}

// takeBack removes the files of one chain that are as they were made, or torn; where a
// config may have named them, keys are moved aside. Any other file at their place is
// somebody's, and stays; so does all of it where the state is not as it was made.
func (n *Note) takeBack(m *Making, named bool) error {
	public, err := pubkey.ParseJSON(m.PublicKey)
	if err != nil {
		return nil
	}
	state, untouched := n.untouched(m, public)
	if !untouched {
		return nil
	}
	for _, path := range m.keyPaths() {
		if err := durable.Sweep(n.abs(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, key := range n.keys(m, public) {
		if err := n.takeKey(key, named); err != nil {
			return err
		}
	}
	if m.State == "" {
		return nil
	}
	for _, path := range state.Files {
		os.Remove(path)
	}
	path := n.abs(m.State)
	os.Remove(witness.FlagPath(path))
	if err := durable.SyncFolder(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// keys returns those files with keys, and what came with them, that are as they were
// made, or torn.
func (n *Note) keys(m *Making, public pubkey.Key) (paths []string) {
	identity, err := pubkey.ParseJSON(m.IdentityKey)
	if err != nil {
		identity = pubkey.Key{} // then a whole one is as good as another
	}
	for _, k := range []struct {
		path string
		key  pubkey.Key
	}{{m.Key, public}, {m.Identity, identity}} {
		if k.path != "" && isRegular(n.abs(k.path)) && n.IsKey(n.abs(k.path), k.key) {
			paths = append(paths, n.abs(k.path))
		}
	}
	for _, f := range m.Files {
		path := n.abs(f.Path)
		if !isRegular(path) {
			continue
		}
		// The beginning of it, with zeros where a power cut has lost the rest.
		data, err := cli.ReadBounded(path, maxNote)
		if err == nil && (bytes.Equal(data, f.Data) || bytes.HasPrefix(f.Data, bytes.TrimRight(data, "\x00"))) {
			paths = append(paths, path)
		}
	}
	return paths
}

// isRegular reports whether there is a regular file; what else can have a path may be
// without an end, or wait for a writer.
func isRegular(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular()
}

// untouched returns the state of what was made, and whether nothing speaks against it
// that nothing was signed since: it is as it was made, or was not made yet.
func (n *Note) untouched(m *Making, public pubkey.Key) (state provider.Kept, untouched bool) {
	if m.State == "" {
		return state, true // an identity alone
	}
	var tables map[string]map[string]config.Section
	if n.Config != nil {
		tables = n.Config.Tables
	}
	ch := config.Chain{ID: m.ChainID, Name: m.Name, Store: m.Store, StoreTable: m.StoreTable, State: m.State}
	state, err := n.Stores.StateIn(tables, n.abs, ch, watermark.ID{ChainID: m.ChainID, Key: public.ID()})
	if err != nil {
		return state, false // nobody can look
	}
	info, err := state.Inspect(context.Background())
	if errors.Is(err, provider.ErrMissing) {
		return state, true
	}
	flag, flagErr := witness.ReadFlag(n.abs(m.State))
	if err := errors.Join(err, flagErr, info.Problem); err != nil || info.Exported || flag.Stopped {
		return state, false
	}
	at := info.Saved.Mark
	same := at.Height == m.Height && at.Round == m.Round && at.Step.String() == m.Step
	return state, same && (m.SignBytes == nil || bytes.Equal(at.SignBytes, m.SignBytes))
}

// takeKey removes a file, or moves it aside where a config may have named it.
func (n *Note) takeKey(path string, named bool) error {
	if !named {
		os.Remove(path)
		return durable.SyncFolder(filepath.Dir(path))
	}
	aside := path + ".unused"
	for i := 2; ; i++ {
		if _, err := os.Lstat(aside); err != nil {
			break
		}
		aside = fmt.Sprintf("%s.unused%d", path, i)
	}
	if err := os.Rename(path, aside); err != nil {
		return fmt.Errorf("cannot keep what an interrupted command made: %w", err)
	}
	n.Kept = append(n.Kept, aside)
	return durable.SyncFolder(filepath.Dir(path))
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
