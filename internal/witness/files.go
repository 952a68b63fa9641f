package witness

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"privyseal/internal/durable"
	"privyseal/internal/regular"
)

// flagSuffix ends the name of the file beside a state that says how its chain may
// be started. It holds a line of text: flagQuarantine or flagStopped, a space, and
// why. Without the file nothing is asked for.
const (
	flagSuffix     = ".quarantine"
	flagQuarantine = "quarantine"
	flagStopped    = "stopped"
	maxFlag        = 4096 // bytes
)

// Flag is how a chain may be started.
type Flag struct {
	Quarantine bool   // a witness has to show first that no other signer lives
	Stopped    bool   // another signer was proved; an operator has to act
	Why        string // for people
}

// ReadFlag reads the flag beside the state. What cannot be understood is taken for a
// quarantine, and so is any other error than a missing file.
func ReadFlag(state string) (Flag, error) {
	f, _, err := regular.Open(state + flagSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return Flag{}, nil
	}
	if err != nil {
		return Flag{Quarantine: true, Why: "the flag of the quarantine cannot be read"}, err
	}
	defer f.Close()
	line := make([]byte, maxFlag)
	n, _ := f.Read(line)
	word, why, _ := strings.Cut(strings.TrimSpace(string(line[:n])), " ")
	return Flag{Quarantine: true, Stopped: word == flagStopped, Why: shown(why, maxFlag)}, nil
}

// FlagPath returns where the flag of a state is, if there is one.
func FlagPath(state string) string { return state + flagSuffix }

// SetQuarantine makes the next starts of the state with a witness go through a
// quarantine, until it was passed once. It is durable when SetQuarantine returns. The
// gate for marks that are not our own calls it before such a mark is written. A state
// that was stopped stays so: only [Resume] takes that back.
func SetQuarantine(state, why string) error {
	if flag, err := ReadFlag(state); err == nil && flag.Stopped {
		return nil
	}
	return writeFlag(state, flagQuarantine+" "+why)
}

// Resume lets a state that was stopped start again, through a quarantine: for an
// operator who has said that the other signer is off.
func Resume(state string) error {
	return writeFlag(state, flagQuarantine+" it was stopped because of another signer")
}

// setStopped makes the state refuse to start until an operator has said that the
// other signer is off.
func setStopped(state, why string) error { return writeFlag(state, flagStopped+" "+why) }

func writeFlag(state, line string) error {
	path := state + flagSuffix
	if err := durable.Replace(path, []byte(line+"\n"), nil); err != nil {
		return fmt.Errorf("cannot note the quarantine of the state %s: %w", state, err)
	}
	return nil
}

// ClearFlag removes the flag, durably enough: if it comes back after a crash, a
// quarantine is repeated. That of a state which was stopped stays.
func ClearFlag(state string) error {
	if flag, err := ReadFlag(state); err == nil && flag.Stopped {
		return errors.New("it was stopped meanwhile")
	}
	err := os.Remove(state + flagSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Stops reports whether the chain must not even be started again without an
// operator's word. What a start finds, the next start finds again by itself.
func (p *Proof) Stops() bool { return p.Phase != waiting.String() }

// Keep makes a proof outlive this process: as a file in the folder, which is made if
// it is missing, and in the flag beside the state, so that no later start signs
// before an operator has said that the other signer is off. It returns the path of
// the file. Each is tried even if the other fails; a proof for which there is no place
// stands in the error.
func (p *Proof) Keep(dir, state, publicKey string) (path string, err error) {
	path = filepath.Join(dir, fmt.Sprintf("%s-%d-%d.json", p.ChainID, p.Height, p.Round))
	if p.Stops() {
		err = setStopped(state, fmt.Sprintf("%s, seen at %s by %s", p, p.Found.UTC().Format("2006-01-02 15:04:05 UTC"), p.Witness))
	}
	e := evidence{
		ChainID: p.ChainID, Height: p.Height, Round: p.Round, Found: p.Found.UTC(), Phase: p.Phase, Witness: p.Witness, PublicKey: publicKey,
		Theirs: newVote(p.SignBytes, p.Signature),
	}
	if p.Ours != nil {
		ours := newVote(p.Ours, p.OursSignature)
		e.Ours = &ours
	}
	data, jsonErr := json.MarshalIndent(e, "", "  ")
	fileErr := errors.Join(jsonErr, os.MkdirAll(dir, 0o700))
	if fileErr == nil {
		fileErr = durable.Replace(path, append(data, '\n'), nil)
	}
	if fileErr != nil {
		path = ""
		text, _ := json.Marshal(e) // as above
		err = errors.Join(err, fmt.Errorf("cannot write the proof: %w; it is %s", fileErr, text))
	}
	return path, err
}
