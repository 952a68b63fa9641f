// Package signer is the only place where a key and a mark meet. Its promise:
//
//	Nothing is signed that is not already durable, and what is signed is the
//	durable bytes.
//
// A crash between the store's answer and the signature costs nothing: the same
// request, or a vote that differs in its timestamp alone, finds the recorded
// mark and is answered by a signature over the recorded bytes.
//
// There is one Signer for a chain and a key, whatever the number of nodes that
// ask. It moves one mark at a time. A store write whose outcome is unknown
// poisons it until the mark was loaded again; a load that falls behind what was
// loaded or acknowledged before is refused.
//
// Requests are not trusted. The store is trusted to keep the contract of
// watermark.Store, the key to sign; its signatures are verified all the same.
package signer

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"privyseal/internal/privval"
	"privyseal/internal/watermark"
)

// Config says what a Signer signs with and for. ChainID, Key, PubKey, Verify
// and Store are required.
type Config struct {
	ChainID string

	// Key signs. Its Sign method gets the whole message, never a digest, with
	// crypto.Hash(0), and returns the signature as CometBFT encodes it.
	Key crypto.Signer
	// PubKey is what nodes get as our public key.
	PubKey privval.PubKey
	// Verify reports whether sig is a signature of PubKey over msg.
	Verify func(msg, sig []byte) bool

	// Store keeps the mark of ChainID and PubKey. The Signer becomes its only
	// user; closing it stays with the caller.
	Store watermark.Store
	// Shared says that other signers, each with nodes of its own, raise the mark in the
	// Store too: to lose a race, and to find the mark above what we know, is routine.
	Shared bool
	// Heights bounds by how much requests raise the height. The zero value has
	// the default bounds.
	Heights watermark.Heights
	// Bounds is what the chain's witness says now. It is asked at each request,
	// by many goroutines, and must not block. Nil: there is no witness.
	Bounds func() watermark.Bounds

	// AllowSignBytes and AllowRawBytes let a node have bytes of its own choice
	// signed (v1's and v2's SignBytes and v2's non_rp_extension; Celestia's raw
	// bytes). Without them such requests are refused.
	AllowSignBytes bool
	AllowRawBytes  bool

	// Nodes is how many nodes ask. With one node, whatever contradicts the mark
	// contradicts the node itself, also after a restart.
	Nodes int

	// Observe is called for every request but pings, after the answer is known, by
	// the goroutine that asked. It may be nil.
	Observe func(Event)
}

// Event is what became of one request.
type Event struct {
	Node    string
	Request *privval.Request
	// Mark is what was signed, or what the request asked for; zero where the
	// request has none.
	Mark watermark.Mark
	// Reason is empty unless the request was refused for good; it is then a
	// [watermark.Reason]. Conflicts and regressions end in "_same_node" or
	// "_other_node": who raised the mark, the node that asks or another one.
	Reason string
	// Err is the refusal, or what kept the request from being answered; then
	// [FaultOf] says what failed.
	Err error
	// StoreErrors is how often the store failed, also before it did what was asked.
	StoreErrors int
	// Signature is the one over the mark; nil where nothing was signed.
	Signature []byte
	// Repeated says that the recorded mark was signed again.
	Repeated bool
	// How long the request waited for its turn, for the store and for the key,
	// and all of it.
	Queue, Store, Sign, All time.Duration
}

// errWentBack says that a load returned less than what was loaded or
// acknowledged before: somebody put an older state in place of ours.
var errWentBack = errors.New("the state went back")

// retryPause is how long a request that cannot be decided now waits before the
// store is asked again.
const retryPause = 100 * time.Millisecond

// Signer answers the requests of all nodes for one chain and key. Its methods
// are safe for concurrent use.
type Signer struct {
	c Config

	// turn holds one token. Who took it owns the fields below, up to seen.
	turn    chan struct{}
	heights watermark.Heights
	last    watermark.Saved // as loaded or acknowledged
	loaded  bool            // false: what the store holds is unknown
	asker   string          // the node that raised the mark, "" after a start
	tried   attempt         // writes since last whose outcome is unknown
	empty   []byte          // signature over no bytes, made when first needed

	seen  atomic.Pointer[watermark.Saved] // last, for everybody
	nodes atomic.Int64                    // how many ask
}

// New loads the mark and returns a signer that can sign. An error means that
// the state cannot be used.
func New(ctx context.Context, c Config) (*Signer, error) {
	s := &Signer{c: c, heights: c.Heights, turn: make(chan struct{}, 1)}
	s.heights.Shared = c.Shared
	s.SetNodes(c.Nodes)
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	s.turn <- struct{}{}
	return s, nil
}

