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
	"slices"
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
	// PubKey is what nodes are told.
	PubKey privval.PubKey
	// Verify reports whether sig is a signature of PubKey over msg.
	Verify func(msg, sig []byte) bool

	// Store keeps the mark of ChainID and PubKey. The Signer becomes its only
	// user; closing it stays with the caller.
	Store watermark.Store
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

	// Observe is told of every request but pings, after the answer is known, by
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

// Reasons for a refusal that the rule of package watermark does not know. Like
// those they are labels, and never change.
const (
	wrongChain     watermark.Reason = "wrong_chain"
	invalidRequest watermark.Reason = "invalid_request"
	rawBytes       watermark.Reason = "raw_bytes"
)

// ErrWentBack says that a load returned less than what was loaded or
// acknowledged before: somebody put an older state in place of ours.
var ErrWentBack = errors.New("the state went back")

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
	tried   attempt         // the last write whose outcome is unknown
	empty   []byte          // signature over no bytes, made when first needed

	seen  atomic.Pointer[watermark.Saved] // last, for everybody
	nodes atomic.Int64                    // how many ask
}

// New loads the mark and returns a signer that can sign. An error means that
// the state cannot be used.
func New(ctx context.Context, c Config) (*Signer, error) {
	s := &Signer{c: c, heights: c.Heights, turn: make(chan struct{}, 1)}
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

// Handle answers one request of a node. A final refusal is a response. An error
// means that the request could not be decided before ctx ended: the connection
// is to be closed, and the node will ask again.
func (s *Signer) Handle(ctx context.Context, node string, req *privval.Request) (privval.Response, error) {
	if req.Kind == privval.KindPing {
		return privval.Response{Kind: req.Kind}, nil
	}
	start := time.Now()
	e := Event{Node: node, Request: req}
	resp, err := s.answer(ctx, req, &e)
	e.All, e.Err = time.Since(start), err
	if err != nil {
		// Not half of one: a vote without the signature of its extension.
		resp = privval.Response{}
	}
	if refused, ok := errors.AsType[*watermark.RefusedError](err); ok {
		e.Reason = string(refused.Reason) + e.Reason
		resp, err = privval.Response{Refused: refused.Error()}, nil
	}
	resp.Kind = req.Kind
	e.Signature = resp.Signature
	if s.c.Observe != nil {
		s.c.Observe(e)
	}
	return resp, err
}

// answer sorts the requests. What it refuses leaves the mark where it was.
func (s *Signer) answer(ctx context.Context, req *privval.Request, e *Event) (privval.Response, error) {
	hasChainID := req.Kind != privval.KindSignBytes
	switch {
	case req.Invalid != nil:
		return privval.Response{}, refuse(invalidRequest, "%v", req.Invalid)
	case hasChainID && req.ChainID != s.c.ChainID:
		return privval.Response{}, refuse(wrongChain, "asked for chain %.50q, this connection is for %q", req.ChainID, s.c.ChainID)
	}
	switch req.Kind {
	case privval.KindPubKey:
		return privval.Response{PubKey: s.c.PubKey}, nil
	case privval.KindSignBytes, privval.KindRawBytes:
		return s.signRaw(ctx, req, e)
	case privval.KindProposal, privval.KindPrevote, privval.KindPrecommit:
		if err := s.checkNonRPExtension(req); err != nil {
			return privval.Response{}, err
		}
		return s.sign(ctx, req, e)
	}
	return privval.Response{}, refuse(invalidRequest, "a request of kind %v", req.Kind)
}

// sign is the whole protocol: one turn at a time, the rule, the durable mark,
// the signature over what is durable.
func (s *Signer) sign(ctx context.Context, req *privval.Request, e *Event) (privval.Response, error) {
	if err := s.takeTurn(ctx, e); err != nil {
		return privval.Response{}, err
	}
	defer s.endTurn()

	// The extension has no mark, so it is signed while the disk works.
	extensions := s.extensionsOf(req)
	defer extensions.wait() // it uses the key, which is ours for this turn only
	mark, err := s.record(ctx, markOf(req), e, extensions.start)
	if err != nil {
		return privval.Response{}, err
	}
	// A crash here loses the signature and nothing else: the node asks again,
	// and the recorded mark is signed then.
	defer since(time.Now(), &e.Sign)
	extensions.start()
	if err := extensions.wait(); err != nil {
		return privval.Response{}, err
	}
	resp := extensions.resp
	resp.Timestamp = mark.Timestamp()
	resp.Signature, err = s.signVerified(mark.SignBytes)
	return resp, err
}

// record returns the mark to sign, after it became durable. What may pass, a
// store that fails or a state that has to be loaded again, is tried until ctx
// ends. accepted is called when the rule has taken the mark, before the store is
// asked.
func (s *Signer) record(ctx context.Context, req watermark.Mark, e *Event, accepted func()) (watermark.Mark, error) {
	defer since(time.Now(), &e.Store)
	e.Mark = req
	for {
		mark, isNew, err := s.replace(ctx, req, e.Node, accepted)
		switch {
		case err == nil:
			e.Mark, e.Repeated = mark, !isNew
			return mark, nil
		case isRefusal(err):
			e.Reason = s.whose(err, e.Node)
			return watermark.Mark{}, err
		}
		if !errors.Is(err, watermark.ErrMoved) {
			if !errors.Is(err, watermark.ErrHeld) {
				e.StoreErrors++
			}
			s.pause(ctx)
		}
		// Also if both came at once.
		if ctx.Err() != nil {
			return watermark.Mark{}, &faultError{StoreFault, err}
		}
	}
}

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

// replace does one attempt of record.
func (s *Signer) replace(ctx context.Context, req watermark.Mark, node string, accepted func()) (m watermark.Mark, isNew bool, err error) {
	if !s.loaded {
		if err := s.load(ctx); err != nil {
			return m, false, err
		}
	}
	m, isNew, err = watermark.Next(s.last.Mark, req)
	if err != nil {
		return m, false, err
	}
	// New or repeated: a recorded mark may be one that an importer made up.
	if err := s.heights.Allow(s.last.Mark, m, s.bounds(), time.Now()); err != nil {
		return m, false, err
	}
	if !isNew {
		return m, false, nil
	}
	accepted()
	saved, err := s.c.Store.Replace(ctx, s.last, m)
	if err != nil {
		// The mark may be written, may be written later, or never. Until it was
		// loaded again nothing can be decided.
		s.loaded, s.tried = false, attempt{m, node}
		return m, false, fmt.Errorf("cannot record %v: %w", m, err)
	}
	if !saved.Mark.Equal(m) {
		s.loaded = false
		return m, false, fmt.Errorf("cannot record %v: the store acknowledged %v", m, saved.Mark)
	}
	s.heights.Spend(s.last.Mark, m, time.Now())
	s.setLast(saved)
	s.asker = node
	return m, true, nil
}

func (s *Signer) load(ctx context.Context) error {
	saved, err := s.c.Store.Load(ctx)
	if err != nil {
		return err
	}
	if before := s.seen.Load(); before != nil {
		// As a new request, what was loaded would have to be the mark that we
		// know, or above it.
		same := saved.Mark.Equal(before.Mark)
		if !same && !before.Mark.Less(saved.Mark) {
			return fmt.Errorf("cannot use the state of chain %s, now at %v and before at %v: %w; nothing is signed with it: put back the newest state, or end what else writes it", s.c.ChainID, saved.Mark, before.Mark, ErrWentBack)
		}
		if !same {
			s.asker = s.tried.by(saved.Mark)
			s.heights.Spend(before.Mark, saved.Mark, time.Now())
		}
	}
	s.loaded, s.tried = true, attempt{}
	s.heights.Loaded(saved, time.Now())
	s.setLast(saved)
	return nil
}

// attempt is a write whose outcome is unknown, and the node that asked for it.
type attempt struct {
	mark watermark.Mark
	node string
}

// by returns the node that raised the mark to m, or "" if that was not us.
func (a attempt) by(m watermark.Mark) string {
	if a.mark.IsZero() || !a.mark.Equal(m) {
		return ""
	}
	return a.node
}

func (s *Signer) setLast(saved watermark.Saved) {
	s.last = saved
	s.seen.Store(&saved)
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
	return &faultError{QueueFault, fmt.Errorf("cannot sign for chain %s: other requests are still in work: %w", s.c.ChainID, ctx.Err())}
}

func (s *Signer) endTurn() { s.turn <- struct{}{} }

// whose returns the suffix that tells a node which contradicts itself, an
// alarm, from one that comes second, which is routine where two nodes share a
// key.
func (s *Signer) whose(err error, node string) string {
	refused, _ := errors.AsType[*watermark.RefusedError](err)
	if !slices.Contains(byNode, refused.Reason) {
		return ""
	}
	if s.asker == node || s.asker == "" && s.nodes.Load() <= 1 {
		return sameNode
	}
	return otherNode
}

func isRefusal(err error) bool {
	_, ok := errors.AsType[*watermark.RefusedError](err)
	return ok
}

// refuse returns a final refusal that has nothing to do with the mark.
func refuse(r watermark.Reason, format string, args ...any) error {
	return &watermark.RefusedError{Reason: r, Detail: fmt.Sprintf(format, args...)}
}

func markOf(req *privval.Request) watermark.Mark {
	m := watermark.Mark{Height: req.Height, Round: req.Round, SignBytes: req.SignBytes()}
	switch req.Kind {
	case privval.KindProposal:
		m.Step = watermark.StepProposal
	case privval.KindPrevote:
		m.Step = watermark.StepPrevote
	case privval.KindPrecommit:
		m.Step = watermark.StepPrecommit
	}
	return m
}

func since(start time.Time, d *time.Duration) { *d = time.Since(start) }
