// Package watermark holds the double-sign rule and what a store of marks must
// promise. It does no I/O and knows no key.
//
// Marks only move forward: height, then round, then step. The same height,
// round and step may be answered twice only by the same bytes, the timestamp
// of a vote aside; and then it is the recorded bytes that are signed.
//
// The rule is that of CometBFT's FilePV (privval/file.go, CheckHRS and
// checkVotesOnlyDifferByTimestamp) with one difference: a proposal gets no
// leeway for its timestamp, because its node keeps its own timestamp and a
// signature over another one is worthless to it.
//
// What is trusted here: that a [Store] keeps its contract, and that the sign
// bytes of a Mark were built by us (package privval), never taken from a node.
package watermark

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// Step is the position of a message within a round, numbered as in CometBFT's
// priv_validator_state.json. (tmkms counts from 0.)
type Step uint8

const (
	StepNone      Step = 0 // nothing was signed yet
	StepProposal  Step = 1
	StepPrevote   Step = 2
	StepPrecommit Step = 3
)

// String returns the lower-case name of the step.
func (s Step) String() string {
	switch s {
	case StepNone:
		return "none"
	case StepProposal:
		return "proposal"
	case StepPrevote:
		return "prevote"
	case StepPrecommit:
		return "precommit"
	}
	return fmt.Sprintf("step(%d)", uint8(s))
}

// MaxChainID is how long a chain id may be in bytes: MaxChainIDLen of CometBFT
// (types/genesis.go).
const MaxChainID = 50

// ValidChainID reports whether id is 1 to MaxChainID of A-Z a-z 0-9 . _ - that do
// not start with a point. The rule is that of tendermint-rs (chain/id.rs), and makes
// an id safe as a file name and on a terminal.
func ValidChainID(id string) bool {
	const chars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
	return id != "" && len(id) <= MaxChainID && id[0] != '.' && strings.Trim(id, chars) == ""
}

// ID names what one sequence of marks belongs to. Two programs configured with
// the same chain and the same key arrive at the same ID, and so collide on one
// store instead of each keeping a state of its own.
type ID struct {
	ChainID string // at most MaxChainID bytes
	// Key is the public key: an Ed25519 key as it is, any other key as the
	// SHA-256 of its type name, a zero byte and its bytes.
	Key [32]byte
}

// Check returns why no record can be of id.
func (id ID) Check() error {
	if n := len(id.ChainID); n < 1 || n > MaxChainID {
		return fmt.Errorf("the chain id has %d bytes, not 1 to %d", n, MaxChainID)
	}
	return nil
}

// Mark is the last message that a key was asked to sign on a chain, recorded
// before it was signed.
//
// The zero Mark says that nothing was signed yet. A Mark above zero without
// sign bytes is a floor: nothing at or below its height, round and step is
// ever signed again (state of programs that do not record what they signed).
type Mark struct {
	Height int64
	Round  int32
	Step   Step
	// SignBytes are the exact bytes under the signature: a CanonicalProposal or
	// CanonicalVote after its length as uvarint.
	SignBytes []byte
}

// Floor returns the mark at and below whose height nothing is signed.
func Floor(height int64) Mark {
	return Mark{Height: height, Round: math.MaxInt32, Step: StepPrecommit}
}

// Check returns why no record of a store that takes maxSignBytes can hold m.
func (m Mark) Check(maxSignBytes int) error {
	switch {
	case m.Height < 0 || m.Round < 0 || m.Step > StepPrecommit:
		return errors.New("the mark is out of range")
	case len(m.SignBytes) > maxSignBytes:
		return fmt.Errorf("%d sign bytes, more than %d", len(m.SignBytes), maxSignBytes)
	case m.Step == StepNone && len(m.SignBytes) > 0:
		return errors.New("sign bytes without a step")
	}
	return nil
}

// IsZero reports whether nothing was signed yet.
func (m Mark) IsZero() bool { return m.Height == 0 && m.Round == 0 && m.Step == StepNone }

// Less reports whether m comes before n in height, round, step.
func (m Mark) Less(n Mark) bool {
	if m.Height != n.Height {
		return m.Height < n.Height
	}
	if m.Round != n.Round {
		return m.Round < n.Round
	}
	return m.Step < n.Step
}

// Equal reports whether m and n are the same in every field.
func (m Mark) Equal(n Mark) bool {
	return m.Height == n.Height && m.Round == n.Round && m.Step == n.Step && bytes.Equal(m.SignBytes, n.SignBytes)
}

// String returns height/round/step.
func (m Mark) String() string {
	if m.Round == math.MaxInt32 && len(m.SignBytes) == 0 {
		return fmt.Sprintf("%d/all/all", m.Height)
	}
	return fmt.Sprintf("%d/%d/%s", m.Height, m.Round, m.Step)
}

