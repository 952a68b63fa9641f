package home

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/durable"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/strictjson"
	"privyseal/internal/watermark"
	"privyseal/internal/witness"
)

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
	// Tables are those of the config, and those that come with what is made now: where an
	// installation that was cut off made its state, the command that is typed again says.
	Tables map[string]map[string]config.Section
	// IsKey reports whether a key file holds the key of a public key, or is torn. With the
	// zero key it is only asked whether it is torn. It is called for regular files.
	IsKey func(path string, key pubkey.Key) bool
}

// unfinished is an installation that was cut off.
type unfinished struct {
	Place
	kept []string // keys that were moved aside
}

// takeUnfinished takes back what a note lists and the config does not have. It returns the
// keys that were moved aside.
func takeUnfinished(at Place, note []byte) (kept []string, err error) {
	line, rest, _ := bytes.Cut(note, []byte("\n"))
	var list []Making
	if err := strictjson.Decode(line, &list); err != nil {
		return nil, nil // it was cut off itself, and so came before every file
	}
	u := &unfinished{Place: at}
	for _, m := range list {
		if u.knows(&m) {
			continue // it was finished but for the note
		}
		if err := u.takeBack(&m, string(rest) == namedLine); err != nil {
			return nil, err
		}
	}
	return u.kept, nil
}

// knows reports whether the config has the chain, or names a file of it.
func (u *unfinished) knows(m *Making) bool {
	if u.Config == nil {
		return false
	}
	if m.Name != "" && len(u.Config.Find(m.Name)) > 0 {
		return true
	}
	paths := append(m.keyPaths(), m.State)
	for _, other := range u.Config.Chains {
		for _, named := range []string{other.Key, other.Identity, other.State} {
			for _, path := range paths {
				if path != "" && named != "" && samePath(u.abs(path), u.Config.Path(named)) {
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
func (u *unfinished) abs(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(u.Dir, path)
}

// takeBack removes the files of one chain that are as they were made, or torn; where a
// config may have named them, keys are moved aside. Any other file at their place is
// somebody's, and stays; so does all of it where the state is not as it was made.
func (u *unfinished) takeBack(m *Making, named bool) error {
	public, err := pubkey.ParseJSON(m.PublicKey)
	if err != nil {
		return nil
	}
	state, untouched := u.untouched(m, public)
	if !untouched {
		return nil
	}
	for _, path := range m.keyPaths() {
		if err := durable.Sweep(u.abs(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, key := range u.keys(m, public) {
		if err := u.takeKey(key, named); err != nil {
			return err
		}
	}
	if m.State == "" {
		return nil
	}
	for _, path := range state.Files {
		os.Remove(path)
	}
	path := u.abs(m.State)
	os.Remove(witness.FlagPath(path))
	if err := durable.SyncFolder(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// keys returns those files with keys, and what came with them, that are as they were
// made, or torn.
func (u *unfinished) keys(m *Making, public pubkey.Key) (paths []string) {
	identity, err := pubkey.ParseJSON(m.IdentityKey)
	if err != nil {
		identity = pubkey.Key{} // then a whole one is as good as another
	}
	for _, k := range []struct {
		path string
		key  pubkey.Key
	}{{m.Key, public}, {m.Identity, identity}} {
		if k.path != "" && isRegular(u.abs(k.path)) && u.IsKey(u.abs(k.path), k.key) {
			paths = append(paths, u.abs(k.path))
		}
	}
	for _, f := range m.Files {
		path := u.abs(f.Path)
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
func (u *unfinished) untouched(m *Making, public pubkey.Key) (state provider.Kept, untouched bool) {
	if m.State == "" {
		return state, true // an identity alone
	}
	ch := config.Chain{ID: m.ChainID, Name: m.Name, Store: m.Store, StoreTable: m.StoreTable, State: m.State}
	state, err := u.Stores.StateIn(u.Tables, u.abs, ch, watermark.ID{ChainID: m.ChainID, Key: public.ID()})
	if err != nil {
		return state, false // nobody can look
	}
	info, err := state.Inspect(context.Background())
	if errors.Is(err, provider.ErrMissing) {
		return state, true
	}
	flag, flagErr := witness.ReadFlag(u.abs(m.State))
	if err := errors.Join(err, flagErr, info.Problem); err != nil || info.Exported || flag.Stopped {
		return state, false
	}
	at := info.Saved.Mark
	same := at.Height == m.Height && at.Round == m.Round && at.Step.String() == m.Step
	return state, same && (m.SignBytes == nil || bytes.Equal(at.SignBytes, m.SignBytes))
}

// takeKey removes a file, or moves it aside where a config may have named it.
func (u *unfinished) takeKey(path string, named bool) error {
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
	u.kept = append(u.kept, aside)
	return durable.SyncFolder(filepath.Dir(path))
}
