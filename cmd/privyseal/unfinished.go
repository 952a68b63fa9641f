package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"privyseal/internal/config"
	"privyseal/internal/filestore"
	"privyseal/internal/key/soft"
	"privyseal/internal/pubkey"
	"privyseal/internal/strictjson"
	"privyseal/internal/watermark"
	"privyseal/internal/witness"
)

// unfinishedName is the file in which an installation notes what it is about to make,
// while it makes it. Where it is found, and nobody has it locked, an installation was
// cut off, and the next one takes back what it lists.
//
// A key is precious from the moment in which a config may name it: from then on our
// commands print its public half, which may be in a genesis or a staking transaction a
// minute later, and of a key that an enclave has made the wrapped file is the only copy
// there is. Before that, nobody can know it: what an enclave has made or taken in is
// reported after the last step only. So the note says durably that this moment has
// come, just before the config is written ([unfinished.named]): a key of an earlier one
// is removed, a key of a later one that the config does not name is moved aside, and
// whatever has signed, or is not as it was made, stays where it is.
const unfinishedName = ".unfinished"

// namedLine stands behind the list once a config may name what is in it.
const namedLine = "named\n"

// unfinishedChain is what is made for one chain: paths in the home folder. The list of
// them is one line of JSON.
type unfinishedChain struct {
	Name    string `json:"name"`
	ChainID string `json:"chain_id"`

	// Key, a key file of ours, and Files are what there may be of keys. Identity is made
	// only if there is none: IdentityKey is its public key, where that is known before.
	Key         string          `json:"key"`
	PublicKey   json.RawMessage `json:"public_key"`
	Identity    string          `json:"identity,omitempty"`
	IdentityKey json.RawMessage `json:"identity_key,omitempty"`
	// Files hold keys that are wrapped, and the documents that came with them.
	Files []unfinishedFile `json:"files,omitempty"`

	State     string `json:"state"`
	Height    int64  `json:"height"` // of the mark that the state begins with
	Round     int32  `json:"round"`
	Step      string `json:"step"`
	SignBytes []byte `json:"sign_bytes,omitempty"`
}

// begin notes the mark that the state begins with.
func (ch *unfinishedChain) begin(m watermark.Mark) {
	ch.Height, ch.Round, ch.Step, ch.SignBytes = m.Height, m.Round, m.Step.String(), m.SignBytes
}

// unfinishedFile is a file with all that it is made with. It is no secret.
type unfinishedFile struct {
	Path string `json:"path"`
	Data []byte `json:"data"`
}

// maxNote bounds a note in bytes: some chains of a migration, or wrapped keys with
// their documents.
const maxNote = 4 << 20

// unfinished is the note, locked.
type unfinished struct {
	path    string
	file    *os.File
	size    int64 // of the list
	isNamed bool
}

// noted has make make what it has written into the note: all of it or nothing. What a
// crash in between leaves, the next installation removes.
func (in *installer) noted(make func(*unfinished) error) error {
	var note *unfinished
	err := in.undo.folder(in.home)
	if err == nil {
		note, err = in.begin()
	}
	if err != nil {
		in.undo.all()
		return err
	}
	if err := make(note); err != nil {
		if note.isNamed && in.mayBeWritten() {
			return errors.Join(err, note.file.Close()) // and the next one finds the note
		}
		in.undo.all() // before the note of it goes
		err = errors.Join(err, note.end())
		in.undo.all() // the home, empty now
		return err
	}
	return note.end()
}

// mayBeWritten reports whether the config is another one than it was: an error when it
// was written may have come after that.
func (in *installer) mayBeWritten() bool {
	c, err := config.Load(in.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false
	case err != nil || in.config == nil:
		return true
	}
	return len(c.Chains) != len(in.config.Chains)
}

