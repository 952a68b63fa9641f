package signer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"privyseal/internal/privval"
	"privyseal/internal/signer"
	"privyseal/internal/watermark"
	"privyseal/internal/watermark/storetest"
)

// TestExtensions: which votes get which signatures beside their own.
func TestExtensions(t *testing.T) {
	for _, c := range []struct {
		name       string
		vote       string
		extension  string
		nonRP      string
		skip       bool
		allowed    bool
		want, also bool   // an extension signature, one for the non_rp_extension
		refused    string // or this
	}{
		{name: "a proposal", vote: "11/0/proposal A t2"},
		{name: "a prevote", vote: "11/0/prevote A t2"},
		{name: "a nil prevote", vote: "11/0/prevote nil t2"},
		{name: "a nil precommit", vote: "11/0/precommit nil t2"},
		{name: "a precommit without an extension", vote: "11/0/precommit A t2", want: true, also: true},
		{name: "a precommit with one", vote: "11/0/precommit A t2", extension: "price 7", want: true, also: true},
		{name: "v1 and v2 with extensions off", vote: "11/0/precommit A t2", skip: true},
		{name: "skip, and an extension", vote: "11/0/precommit A t2", extension: "price 7", skip: true},
		{name: "v2 with bytes of its own, not allowed", vote: "11/0/precommit A t2", extension: "price 7", nonRP: "raw", refused: "raw_bytes"},
		{name: "v2 with bytes of its own, allowed", vote: "11/0/precommit A t2", extension: "price 7", nonRP: "raw", allowed: true, want: true, also: true},
		{name: "skip, and bytes of its own", vote: "11/0/precommit A t2", nonRP: "raw", skip: true, refused: "raw_bytes"},
		{name: "allowed, and skip", vote: "11/0/precommit A t2", nonRP: "raw", skip: true, allowed: true},
		{name: "a vote as bytes of its own", vote: "11/0/precommit A t2", nonRP: string(signBytes(t, "12/0/precommit B t2")), allowed: true, refused: "raw_bytes"},
		{name: "a vote without its length", vote: "11/0/precommit A t2", nonRP: string(signBytes(t, "12/0/precommit B t2")[1:]), allowed: true, refused: "raw_bytes"},
		{name: "an extension as bytes of its own", vote: "11/0/precommit A t2", nonRP: string(extensionBytes(t, "12/0/precommit B t2", "price 8")), allowed: true, refused: "raw_bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var e signer.Event
			key := newTestKey()
			conf := config(key)
			conf.AllowSignBytes = c.allowed
			conf.Observe = func(event signer.Event) { e = event }
			s := newSigner(t, conf)
			req := say(t, c.vote)
			req.Extension, req.NonRPExtension, req.SkipExtensionSigning = []byte(c.extension), []byte(c.nonRP), c.skip
			resp := ask(t, s, req)
			if e.Reason != c.refused || (resp.Refused != "") != (c.refused != "") {
				t.Fatalf("refused with %q: %s", e.Reason, resp.Refused)
			}
			if c.refused != "" {
				if mark := s.Last().Mark; mark.Height != 10 {
					t.Errorf("refused, and yet the mark went to %v", mark)
				}
				return
			}
			if !key.verify(req.SignBytes(), resp.Signature) {
				t.Error("the vote is not signed")
			}
			checkSignature(t, "extension", key, req.ExtensionSignBytes(), resp.ExtensionSignature, c.want)
			checkSignature(t, "non_rp_extension", key, []byte(c.nonRP), resp.NonRPExtensionSignature, c.also)
		})
	}
}

func checkSignature(t *testing.T, what string, key *testKey, msg, sig []byte, want bool) {
	t.Helper()
	if want != (sig != nil) || want && !key.verify(msg, sig) {
		t.Errorf("%s: signature %x over %q, wanted: %v", what, sig, msg, want)
	}
}

func signBytes(t *testing.T, vote string) []byte {
	r := say(t, vote)
	return r.SignBytes()
}

func extensionBytes(t *testing.T, vote, extension string) []byte {
	r := say(t, vote)
	r.Extension = []byte(extension)
	return r.ExtensionSignBytes()
}