// SetNodes says how many nodes ask from now on; see [Config.Nodes].
func (s *Signer) SetNodes(n int) { s.nodes.Store(int64(n)) }

// Last returns the last mark that was loaded or acknowledged.
func (s *Signer) Last() watermark.Saved { return *s.seen.Load() }

func (s *Signer) load(ctx context.Context) error {
	s.loaded = false
	saved, err := s.c.Store.Load(ctx)
	if err != nil {
		return err
	}
	if before := s.seen.Load(); before != nil {
		// As a new request, what was loaded would have to be the mark that we
		// know, or above it.
		same := saved.Mark.Equal(before.Mark)
		if !same && !before.Mark.Less(saved.Mark) {
			return fmt.Errorf("cannot use the state of chain %s, now at %v and before at %v: %w; nothing is signed with it: put back the newest state, or end what else writes it", s.c.ChainID, saved.Mark, before.Mark, errWentBack)
		}
		if !same {
			s.moved(before.Mark, saved.Mark)
		}
	}
	s.loaded = true
	s.heights.Loaded(saved, time.Now())
	s.setLast(saved)
	return nil
}

// moved notes that the mark was found above what we knew: by a write of ours whose
// outcome was unknown, by another signer, or both. Of a mark that is shared we pay for
// what we may have raised; what others do is theirs to bound.
func (s *Signer) moved(from, to watermark.Mark) {
	s.asker = s.tried.by(to)
	if !s.c.Shared {
		s.heights.Spend(from, to, time.Now())
	} else if s.tried.height > 0 {
		s.heights.Spend(from, watermark.Mark{Height: min(s.tried.height, to.Height)}, time.Now())
	}
	s.tried = attempt{}
}

func (s *Signer) setLast(saved watermark.Saved) {
	s.last = saved
	s.seen.Store(&saved)
}

// attempt is the last write whose outcome is unknown, and the node that asked for it.
type attempt struct {
	mark watermark.Mark
	node string
	// height is the highest of all such writes. They replace one and the same mark, so
	// that at most one of them can come true.
	height int64
}

// by returns the node that raised the mark to m, or "" if that was not us.
func (a attempt) by(m watermark.Mark) string {
	if a.mark.IsZero() || !a.mark.Equal(m) {
		return ""
	}
	return a.node
}

// takeTurn waits for the other requests of this chain and key. They are served
// in the order in which they came.
func (s *Signer) takeTurn(ctx context.Context, e *Event) error {
	defer since(time.Now(), &e.Queue)
	if ctx.Err() == nil {
		select {
		case <-s.turn:
			return nil // at once, without a timer
		default:
		}
	}
	select {
	case <-s.turn:
		// A store that is asked too late fails, and poisons us for no reason.
		if ctx.Err() == nil {
			return nil
		}
		s.endTurn()
	case <-ctx.Done():
	}
	return &faultError{QueueFault, fmt.Errorf("cannot sign for chain %s: other requests are still in progress: %w", s.c.ChainID, ctx.Err())}
}

func (s *Signer) endTurn() { s.turn <- struct{}{} }

// pause waits before the next attempt of record, or until ctx ends.
func (s *Signer) pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-s.bounds().Changed:
	case <-time.After(retryPause):
	}
}

func (s *Signer) bounds() watermark.Bounds {
	if s.c.Bounds == nil {
		return watermark.Bounds{}
	}
	return s.c.Bounds()
}

// signVerified signs msg and checks the signature: a device or a memory fault
// must not make the node send one that the chain would reject.
func (s *Signer) signVerified(msg []byte) ([]byte, error) {
	sig, err := s.c.Key.Sign(nil, msg, crypto.Hash(0))
	if err != nil {
		return nil, &faultError{KeyFault, fmt.Errorf("cannot sign for chain %s: %w", s.c.ChainID, err)}
	}
	if !s.c.Verify(msg, sig) {
		return nil, &faultError{KeyFault, fmt.Errorf("cannot sign for chain %s: the key made a signature that does not verify", s.c.ChainID)}
	}
	return sig, nil
}

// refuse returns a final refusal that has nothing to do with the mark.
func refuse(r watermark.Reason, format string, args ...any) error {
	return &watermark.RefusedError{Reason: r, Detail: fmt.Sprintf(format, args...)}
}

func since(start time.Time, d *time.Duration) { *d = time.Since(start) }
