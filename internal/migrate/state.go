package migrate

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"strconv"
	"syscall"
	"time"

	"privyseal/internal/privval"
	"privyseal/internal/pubkey"
	"privyseal/internal/watermark"
)

// StateError says that the state of a chain is missing, empty, torn, or of
// another chain or key. Without it nobody knows what the key has signed.
type StateError struct {
	ChainID string
	Path    string
	KeyFile string
	KMS     bool // KeyFile holds a ciphertext of AWS KMS
	Err     error
}

func (e *StateError) Error() string {
	return fmt.Sprintf("the state of chain %s, %s: %v; look for a newer copy; if there is none, import the key with a height that the chain has long passed, and nothing at or below it is signed: privyseal init --chain-id %s %s %s --after-height H",
		e.ChainID, e.Path, e.Err, e.ChainID, importFlag(e.KMS), e.KeyFile)
}

// importFlag is the flag of privyseal init that takes a key file, or a
// ciphertext of KMS.
func importFlag(kms bool) string {
	if kms {
		return "--provider nitro --import-kms"
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
	return fmt.Sprintf("a signer still runs: %s %s; stop it, keep it from starting again, and repeat this command", e.Path, e.Detail)
}

// MaxStateSize bounds in bytes what is read as a state; an ML-DSA-65 signature
// makes one of 5,000.
const MaxStateSize = 64 << 10

// pollEvery is how often a state that may still change is looked at.
const pollEvery = 100 * time.Millisecond

// snapshot is a state file at one moment.
type snapshot struct {
	data []byte
	info fs.FileInfo
}

// settled returns the contents of the chains' state files, once none of them
// has changed for the duration settle.
func settled(ctx context.Context, chains []Chain, settle time.Duration) ([][]byte, error) {
	now := time.Now()
	until := now
	first := make([]snapshot, len(chains))
	for i, c := range chains {
		s, err := readState(c.StateFile)
		if err != nil {
			return nil, &StateError{ChainID: c.ID, Path: c.StateFile, KeyFile: c.KeyFile, KMS: c.KMS != nil, Err: err}
		}
		first[i] = s
		if quiet := s.info.ModTime().Add(settle); quiet.After(until) {
			until = quiet
		}
	}
	// A clock that was set back must not make us wait for ever.
	if latest := now.Add(settle); until.After(latest) {
		until = latest
	}
	for {
		if err := unchanged(chains, first); err != nil {
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
	states := make([][]byte, len(first))
	for i, s := range first {
		states[i] = s.data
	}
	return states, nil
}

// unchanged reads all states again.
func unchanged(chains []Chain, first []snapshot) error {
	for i, c := range chains {
		s, err := readState(c.StateFile)
		// Other signers replace the file, so it is another one after a write.
		if err != nil || !bytes.Equal(s.data, first[i].data) || !os.SameFile(s.info, first[i].info) || !s.info.ModTime().Equal(first[i].info.ModTime()) {
			return &LiveError{Path: c.StateFile, Detail: "changes"}
		}
	}
	return nil
}

func readState(path string) (snapshot, error) {
	data, info, err := readFile(path, MaxStateSize)
	if errors.Is(err, fs.ErrNotExist) {
		return snapshot{}, fmt.Errorf("it is missing (relative paths count from the folder of the config): %w", fs.ErrNotExist)
	}
	if err != nil {
		return snapshot{}, err
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return snapshot{}, errors.New("it is empty, as power cuts leave the states of some signers")
	}
	return snapshot{data, info}, nil
}

// readFile reads a regular file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, fs.FileInfo, error) {
	// O_NONBLOCK, or opening a named pipe would wait for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s is no regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, nil, err
	}
	if int64(len(data)) > limit {
		return nil, nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return data, info, nil
}

// decodeJSON decodes one JSON value without unknown fields.
func decodeJSON(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("it is torn, or no state of this signer: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("it is no state of this signer: something follows its end")
	}
	return nil
}

// filePVState is priv_validator_state.json of CometBFT (privval/file.go,
// FilePVLastSignState), the same in all versions, and what cosmos/kms writes.
type filePVState struct {
	Height    *string `json:"height"`
	Round     *int32  `json:"round"`
	Step      *uint8  `json:"step"`
	Signature []byte  `json:"signature"`
	SignBytes string  `json:"signbytes"` // hex
}

func parseFilePVState(c *Chain, data []byte) (watermark.Mark, error) {
	var s filePVState
	if err := decodeJSON(data, &s); err != nil {
		return watermark.Mark{}, err
	}
	if s.Height == nil || s.Round == nil || s.Step == nil {
		return watermark.Mark{}, errors.New("it has no height, round or step")
	}
	m, err := newMark(*s.Height, int64(*s.Round), int64(*s.Step))
	if err != nil {
		return watermark.Mark{}, err
	}
	switch hasBytes, hasSignature := s.SignBytes != "", len(s.Signature) > 0; {
	case !hasBytes && !hasSignature:
		return m, nil
	case hasBytes != hasSignature:
		return watermark.Mark{}, errors.New("it has sign bytes or a signature, but not both")
	}
	if m.SignBytes, err = hex.DecodeString(s.SignBytes); err != nil {
		return watermark.Mark{}, errors.New("its signbytes are no hex digits")
	}
	return m, checkSignBytes(c, m, s.Signature)
}

// checkSignBytes checks that what the state says was signed was signed at its
// height, round and step, for this chain, and with this key.
func checkSignBytes(c *Chain, m watermark.Mark, signature []byte) error {
	r, err := privval.ParseSignBytes(m.SignBytes)
	if err != nil {
		return err
	}
	steps := map[privval.Kind]watermark.Step{
		privval.KindProposal:  watermark.StepProposal,
		privval.KindPrevote:   watermark.StepPrevote,
		privval.KindPrecommit: watermark.StepPrecommit,
	}
	signed := watermark.Mark{Height: r.Height, Round: r.Round, Step: steps[r.Kind]}
	switch {
	case r.ChainID != c.ID:
		return fmt.Errorf("it is the state of another chain: what was signed last is of %q", r.ChainID)
	case signed.Less(m) || m.Less(signed):
		return fmt.Errorf("it contradicts itself: it stands at %v, and what was signed last is of %v", m, signed)
	case !c.public().Verify(m.SignBytes, signature):
		return fmt.Errorf("it is the state of another key: its signature is not one of %v", c.public())
	}
	return nil
}

// tmkmsState is the state of tmkms and tmkms-light (consensus::State of
// tendermint-rs). It says which block was signed last, and not what.
type tmkmsState struct {
	Height  *string         `json:"height"`
	Round   *string         `json:"round"`
	Step    *int8           `json:"step"`
	BlockID json.RawMessage `json:"block_id"`
}

func parseTMKMSState(_ *Chain, data []byte) (watermark.Mark, error) {
	var s tmkmsState
	if err := decodeJSON(data, &s); err != nil {
		return watermark.Mark{}, err
	}
	if s.Height == nil || s.Round == nil || s.Step == nil {
		return watermark.Mark{}, errors.New("it has no height, round or step")
	}
	round, err := strconv.ParseInt(*s.Round, 10, 32)
	if err != nil {
		return watermark.Mark{}, errors.New("its round is no number")
	}
	if *s.Height == "0" && round == 0 && *s.Step == 0 {
		return watermark.Mark{}, nil
	}
	if *s.Step < 0 || *s.Step > 2 {
		return watermark.Mark{}, fmt.Errorf("it has the step %d, and tmkms counts from 0 to 2", *s.Step)
	}
	return newMark(*s.Height, round, int64(*s.Step)+1)
}

// newMark returns a mark without sign bytes.
func newMark(height string, round, step int64) (watermark.Mark, error) {
	h, err := strconv.ParseInt(height, 10, 64)
	switch {
	case err != nil || strconv.FormatInt(h, 10) != height || h < 0:
		return watermark.Mark{}, errors.New("its height is no number")
	case round < 0 || round >= math.MaxInt32:
		return watermark.Mark{}, fmt.Errorf("it has the round %d", round)
	case step < 0 || step > int64(watermark.StepPrecommit):
		return watermark.Mark{}, fmt.Errorf("it has the step %d, and CometBFT counts from 0 to 3", step)
	case h == 0 && (round != 0 || step != 0):
		return watermark.Mark{}, errors.New("it has a round or a step of the height 0, which no chain has")
	}
	return watermark.Mark{Height: h, Round: int32(round), Step: watermark.Step(step)}, nil
}

// ParseState reads one state file, for a key that is brought by hand: that of
// CometBFT and cosmos/kms, which has to belong to the chain and the key, or that
// of tmkms and tmkms-light, which says nothing about either. The zero mark is a
// state that says that nothing was signed yet.
func ParseState(data []byte, chainID string, key pubkey.Key) (watermark.Mark, error) {
	c := &Chain{ID: chainID, expected: key}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err == nil {
		if _, found := fields["block_id"]; found {
			return parseTMKMSState(c, data)
		}
	}
	return parseFilePVState(c, data)
}