// An application may change its extension between two requests for one vote:
// each is signed, the vote is the recorded one.
func TestExtensionThatChanges(t *testing.T) {
	key := newTestKey()
	s := newSigner(t, config(key))
	first := say(t, "11/0/precommit A t2")
	for i, extension := range []string{"price 7", "price 8", ""} {
		req := say(t, fmt.Sprintf("11/0/precommit A t%d", 2+i))
		req.Extension = []byte(extension)
		resp := ask(t, s, req)
		if !key.verify(first.SignBytes(), resp.Signature) {
			t.Error("the vote is another one")
		}
		checkSignature(t, extension, key, req.ExtensionSignBytes(), resp.ExtensionSignature, true)
	}
	// For the vote that is refused, the extension is not signed either.
	req := say(t, "11/0/precommit B t2")
	req.Extension = []byte("price 9")
	if resp := ask(t, s, req); resp.Refused == "" || resp.ExtensionSignature != nil {
		t.Errorf("got %+v", resp)
	}
}

// Either all signatures of a vote leave, or none.
func TestExtensionThatCannotBeSigned(t *testing.T) {
	for _, script := range []string{"ok fails", "ok lies", "ok ok fails", "ok ok lies"} {
		key := newTestKey()
		s := newSigner(t, config(key))
		key.setScript(strings.Fields(script))
		req := say(t, "11/0/precommit A t2")
		resp, err := s.Handle(t.Context(), "n1", &req)
		if err == nil || resp.Signature != nil || resp.ExtensionSignature != nil || resp.NonRPExtensionSignature != nil || resp.Refused != "" {
			t.Errorf("%s: %+v, %v", script, resp, err)
		}
		if resp := ask(t, s, req); !key.verify(req.SignBytes(), resp.Signature) || resp.ExtensionSignature == nil || resp.NonRPExtensionSignature == nil {
			t.Errorf("%s: and then %+v", script, resp)
		}
	}
}

// The signature over nothing is made once.
func TestSignatureOverNothing(t *testing.T) {
	key := newTestKey()
	s := newSigner(t, config(key))
	before := 0
	for i, want := range []int{3, 2, 2} {
		ask(t, s, say(t, fmt.Sprintf("%d/0/precommit A t2", 11+i)))
		if got := key.asked - before; got != want {
			t.Errorf("vote %d: %d signatures, want %d", i, got, want)
		}
		before = key.asked
	}
}

// TestRawBytes: what is signed as it comes, and when.
func TestRawBytes(t *testing.T) {
	celestia := func(b []byte) privval.Request {
		return privval.Request{Kind: privval.KindRawBytes, ChainID: chain, Bytes: b, UniqueID: "u"}
	}
	plain := func(b []byte) privval.Request { return privval.Request{Kind: privval.KindSignBytes, Bytes: b} }
	vote, proposal := signBytes(t, "12/0/precommit B t2"), signBytes(t, "12/0/proposal B t2")
	nothing, raw, both := [2]bool{}, [2]bool{false, true}, [2]bool{true, true}
	for _, c := range []struct {
		name    string
		allow   [2]bool // sign_bytes, raw_bytes
		req     privval.Request
		refused string
	}{
		{"v1, not allowed", nothing, plain([]byte("randao")), "allow_sign_bytes is off"},
		{"v1, only Celestia's allowed", raw, plain([]byte("randao")), "allow_sign_bytes is off"},
		{"v1", both, plain([]byte("randao")), ""},
		{"v1, a hash", both, plain(bytes.Repeat([]byte{0xc4}, 32)), ""},
		{"v1, nothing", both, plain(nil), "there are no bytes to sign"},
		{"v1, a vote", both, plain(vote), "could be taken for a vote"},
		{"v1, a vote without its length", both, plain(vote[1:]), "could be taken for a vote"},
		{"v1, a nil vote", both, plain(signBytes(t, "12/0/prevote nil t2")), "could be taken for a vote"},
		{"v1, a vote of another chain", both, plain(signBytes(t, "12/0/prevote nil t2 chain=other")), "could be taken for a vote"},
		{"v1, a proposal", both, plain(proposal), "could be taken for a vote"},
		{"v1, a proposal without its length", both, plain(proposal[1:]), "could be taken for a vote"},
		{"v1, an extension", both, plain(extensionBytes(t, "12/0/precommit B t2", "price")), "could be taken for a vote"},
		{"v1, an empty extension", both, plain(extensionBytes(t, "12/0/precommit B t2", "")), "could be taken for a vote"},
		{"Celestia, not allowed", nothing, celestia([]byte("share")), "allow_raw_bytes is off"},
		{"Celestia, only v1's allowed", [2]bool{true, false}, celestia([]byte("share")), "allow_raw_bytes is off"},
		{"Celestia", raw, celestia([]byte("share")), ""},
		{"Celestia, a vote, behind the prefix", raw, celestia(vote), ""},
		{"Celestia, nothing", raw, celestia(nil), "there are no bytes to sign"},
		{"Celestia, another chain", raw, privval.Request{Kind: privval.KindRawBytes, ChainID: "other", Bytes: []byte("share"), UniqueID: "u"}, `asked for chain "other"`},
	} {
		var e signer.Event
		key := newTestKey()
		conf := config(key)
		conf.AllowSignBytes, conf.AllowRawBytes = c.allow[0], c.allow[1]
		conf.Observe = func(event signer.Event) { e = event }
		fake := storetest.NewFake(readMark(t, []string{"10/0/precommit", "A", "t1"}))
		conf.Store = fake
		s := newSigner(t, conf)
		resp := ask(t, s, c.req)
		switch {
		case resp.Kind != c.req.Kind:
			t.Errorf("%s: an answer of kind %v", c.name, resp.Kind)
		case c.refused != "" && (!strings.Contains(resp.Refused, c.refused) || resp.Signature != nil || key.asked != 0):
			t.Errorf("%s: %+v does not say %q", c.name, resp, c.refused)
		case c.refused == "" && (resp.Refused != "" || !key.verify(c.req.RawSignBytes(), resp.Signature)):
			t.Errorf("%s: %+v", c.name, resp)
		case c.refused != "" && e.Reason != "raw_bytes" && e.Reason != "wrong_chain":
			t.Errorf("%s: reason %q", c.name, e.Reason)
		case fake.Calls() != 1:
			t.Errorf("%s: the store was asked", c.name)
		}
	}
}

