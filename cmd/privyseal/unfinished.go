package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"privyseal/internal/filestore"
	"privyseal/internal/key/soft"
	"privyseal/internal/pubkey"
	"privyseal/internal/strictjson"
	"privyseal/internal/watermark"
	"privyseal/internal/witness"
)

// unfinishedName is the file in which an installation notes what it is about to make,
// while it makes it. Where it is found, and nobody has it locked, an installation was
// cut off: what it lists and the config does not have was never used.
const unfinishedName = ".unfinished"

// unfinishedChain is what is made for one chain: paths in the home folder.
type unfinishedChain struct {
	Name      string          `json:"name"`
	ChainID   string          `json:"chain_id"`
	Key       string          `json:"key"`
	Identity  string          `json:"identity,omitempty"` // only if it is made
	State     string          `json:"state"`
	PublicKey json.RawMessage `json:"public_key"`
	Height    int64           `json:"height"` // of the mark that the state begins with
	Round     int32           `json:"round"`
	Step      string          `json:"step"`
}

// unfinished is the note, locked.
type unfinished struct {
	path string
	file *os.File
}

// begin removes what an installation that was cut off has left, and notes what this
// one makes. The note is durable before the first file is.
func (in *installer) begin(chains []*newChain) (*unfinished, error) {
	u := &unfinished{path: filepath.Join(in.home, unfinishedName)}
	if err := u.lock(); err != nil {
		return nil, err
	}
	list := make([]unfinishedChain, len(chains))
	var err error
	for i, ch := range chains {
		m := ch.saved.Mark
		list[i] = unfinishedChain{Name: ch.Name, ChainID: ch.ID, Key: ch.Key, State: ch.State, Height: m.Height, Round: m.Round, Step: m.Step.String()}
		list[i].PublicKey, err = keyJSON(ch.key.PublicKey())
		if path := in.identityPath(); err == nil && ch.needsIdentity() && !exists(in.abs(path)) {
			list[i].Identity = path
		}
	}
	if err == nil {
		err = u.recover(in)
	}
	if err == nil {
		err = u.write(list)
	}
	if err != nil {
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
		f, err := os.OpenFile(u.path, os.O_RDWR|os.O_CREATE, 0o600)
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
		if err1 == nil && err2 == nil && os.SameFile(held, there) {
			u.file = f
			return nil
		}
		f.Close()
	}
}

// recover removes what the note lists and the config does not have.
func (u *unfinished) recover(in *installer) error {
	data, err := io.ReadAll(io.LimitReader(u.file, 1<<20))
	if err != nil || len(data) == 0 {
		return err
	}
	var list []unfinishedChain
	if err := strictjson.Decode(data, &list); err != nil {
		return nil // it was cut off itself, and so came before every file
	}
	for _, ch := range list {
		if in.config != nil && len(in.config.Find(ch.Name)) > 0 {
			continue // it was finished but for the note
		}
		if err := ch.remove(in); err != nil {
			return err
		}
	}
	return nil
}

// remove removes the files of one chain that are as they were made, or torn. Any other
// file at their place is somebody's, and stays.
func (ch *unfinishedChain) remove(in *installer) error {
	public, err := pubkey.ParseJSON(ch.PublicKey)
	if err != nil {
		return nil
	}
	if made(in.abs(ch.Key), public) {
		os.Remove(in.abs(ch.Key))
	}
	if ch.Identity != "" && made(in.abs(ch.Identity), pubkey.Key{}) {
		os.Remove(in.abs(ch.Identity))
	}
	path := in.abs(ch.State)
	info, err := filestore.Inspect(stateFile(path, watermark.ID{ChainID: ch.ChainID, Key: public.ID()}))
	step, stepErr := parseStep(ch.Step)
	at := watermark.Mark{Height: ch.Height, Round: ch.Round, Step: step}
	m := info.Saved.Mark
	switch {
	case errors.Is(err, filestore.ErrMissing):
	case err != nil || stepErr != nil || info.Exported || m.Less(at) || at.Less(m):
		return nil // not as it was made
	default:
		os.Remove(path)
	}
	os.Remove(path + filestore.CompanionSuffix)
	os.Remove(witness.FlagPath(path))
	if err := syncFolder(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// made reports whether a key file is of the public key, or torn. Zero is no key: then
// only a torn file counts, since a whole one is as good as another.
func made(path string, public pubkey.Key) bool {
	if key, err := openFile(path); err == nil {
		defer key.Wipe()
		return !public.IsZero() && key.PublicKey().Equal(public)
	}
	data, err := os.ReadFile(path)
	return err == nil && soft.Torn(data)
}

// write notes what is made.
func (u *unfinished) write(list []unfinishedChain) error {
	data, err := json.Marshal(list)
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
	return err
}

// end removes the note: all of it is in the config, or was removed again.
func (u *unfinished) end() error {
	err := os.Remove(u.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, u.file.Close())
}