// Timestamp returns the encoded google.protobuf.Timestamp of the vote in the
// mark, or nil if the mark holds no vote.
func (m Mark) Timestamp() []byte {
	if m.Step != StepPrevote && m.Step != StepPrecommit {
		return nil
	}
	_, ts, _, ok := splitTimestamp(m.SignBytes)
	if !ok {
		return nil
	}
	return ts
}

// Next decides what a request may do to the last mark. It returns the mark to
// sign and whether that mark is new, in which case it has to be durable before
// the key sees it. The error is always a *[RefusedError].
func Next(last, req Mark) (m Mark, isNew bool, err error) {
	refuse := func(r Reason) (Mark, bool, error) {
		return Mark{}, false, &RefusedError{Reason: r, Last: last, Request: req}
	}
	switch {
	case req.Height < last.Height:
		return refuse(HeightRegression)
	case req.Height > last.Height:
		return req, true, nil
	case req.Round < last.Round:
		return refuse(RoundRegression)
	case req.Round > last.Round:
		return req, true, nil
	case req.Step < last.Step:
		return refuse(StepRegression)
	case req.Step > last.Step:
		return req, true, nil
	case len(last.SignBytes) == 0:
		return refuse(UnknownBytes)
	case bytes.Equal(last.SignBytes, req.SignBytes):
		return last, false, nil
	case req.Step != StepProposal && sameVote(last.SignBytes, req.SignBytes):
		return last, false, nil
	}
	return refuse(Conflict)
}

// Reason says why a request was refused for good. Its text is the label of the
// metric and the log, so it never changes.
type Reason string

const (
	Conflict         Reason = "conflict"          // other bytes at the same height, round and step
	UnknownBytes     Reason = "unknown_bytes"     // the same height, round and step as a mark without sign bytes
	HeightRegression Reason = "height_regression" // below the mark
	RoundRegression  Reason = "round_regression"
	StepRegression   Reason = "step_regression"
	HeightGap        Reason = "height_gap"       // the first height after a load, and not the mark's next
	HeightLeap       Reason = "height_leap"      // further ahead than the bucket of heights allows
	HeightMax        Reason = "height_max"       // above the configured highest height
	HeightFloor      Reason = "height_floor"     // at or below the configured floor, or what a witness has seen
	HeightCeiling    Reason = "height_ceiling"   // above what the chain can have reached by its witness
	DuplicateSigner  Reason = "duplicate_signer" // a witness showed that somebody else signs with our key
)

// RefusedError is a final refusal. Asking again cannot change it. Request is
// zero where a request was refused for something else than its mark.
type RefusedError struct {
	Reason        Reason
	Last, Request Mark
	Detail        string // more for the operator, or empty
}

func (e *RefusedError) Error() string {
	if e.Request.IsZero() {
		return fmt.Sprintf("refused: %s: %s", e.Reason, e.Detail)
	}
	s := fmt.Sprintf("refused: %s: asked for %v, the mark is at %v", e.Reason, e.Request, e.Last)
	if e.Detail != "" {
		s += " (" + e.Detail + ")"
	}
	return s
}

// Saved is a mark as a store holds it.
type Saved struct {
	Mark Mark
	// Version changes with each write and never repeats in the life of a
	// state. Only the store gives it a meaning.
	Version uint64
	// Time is when the mark was written, by the writer's clock.
	Time time.Time
}

// Store keeps the mark of one [ID]. It is given to one signer, which calls it
// from one goroutine at a time.
//
// Load returns the current mark and makes durable what it returns: a write of
// an earlier process may have reached a cache and no disk. It never creates
// state; without state it fails. Load may be called again at any time. What it returns
// is the mark at some moment after the call, but right after an [ErrMoved], when it may
// be the one that was found then.
//
// Replace makes m the mark if the current one is still old, and returns after
// m is durable, surviving a crash of the process, of the machine, or the loss
// of power. It returns [ErrMoved], with nothing written, if the current mark is
// not old. After any other error the outcome is unknown: m may or may not be,
// or later become, the mark. The store then refuses every Replace until a Load
// has succeeded.
//
// Both give up when the context ends, if the medium lets them; giving up is an
// error like any other.
//
// Close releases the state for other processes. No call may follow it.
type Store interface {
	Load(ctx context.Context) (Saved, error)
	Replace(ctx context.Context, old Saved, m Mark) (Saved, error)
	Close() error
}

// ErrMoved says that somebody else moved the mark; load it and decide again.
var ErrMoved = errors.New("the mark was moved by another signer")
