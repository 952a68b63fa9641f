package signer

import (
	"context"
	"fmt"
	"time"

	"privyseal/internal/privval"
	"privyseal/internal/watermark"
)

// signExtensions signs the extension of a vote that has passed the rule. It moves
// no mark: the application may change an
// extension between two requests, and CometBFT's own signer signs it again each
// time (privval/file.go signVote).
//
// v0.38 and v0.40 do not say whether extensions are on, and drop the signature
// when they are off; without it a node with extensions on panics. v2 needs a
// second signature, over the raw bytes of its non_rp_extension; other versions
// skip it. Where there are no such bytes it is a signature over nothing, good
// for no message, and the same each time.
func (s *Signer) signExtensions(req *privval.Request) (resp privval.Response, err error) {
	if resp.ExtensionSignature, err = s.signVerified(req.ExtensionSignBytes()); err != nil {
		return privval.Response{}, err
	}
	if len(req.NonRPExtension) > 0 {
		resp.NonRPExtensionSignature, err = s.signVerified(req.NonRPExtension)
		return resp, err
	}
	if s.empty == nil {
		if s.empty, err = s.signVerified(nil); err != nil {
			return privval.Response{}, err
		}
	}
	resp.NonRPExtensionSignature = s.empty
	return resp, nil
}

// extensions are the signatures over a request's extensions in the making.
type extensions struct {
	sign func() (privval.Response, error) // nil: there is nothing to sign
	done chan struct{}                    // nil until started
	resp privval.Response
	err  error
}

// extensionsOf returns what is to be signed beside the vote: the extension of a
// precommit for a block, unless the node asked to skip it.
func (s *Signer) extensionsOf(req *privval.Request) *extensions {
	if req.Kind != privval.KindPrecommit || req.BlockID.IsNil() || req.SkipExtensionSigning {
		return &extensions{}
	}
	return &extensions{sign: func() (privval.Response, error) { return s.signExtensions(req) }}
}

// start begins to sign, once, in the background.
func (x *extensions) start() {
	if x.sign == nil || x.done != nil {
		return
	}
	x.done = make(chan struct{})
	go func() {
		defer close(x.done)
		x.resp, x.err = x.sign()
	}()
}

// wait waits for what was started.
func (x *extensions) wait() error {
	if x.done == nil {
		return nil
	}
	<-x.done
	return x.err
}

// checkNonRPExtension refuses bytes that v2 would have signed without chain,
// height or prefix, before the vote around them raises the mark.
func (s *Signer) checkNonRPExtension(req *privval.Request) error {
	switch {
	case len(req.NonRPExtension) == 0:
		return nil
	case !s.c.AllowSignBytes:
		return refuse(rawBytes, "the vote carries a non_rp_extension, and allow_sign_bytes is off for this chain")
	case privval.LooksCanonical(req.NonRPExtension):
		return refuse(rawBytes, "the non_rp_extension could be taken for a vote or proposal")
	}
	return nil
}

// signRaw signs bytes of the node's choice, where the chain's configuration
// allows that kind, and never what could be taken for a vote or proposal.
func (s *Signer) signRaw(ctx context.Context, req *privval.Request, e *Event) (privval.Response, error) {
	msg := req.RawSignBytes()
	switch {
	case req.Kind == privval.KindSignBytes && !s.c.AllowSignBytes:
		return privval.Response{}, refuse(rawBytes, "allow_sign_bytes is off for this chain")
	case req.Kind == privval.KindRawBytes && !s.c.AllowRawBytes:
		return privval.Response{}, refuse(rawBytes, "allow_raw_bytes is off for this chain")
	case len(req.Bytes) == 0:
		return privval.Response{}, refuse(rawBytes, "there are no bytes to sign")
	case privval.LooksCanonical(msg):
		return privval.Response{}, refuse(rawBytes, "the bytes could be taken for a vote or proposal")
	}
	if err := s.takeTurn(ctx, e); err != nil {
		return privval.Response{}, err
	}
	defer s.endTurn()
	if err := s.admitted(ctx); err != nil {
		return privval.Response{}, err
	}
	defer since(time.Now(), &e.Sign)
	sig, err := s.signVerified(msg)
	return privval.Response{Signature: sig}, err
}

// admitted waits until the chain's witness lets us sign at all: bytes without a
// height have no other gate.
func (s *Signer) admitted(ctx context.Context) error {
	for {
		b := s.bounds()
		switch {
		case b.Stop != "":
			return refuse(watermark.DuplicateSigner, "%s", b.Stop)
		case b.Hold == "":
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("cannot sign for chain %s: %w: %s", s.c.ChainID, watermark.ErrHeld, b.Hold)
		}
		s.pause(ctx)
	}
}
