package e2e

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"privyseal/internal/privval"
	"privyseal/internal/pubkey"
)

// The ledger finds what the test is for.
func TestLedger(t *testing.T) {
	say := func(kind privval.Kind, height int64, round int32, block byte, nanos int32) []byte {
		r := privval.Request{Kind: kind, ChainID: hostsChain, Height: height, Round: round, Timestamp: privval.Timestamp{Seconds: 1, Nanos: nanos}}
		if block != 0 {
			r.BlockID = privval.BlockID{Hash: bytes.Repeat([]byte{block}, 32), PartsTotal: 1, PartsHash: bytes.Repeat([]byte{block}, 32)}
		}
		return r.SignBytes()
	}
	first := say(privval.KindPrecommit, 5, 0, 1, 1)
	for name, tt := range map[string]struct {
		then  []byte
		wrong bool
	}{
		"the same bytes":    {first, false},
		"another block":     {say(privval.KindPrecommit, 5, 0, 2, 1), true},
		"nil":               {say(privval.KindPrecommit, 5, 0, 0, 1), true},
		"another timestamp": {say(privval.KindPrecommit, 5, 0, 1, 2), true},
		"another round":     {say(privval.KindPrecommit, 5, 1, 2, 1), false},
		"another height":    {say(privval.KindPrecommit, 6, 0, 2, 1), false},
		"another step":      {say(privval.KindPrevote, 5, 0, 2, 1), false},
		"no message":        {[]byte("x"), true},
	} {
		l := newLedger()
		l.listens.Store(true)
		l.made(1, first)
		l.made(1, tt.then)
		if (len(l.wrong) > 0) != tt.wrong {
			t.Errorf("%s: %q", name, l.wrong)
		}
	}
}

// The ledger finds extensions that nobody asked for, and those in blocks that are not ours.
func TestLedgerOfExtensions(t *testing.T) {
	secret := ed25519.NewKeyFromSeed(make([]byte, 32))
	key, err := pubkey.New(pubkey.Ed25519, secret.Public().(ed25519.PublicKey))
	check(t, err)
	request := func(height int64, round int32, text string) privval.Request {
		return privval.Request{Kind: privval.KindPrecommit, ChainID: hostsChain, Height: height, Round: round, Extension: []byte(text),
			BlockID: privval.BlockID{Hash: make([]byte, 32), PartsTotal: 1, PartsHash: make([]byte, 32)}}
	}
	signBytes := func(height int64, round int32, text string) []byte {
		r := request(height, round, text)
		return r.ExtensionSignBytes()
	}
	precommit := request(5, 0, "")
	carry := func(height int64, round int32, text string) map[int64]extension {
		return map[int64]extension{height: {round: round, bytes: []byte(text), signature: ed25519.Sign(secret, signBytes(height, round, text))}}
	}
	forged := carry(5, 0, "a")
	forged[5].signature[0] ^= 1
	said := func(height int64, extension []byte) bool {
		return height == 5 && (string(extension) == "a" || string(extension) == "b")
	}
	for name, tt := range map[string]struct {
		signed  [][]byte
		carried map[int64]extension
		wrong   string
	}{
		"two nodes, and one of them in a block": {[][]byte{signBytes(5, 0, "a"), signBytes(5, 0, "b")}, carry(5, 0, "b"), ""},
		"the same twice":                        {[][]byte{signBytes(5, 0, "a"), signBytes(5, 0, "a")}, carry(5, 0, "a"), ""},
		"what no node of ours said":             {[][]byte{signBytes(5, 0, "c")}, nil, "nobody said"},
		"what was said at another height":       {[][]byte{signBytes(6, 0, "a")}, nil, "nobody said"},
		"an empty one":                          {[][]byte{signBytes(5, 0, "")}, nil, "nobody said"},
		"a block has what no device signed":     {[][]byte{signBytes(5, 0, "a")}, carry(5, 0, "b"), "no device has signed"},
		"a block has that of another round":     {[][]byte{signBytes(5, 0, "a")}, carry(5, 1, "a"), "no device has signed"},
		"a block has a signature of nobody":     {[][]byte{signBytes(5, 0, "a")}, forged, "does not verify"},
		"beside a precommit of no device":       {[][]byte{signBytes(5, 1, "a")}, carry(5, 1, "a"), "no precommit"},
	} {
		l := newLedger()
		l.listens.Store(true)
		l.made(1, precommit.SignBytes())
		for _, message := range tt.signed {
			l.made(1, message)
		}
		wrong := fmt.Sprint(l.judgeExtensions(key, tt.carried, said))
		if tt.wrong == "" && wrong != "[]" || !strings.Contains(wrong, tt.wrong) || len(l.wrong) > 0 {
			t.Errorf("%s: %s, %q", name, wrong, l.wrong)
		}
	}
}

// ledger knows each signature that a device has made, and when.
type ledger struct {
	oracle

	mu       sync.Mutex
	seen     map[place]bool
	at       []time.Time // of the first signature at each place
	extended map[place][][]byte
	events   []event
}

type event struct {
	what   string
	when   time.Time
	height int64
}

