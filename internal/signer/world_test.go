package signer_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"privyseal/internal/privval"
	"privyseal/internal/signer"
	"privyseal/internal/watermark"
	"privyseal/internal/watermark/storetest"
)

const chain = "chain-1"

// config returns a configuration for key without store or observer.
func config(key *testKey) signer.Config {
	return signer.Config{
		ChainID: chain, Key: key, Verify: key.verify, Nodes: 1,
		PubKey: privval.PubKey{Type: "ed25519", Bytes: key.pub()},
	}
}

// testKey is an Ed25519 key that looks over the signer's shoulder: a vote or a
// proposal that it is asked for must be durable already.
type testKey struct {
	ed25519.PrivateKey
	durable  func() watermark.Mark // of the store; nil: not looked at
	released chan struct{}

	mu     sync.Mutex
	script []string
	faults []string
	asked  int
}

func newTestKey() *testKey {
	return &testKey{PrivateKey: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)), released: make(chan struct{})}
}

func (k *testKey) pub() []byte { return k.Public().(ed25519.PublicKey) }

func (k *testKey) verify(msg, sig []byte) bool { return ed25519.Verify(k.pub(), msg, sig) }

// setScript sets what becomes of the next signatures: ok, fails, lies, hangs,
// empty.
func (k *testKey) setScript(script []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.script = script
}

// letGo ends all that hangs.
func (k *testKey) letGo() { close(k.released) }

func (k *testKey) check(t *testing.T) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, f := range k.faults {
		t.Error("the key was asked for", f)
	}
}

func (k *testKey) Sign(rand io.Reader, msg []byte, opts crypto.SignerOpts) ([]byte, error) {
	switch k.next(msg, opts) {
	case "fails":
		return nil, errors.New("the key failed on purpose")
	case "lies":
		sig, err := k.PrivateKey.Sign(rand, append(slices.Clone(msg), 1), opts)
		return sig, err
	case "empty":
		return nil, nil
	case "hangs":
		<-k.released
	}
	return k.PrivateKey.Sign(rand, msg, opts)
}

func (k *testKey) next(msg []byte, opts crypto.SignerOpts) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked++
	if opts.HashFunc() != 0 {
		k.faults = append(k.faults, "a digest")
	}
	if _, err := privval.ParseSignBytes(msg); err == nil && k.durable != nil && !bytes.Equal(k.durable().SignBytes, msg) {
		k.faults = append(k.faults, "what is not durable")
	}
	if len(k.script) == 0 {
		return "ok"
	}
	next := k.script[0]
	k.script = k.script[1:]
	return next
}

// ledger is what the world outside has seen: one message for each height,
// round and step, timestamp included.
type ledger struct {
	mu        sync.Mutex
	signed    map[position]string
	conflicts []string
	top       watermark.Mark
}

type position struct {
	height int64
	round  int32
	step   watermark.Step
}

func (l *ledger) add(m watermark.Mark) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := position{m.Height, m.Round, m.Step}
	if before, ok := l.signed[at]; ok && before != string(m.SignBytes) {
		l.conflicts = append(l.conflicts, m.String())
	}
	if l.signed == nil {
		l.signed = map[position]string{}
	}
	l.signed[at] = string(m.SignBytes)
	if l.top.Less(m) {
		l.top = m
	}
}

func (l *ledger) check(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conflicts {
		t.Errorf("DOUBLE SIGN: two messages at %s", c)
	}
}

func outcomesOf(t *testing.T, words []string) (outcomes []storetest.Outcome) {
	t.Helper()
	names := []string{"ok", "before", "after", "late", "silent-before", "silent-after"}
	for _, w := range words {
		i := slices.Index(names, w)
		if i < 0 {
			t.Fatalf("no outcome %q", w)
		}
		outcomes = append(outcomes, storetest.Outcome(i))
	}
	return outcomes
}

// request reads HEIGHT/ROUND/STEP VALUE tSECOND [pol=N] [chain=ID].
func request(t *testing.T, words []string) privval.Request {
	t.Helper()
	at := strings.Split(words[0], "/")
	kinds := map[string]privval.Kind{"proposal": privval.KindProposal, "prevote": privval.KindPrevote, "precommit": privval.KindPrecommit}
	r := privval.Request{
		Kind: kinds[at[2]], ChainID: chain, Height: number(t, at[0]), Round: int32(number(t, at[1])),
		BlockID:   block(words[1]),
		Timestamp: privval.Timestamp{Seconds: number(t, strings.TrimPrefix(words[2], "t"))},
	}
	if r.Kind == 0 {
		t.Fatalf("no step %q", at[2])
	}
	if r.Kind == privval.KindProposal {
		r.POLRound = -1
	}
	for _, w := range words[3:] {
		switch name, value, _ := strings.Cut(w, "="); name {
		case "pol":
			r.POLRound = int32(number(t, value))
		case "chain":
			r.ChainID = value
		default:
			t.Fatalf("what is %q?", w)
		}
	}
	return r
}

// readMark reads a message as request does, HEIGHT/ROUND/STEP ?, or floor HEIGHT.
func readMark(t *testing.T, words []string) watermark.Mark {
	t.Helper()
	if words[0] == "floor" {
		return watermark.Floor(number(t, words[1]))
	}
	if words[1] == "?" {
		m := markOf(request(t, []string{words[0], "A", "t1"}))
		m.SignBytes = nil
		return m
	}
	return markOf(request(t, words))
}

func markOf(r privval.Request) watermark.Mark {
	steps := map[privval.Kind]watermark.Step{
		privval.KindProposal: watermark.StepProposal, privval.KindPrevote: watermark.StepPrevote, privval.KindPrecommit: watermark.StepPrecommit,
	}
	return watermark.Mark{Height: r.Height, Round: r.Round, Step: steps[r.Kind], SignBytes: r.SignBytes()}
}

// block returns the block of a name, or none for nil.
func block(name string) privval.BlockID {
	if name == "nil" {
		return privval.BlockID{}
	}
	return privval.BlockID{Hash: bytes.Repeat([]byte(name[:1]), 32), PartsTotal: 1, PartsHash: bytes.Repeat([]byte(name[:1]), 32)}
}

func nameOf(id privval.BlockID) string {
	if id.IsNil() {
		return "nil"
	}
	return string(id.Hash[:1])
}

func number(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func duration(t *testing.T, s string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
