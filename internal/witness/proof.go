package witness

import (
	"encoding/base64"
	"fmt"
	"sync"
	"time"

	"privyseal/internal/watermark"
)

// memorySize is how many precommits are remembered: four minutes of a chain with a
// block a second, and far more than a witness lags.
const memorySize = 256

// memory holds the last precommits of this process, and those that it has found in a shared
// mark.
type memory struct {
	mu     sync.Mutex
	marks  [memorySize]signed
	n      int            // how many were added
	beyond watermark.Mark // the highest mark that was overwritten
}

type signed struct {
	mark watermark.Mark
	sig  []byte
}

func (r *memory) add(m watermark.Mark, sig []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n > 0 && r.marks[(r.n-1)%memorySize].mark.Equal(m) {
		return // signed again
	}
	at := &r.marks[r.n%memorySize]
	if r.beyond.Less(at.mark) {
		r.beyond = at.mark
	}
	*at = signed{m, sig}
	r.n++
}

// find returns what was signed at the position of m. known is false if that was too
// long ago to say.
func (r *memory) find(m watermark.Mark) (s signed, found, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.marks[:min(r.n, memorySize)] {
		if !s.mark.Less(m) && !m.Less(s.mark) {
			return s, true, true
		}
	}
	return signed{}, false, r.beyond.Less(m)
}

// Proof is a signature of our key that this signer did not make.
type Proof struct {
	ChainID   string
	Height    int64
	Round     int32
	Phase     string // waiting, quarantine or open: when it was found
	SignBytes []byte // that it is a signature over
	Signature []byte
	// Ours is what this signer has signed there, and the signature if it is known;
	// nil: nothing.
	Ours, OursSignature []byte
	Witness             string // the address that showed it
	Found               time.Time
}

// String says it to an operator.
func (p *Proof) String() string {
	with := "this signer has signed nothing there"
	if p.Ours != nil {
		with = "this signer has signed something else there"
	}
	return fmt.Sprintf("the chain has a precommit of our key at height %d, round %d, and %s: another signer uses the key, or the state is older than the key", p.Height, p.Round, with)
}

// evidence is a Proof as a file. doc/formats.md describes it.
type evidence struct {
	ChainID   string    `json:"chain_id"`
	Height    int64     `json:"height,string"`
	Round     int32     `json:"round"`
	Found     time.Time `json:"found"`
	Phase     string    `json:"phase"`
	Witness   string    `json:"witness"`
	PublicKey string    `json:"public_key"`
	Theirs    vote      `json:"on_chain"`
	Ours      *vote     `json:"ours"` // null: this signer has signed nothing there
}

type vote struct {
	SignBytes string `json:"sign_bytes"`          // base64
	Signature string `json:"signature,omitempty"` // base64
}

func newVote(signBytes, sig []byte) vote {
	return vote{base64.StdEncoding.EncodeToString(signBytes), base64.StdEncoding.EncodeToString(sig)}
}

// Ours reports whether a verified vote of ours is in the commit, and how many claimed
// ones do not verify.
func (c *Commit) Ours(verify func(msg, sig []byte) bool) (ours bool, lies int) {
	for _, v := range c.Votes {
		if verify(c.signBytes(v), v.Signature) {
			ours = true
		} else {
			lies++
		}
	}
	return ours, lies
}
