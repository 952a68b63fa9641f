package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"privyseal/internal/regular"
	"privyseal/internal/shell"
)

// StateError says that the state of a chain is missing, empty, torn, or of
// another chain or key. Without it nobody knows what the key has signed.
type StateError struct {
	ChainID string
	Path    string
	KeyFile string
	KMS     bool // KeyFile holds a ciphertext of AWS KMS
	Device  *DeviceKey
	Err     error
}

func (e *StateError) Error() string {
	text := fmt.Sprintf("the state of chain %s, %s: %v; look for a newer copy", e.ChainID, e.Path, e.Err)
	take := ""
	switch {
	case e.Device != nil:
		take = e.Device.takeWords()
	case e.KeyFile == "":
		return text
	default:
		take = importFlag(e.KMS) + " " + shell.File(e.KeyFile)
	}
	return fmt.Sprintf("%s; if there is none, import the key with a height H well above everything that the chain has reached, so that nothing at or below H is ever signed again:\n`privyseal init --chain-id %s --node ADDR %s --after-height H`",
		text, shell.Word(e.ChainID), take)
}

// importFlag is the flag of privyseal init that takes a key file, or a
// ciphertext of KMS.
func importFlag(kms bool) string {
	if kms {
		return "--provider nitro --eif IMAGE --public-key KEY --import-kms"
	}
	return "--import-key"
}

func (e *StateError) Unwrap() error { return e.Err }

// LiveError says that a signer still uses the installation.
type LiveError struct {
	Path   string // the file that shows it
	Detail string
}

func (e *LiveError) Error() string {
	return fmt.Sprintf("a signer still runs: %s %s\nstop it, keep it from starting again, and repeat this command", e.Path, e.Detail)
}

// stateError says what is wrong with one of the states. Where the key is in parts, no
// file holds it that could be imported by hand.
func (c *Chain) stateError(path string, err error) error {
	e := &StateError{ChainID: c.ID, Path: path, KeyFile: c.KeyFile, KMS: c.KMS != nil, Device: c.Device, Err: err}
	if len(c.moreKeys) > 0 {
		e.KeyFile = ""
	}
	return e
}

// MaxStateSize bounds in bytes what is read as a state; an ML-DSA-65 signature
// makes one of 5,000.
const MaxStateSize = 64 << 10

// pollEvery is how often a state that may still change is looked at.
const pollEvery = 100 * time.Millisecond

// snapshot is a state file at one moment.
type snapshot struct {
	path string
	data []byte
	info fs.FileInfo
}

// settled returns the state files of each chain, once none of them has changed for
// the duration settle.
func settled(ctx context.Context, chains []Chain, settle time.Duration) ([][]snapshot, error) {
	now := time.Now()
	until := now
	first := make([][]snapshot, len(chains))
	for i := range chains {
		for _, path := range chains[i].stateFiles() {
			s, err := readState(path)
			if err != nil {
				return nil, chains[i].stateError(path, err)
			}
			first[i] = append(first[i], s)
			if quiet := s.info.ModTime().Add(settle); quiet.After(until) {
				until = quiet
			}
		}
	}
	// A clock that was set back must not make us wait forever.
	if latest := now.Add(settle); until.After(latest) {
		until = latest
	}
	for {
		if err := unchanged(first); err != nil {
			return nil, err
		}
		rest := time.Until(until)
		if rest <= 0 {
			break
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("cannot wait for the state to settle: %w", ctx.Err())
		case <-time.After(min(rest, pollEvery)):
		}
	}
	return first, nil
}

// unchanged reads all states again.
func unchanged(first [][]snapshot) error {
	for _, old := range slices.Concat(first...) {
		s, err := readState(old.path)
		// Other signers replace the file, so it is another one after a write.
		if err != nil || !bytes.Equal(s.data, old.data) || !os.SameFile(s.info, old.info) || !s.info.ModTime().Equal(old.info.ModTime()) {
			return &LiveError{Path: old.path, Detail: "changes"}
		}
	}
	return nil
}

// missingError is an [fs.ErrNotExist] that says so once.
type missingError struct{}

func (missingError) Error() string {
	return "it is missing (relative paths start at the folder of the config)"
}
func (missingError) Is(target error) bool { return target == fs.ErrNotExist }

func readState(path string) (snapshot, error) {
	data, info, err := regular.Read(path, MaxStateSize)
	if errors.Is(err, fs.ErrNotExist) {
		return snapshot{}, missingError{}
	}
	if err != nil {
		return snapshot{}, err
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return snapshot{}, errEmpty
	}
	return snapshot{path, data, info}, nil
}