// Raw bytes wait for their turn, like all that the key does.
func TestRawBytesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newTestKey()
		conf := config(key)
		conf.AllowSignBytes = true
		s := newSigner(t, conf)
		key.setScript([]string{"hangs"})
		done := make(chan privval.Response, 1)
		go func() { done <- ask(t, s, say(t, "11/0/prevote A t2")) }()
		synctest.Wait() // it hangs in the key

		ctx, cancel := context.WithTimeout(t.Context(), answerTime)
		defer cancel()
		req := privval.Request{Kind: privval.KindSignBytes, Bytes: []byte("randao")}
		if resp, err := s.Handle(ctx, "n1", &req); !errors.Is(err, context.DeadlineExceeded) || resp.Signature != nil {
			t.Errorf("got %+v, %v", resp, err)
		}
		key.letGo()
		if resp := <-done; resp.Refused != "" || resp.Signature == nil {
			t.Errorf("got %+v", resp)
		}
		if resp := ask(t, s, req); !key.verify(req.Bytes, resp.Signature) {
			t.Errorf("got %+v", resp)
		}
	})
}

// Bytes without a height stop at a witness like everything else.
func TestRawBytesAndAWitness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bounds atomic.Pointer[watermark.Bounds]
		says := func(b watermark.Bounds) { bounds.Store(&b) }
		says(watermark.Bounds{Hold: "on purpose"})
		c := config(newTestKey())
		c.Store = storetest.NewFake(watermark.Mark{})
		c.AllowSignBytes = true
		c.Bounds = func() watermark.Bounds { return *bounds.Load() }
		s := newSigner(t, c)
		req := privval.Request{Kind: privval.KindSignBytes, Bytes: []byte("randao")}
		handle := func() (privval.Response, error) {
			ctx, cancel := context.WithTimeout(t.Context(), answerTime)
			defer cancel()
			return s.Handle(ctx, "n1", &req)
		}
		if _, err := handle(); !errors.Is(err, watermark.ErrHeld) {
			t.Errorf("held: %v", err)
		}
		says(watermark.Bounds{Stop: "on purpose"})
		if resp, err := handle(); err != nil || !strings.Contains(resp.Refused, "duplicate_signer") {
			t.Errorf("stopped: %+v, %v", resp, err)
		}
		// What holds us back ends while the request waits: it is answered at once.
		changed := make(chan struct{})
		says(watermark.Bounds{Hold: "on purpose", Changed: changed})
		time.AfterFunc(time.Millisecond, func() { says(watermark.Bounds{}); close(changed) })
		start := time.Now()
		if resp, err := handle(); err != nil || resp.Signature == nil || time.Since(start) != time.Millisecond {
			t.Errorf("let go: %+v, %v, after %v", resp, err, time.Since(start))
		}
	})
}