// begin locks the note, and takes back what an installation that was cut off has left.
func (in *installer) begin() (*unfinished, error) {
	u := &unfinished{path: filepath.Join(in.home, unfinishedName)}
	if err := u.lock(); err != nil {
		return nil, err
	}
	if err := u.recover(in); err != nil {
		u.file.Close()
		return nil, err
	}
	return u, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// lock opens the note and locks it; another installation of this home that runs is an
// error.
func (u *unfinished) lock() error {
	for {
		f, err := os.OpenFile(u.path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
		if err != nil {
			return err
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			f.Close()
			return fmt.Errorf("another command makes a chain in this home (%s is locked): %w", u.path, err)
		}
		// Who held it before us may have removed it.
		held, err1 := f.Stat()
		there, err2 := os.Stat(u.path)
		if err1 == nil && !held.Mode().IsRegular() {
			f.Close()
			return actf("%s is not a regular file, and none of ours; move it away", u.path)
		}
		if err1 == nil && err2 == nil && os.SameFile(held, there) {
			u.file = f
			return nil
		}
		f.Close()
	}
}

// recover takes back what the note lists and the config does not have.
func (u *unfinished) recover(in *installer) error {
	data, err := io.ReadAll(io.LimitReader(u.file, maxNote))
	if err != nil || len(data) == 0 {
		return err
	}
	line, rest, _ := bytes.Cut(data, []byte("\n"))
	var list []unfinishedChain
	if err := strictjson.Decode(line, &list); err != nil {
		return nil // it was cut off itself, and so came before every file
	}
	for _, ch := range list {
		if in.knows(&ch) {
			continue // it was finished but for the note
		}
		if err := ch.takeBack(in, string(rest) == namedLine); err != nil {
			return err
		}
	}
	return nil
}

// knows reports whether the config has the chain, or names a file of it.
func (in *installer) knows(ch *unfinishedChain) bool {
	if in.config == nil {
		return false
	}
	if ch.Name != "" && len(in.config.Find(ch.Name)) > 0 {
		return true
	}
	paths := []string{ch.Key, ch.Identity, ch.State}
	for _, f := range ch.Files {
		paths = append(paths, f.Path)
	}
	for _, other := range in.config.Chains {
		for _, named := range []string{other.Key, other.Identity, other.State} {
			for _, path := range paths {
				if path != "" && named != "" && samePath(in.abs(path), in.config.Path(named)) {
					return true
				}
			}
		}
	}
	return false
}

// samePath reports whether two paths lead to one file, or would.
func samePath(a, b string) bool {
	x, err1 := filepath.Abs(a)
	y, err2 := filepath.Abs(b)
	return err1 == nil && err2 == nil && x == y || sameFile(a, b)
}

// takeBack removes the files of one chain that are as they were made, or torn; where a
// config may have named them, keys are moved aside. Any other file at their place is
// somebody's, and stays; so does all of it where the state is not as it was made.
func (ch *unfinishedChain) takeBack(in *installer, named bool) error {
	public, err := pubkey.ParseJSON(ch.PublicKey)
	if err != nil {
		return nil
	}
	path := in.abs(ch.State)
	there, untouched := ch.untouched(path, public)
	if !untouched {
		return nil
	}
	for _, key := range ch.keys(in, public) {
		if err := in.takeBack(key, named); err != nil {
			return err
		}
	}
	if ch.State == "" {
		return nil
	}
	if there {
		os.Remove(path)
	}
	os.Remove(path + filestore.CompanionSuffix)
	os.Remove(witness.FlagPath(path))
	if err := syncFolder(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// keys returns those files with keys, and what came with them, that are as they were
// made, or torn.
func (ch *unfinishedChain) keys(in *installer, public pubkey.Key) (paths []string) {
	if ch.Key != "" && made(in.abs(ch.Key), public) {
		paths = append(paths, in.abs(ch.Key))
	}
	identity, err := pubkey.ParseJSON(ch.IdentityKey)
	if err != nil {
		identity = pubkey.Key{} // then a whole one is as good as another
	}
	if ch.Identity != "" && made(in.abs(ch.Identity), identity) {
		paths = append(paths, in.abs(ch.Identity))
	}
	for _, f := range ch.Files {
		// The beginning of it, with zeros where a power cut has lost the rest.
		data, err := readRegular(in.abs(f.Path))
		if err == nil && (bytes.Equal(data, f.Data) || bytes.HasPrefix(f.Data, bytes.TrimRight(data, "\x00"))) {
			paths = append(paths, in.abs(f.Path))
		}
	}
	return paths
}

// untouched reports whether a state is there, and whether nothing speaks against it
// that nothing was signed since it was made: it is as it was made, or was not made yet.
func (ch *unfinishedChain) untouched(path string, public pubkey.Key) (there, untouched bool) {
	if ch.State == "" {
		return false, true // an identity alone
	}
	info, err := filestore.Inspect(stateFile(path, watermark.ID{ChainID: ch.ChainID, Key: public.ID()}))
	if errors.Is(err, filestore.ErrMissing) {
		return false, true
	}
	step, stepErr := parseStep(ch.Step)
	flag, flagErr := witness.ReadFlag(path)
	if err := errors.Join(err, stepErr, flagErr, info.Problem); err != nil || info.Exported || flag.Stopped {
		return true, false
	}
	at := watermark.Mark{Height: ch.Height, Round: ch.Round, Step: step}
	m := info.Saved.Mark
	same := !m.Less(at) && !at.Less(m) && (ch.SignBytes == nil || bytes.Equal(m.SignBytes, ch.SignBytes))
	return true, same
}

// takeBack removes a file, or moves it aside where a config may have named it.
func (in *installer) takeBack(path string, named bool) error {
	if !named {
		os.Remove(path)
		return syncFolder(filepath.Dir(path))
	}
	aside := path + ".unused"
	for i := 2; exists(aside); i++ {
		aside = fmt.Sprintf("%s.unused%d", path, i)
	}
	if err := os.Rename(path, aside); err != nil {
		return fmt.Errorf("cannot keep what a command that was cut off has made: %w", err)
	}
	in.kept = append(in.kept, aside)
	return syncFolder(filepath.Dir(path))
}

// made reports whether a key file is of the public key, or torn. Zero is no key: then
// only a torn file counts, since a whole one is as good as another.
func made(path string, public pubkey.Key) bool {
	if key, err := openFile(path); err == nil {
		defer key.Wipe()
		return !public.IsZero() && key.PublicKey().Equal(public)
	}
	data, err := readRegular(path)
	defer clear(data)
	return err == nil && soft.Torn(data)
}

// readRegular reads a regular file; what else can have a path may be without an end, or
// wait for a writer.
func readRegular(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return readBounded(path, maxNote)
}

// write notes what is made. It is durable before the first file is.
func (u *unfinished) write(list ...unfinishedChain) error {
	data, err := json.Marshal(list)
	data = append(data, '\n')
	if err == nil {
		err = u.file.Truncate(0)
	}
	if err == nil {
		_, err = u.file.WriteAt(data, 0)
	}
	if err == nil {
		err = u.file.Sync()
	}
	if err == nil {
		err = syncFolder(filepath.Dir(u.path))
	}
	u.size = int64(len(data))
	return err
}

// named notes that from now on a config may name what is in the list. A line cut short
// is none.
func (u *unfinished) named() error {
	if _, err := u.file.WriteAt([]byte(namedLine), u.size); err != nil {
		return err
	}
	u.isNamed = true
	return u.file.Sync()
}

// end removes the note, durably: all of it is in the config and is about to be
// reported, or was removed again.
func (u *unfinished) end() error {
	err := os.Remove(u.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, syncFolder(filepath.Dir(u.path)), u.file.Close())
}
