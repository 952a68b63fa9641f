package signer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"privyseal/internal/privval"
	"privyseal/internal/watermark"
)

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
	var asked bool
	for {
		mark, isNew, err := s.replace(ctx, req, e.Node, &asked, accepted)
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

// current sees to it that the mark is known, and known well enough to judge a request
// for a height. Where others raise it too, what looks far ahead of the mark, or is more than
// the bucket has, may be ahead of our memory of it alone: then it is loaded once a request,
// which asked notes.
func (s *Signer) current(ctx context.Context, height int64, asked *bool) error {
	if !s.loaded {
		if err := s.load(ctx); err != nil {
			return err
		}
	}
	b, last := s.bounds(), s.last.Mark
	near := height-last.Height <= 1 && s.heights.Affords(last, height, b, time.Now())
	if !s.c.Shared || *asked || near || b.Hold != "" {
		return nil
	}
	*asked = true
	return s.load(ctx)
}

// replace does one attempt of record.
func (s *Signer) replace(ctx context.Context, req watermark.Mark, node string, asked *bool, accepted func()) (m watermark.Mark, isNew bool, err error) {
	if err := s.current(ctx, req.Height, asked); err != nil {
		return m, false, err
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
		// Until it was loaded again nothing can be decided: somebody else was faster, or
		// the mark may be written, may be written later, or never.
		s.loaded = false
		if !errors.Is(err, watermark.ErrMoved) {
			s.tried = attempt{m, node, max(m.Height, s.tried.height)}
		}
		return m, false, fmt.Errorf("cannot record %v: %w", m, err)
	}
	if !saved.Mark.Equal(m) {
		s.loaded = false
		return m, false, fmt.Errorf("cannot record %v: the store acknowledged %v", m, saved.Mark)
	}
	s.heights.Spend(s.last.Mark, m, time.Now())
	s.setLast(saved)
	s.asker, s.tried = node, attempt{}
	return m, true, nil
}

// whose returns the suffix that distinguishes a node which contradicts itself, an
// alarm, from one that comes second, which is routine where two nodes share a
// key. Of a mark that is shared, only what we know to have raised ourselves counts.
func (s *Signer) whose(err error, node string) string {
	refused, _ := errors.AsType[*watermark.RefusedError](err)
	if !slices.Contains(byNode, refused.Reason) {
		return ""
	}
	if s.asker == node || s.asker == "" && s.nodes.Load() <= 1 && !s.c.Shared {
		return sameNode
	}
	return otherNode
}

func isRefusal(err error) bool {
	_, ok := errors.AsType[*watermark.RefusedError](err)
	return ok
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