func newLedger() *ledger {
	return &ledger{oracle: oracle{signed: map[place][]byte{}}, seen: map[place]bool{}, extended: map[place][][]byte{}}
}

func (l *ledger) made(key uint16, message []byte) {
	p, ok := placeOf(message)
	if !ok {
		l.oracle.made(key, message)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// What is said beside a precommit may differ from node to node: it is no vote.
	if p.kind == 0 {
		if l.listens.Load() && !slices.ContainsFunc(l.extended[p], func(b []byte) bool { return bytes.Equal(b, message) }) {
			l.extended[p] = append(l.extended[p], message)
		}
		return
	}
	if !l.seen[p] {
		l.seen[p] = true
		l.at = append(l.at, time.Now())
	}
	l.oracle.made(key, message)
}

// count returns at how many places something was signed.
func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.at)
}

// extendedTwice returns beside how many precommits more than one extension was signed.
func (l *ledger) extendedTwice() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, all := range l.extended {
		if len(all) > 1 {
			n++
		}
	}
	return n
}

// event notes what happens, and the height of the chain.
func (l *ledger) event(what string, height int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, event{what, time.Now(), height})
}

// near returns what happened shortly before a height, and at it.
func (l *ledger) near(height int64) (list []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if height-8 <= e.height && e.height <= height+1 {
			list = append(list, fmt.Sprintf("%d: %s", e.height, e.what))
		}
	}
	return list
}

// top returns the highest height at which something was signed.
func (l *ledger) top() (height int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.seen {
		height = max(height, int64(p.height))
	}
	return height
}

// judgeExtensions returns what is wrong with the extensions: each that was signed has to be
// one that an application of ours said at that height, and what a block carries of our
// precommit has to be one that was signed, beside a precommit for a block.
func (l *ledger) judgeExtensions(key pubkey.Key, carried map[int64]extension, said func(height int64, extension []byte) bool) (wrong []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, all := range l.extended {
		for _, message := range all {
			if !said(int64(p.height), extensionIn(message)) {
				wrong = append(wrong, fmt.Sprintf("an extension at %+v that nobody said: %x", p, message))
			}
		}
	}
	l.oracle.mu.Lock()
	defer l.oracle.mu.Unlock()
	for _, height := range slices.Sorted(maps.Keys(carried)) {
		e := carried[height]
		p := place{hostsChain, 0, uint64(height), uint64(e.round)}
		at := slices.IndexFunc(l.extended[p], func(b []byte) bool { return bytes.Equal(extensionIn(b), e.bytes) })
		beside := p
		beside.kind = 2
		switch {
		case at < 0:
			wrong = append(wrong, fmt.Sprintf("a block carries an extension at %+v that no device has signed: %q", p, e.bytes))
		case !key.Verify(l.extended[p][at], e.signature):
			wrong = append(wrong, fmt.Sprintf("a block carries an extension at %+v whose signature the key does not verify", p))
		case field(body(l.signed[beside]), 4) == nil:
			wrong = append(wrong, fmt.Sprintf("a block carries an extension at %+v, and no precommit for a block was signed there", p))
		}
	}
	return wrong
}

// extensionIn returns the extension in a CanonicalVoteExtension.
func extensionIn(message []byte) []byte { return field(body(message), 1) }

// body returns a message without its length.
func body(message []byte) []byte {
	inside, _ := protowire.ConsumeBytes(message)
	return inside
}

// conflicts fails on two messages at one place.
func (l *ledger) conflicts(t *testing.T) {
	t.Helper()
	l.oracle.mu.Lock()
	defer l.oracle.mu.Unlock()
	if len(l.wrong) > 0 {
		t.Errorf("%q", l.wrong)
	}
}

// judge returns the heights without a precommit. A node that lags behind by an election sees
// the precommits of others before it comes to its own prevote, and leaves that out.
func (l *ledger) judge(t *testing.T, first, last int64) (missing []int64) {
	t.Helper()
	l.oracle.mu.Lock()
	defer l.oracle.mu.Unlock()
	steps := map[int64]uint64{}
	for p := range l.signed {
		steps[int64(p.height)] |= 1 << p.kind
	}
	prevotes := 0
	for height := first; height < last; height++ {
		if steps[height]&(1<<1) != 0 {
			prevotes++
		}
		if steps[height]&(1<<2) == 0 {
			missing = append(missing, height)
		}
	}
	t.Logf("%d messages were signed, at %d of %d heights a prevote", len(l.signed), prevotes, last-first)
	l.table(t)
	return missing
}

// table logs the longest time without a signature at a new step after each event.
func (l *ledger) table(t *testing.T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, e := range l.events {
		end := time.Now()
		if i+1 < len(l.events) {
			end = l.events[i+1].when
		}
		before, worst := e.when, time.Duration(0)
		for _, at := range l.at {
			if at.After(e.when) && at.Before(end) {
				worst = max(worst, at.Sub(before))
				before = at
			}
		}
		t.Logf("%5d: %-70s longest time without a new signature: %v", e.height, e.what, worst.Round(time.Millisecond))
	}
}
