package hostlink

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"privyseal/internal/secret"
	"privyseal/internal/watermark"
	"privyseal/internal/watermark/storetest"
)

var (
	testID  = watermark.ID{ChainID: "chain-1", Key: [32]byte{1, 2, 3}}
	testKey = Key{9, 9, 9}
)

// firstRecord is the record that the making of a key leaves with the host.
func firstRecord(t testing.TB) []byte {
	t.Helper()
	sealed, err := testKey.Seal(testID, Record{Seq: 1, Time: time.Unix(1, 0)})
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// host is an honest host whose store can be made to fail.
type host struct {
	fake   *storetest.Fake
	keeper *Keeper
}

func newHost(t testing.TB) *host {
	m, err := HostMark(firstRecord(t))
	if err != nil {
		t.Fatal(err)
	}
	fake := storetest.NewFake(m)
	return &host{fake: fake, keeper: &Keeper{ID: testID, Store: fake}}
}

// dial is what an enclave dials StatePort with.
func (h *host) dial(t testing.TB) func(context.Context) (net.Conn, error) {
	return func(context.Context) (net.Conn, error) {
		inside, outside := net.Pipe()
		go func() {
			defer outside.Close()
			id, err := ReadStateOpen(outside)
			if err != nil || id != testID {
				RefuseState(outside, errors.New("no such state"))
				return
			}
			h.keeper.Serve(t.Context(), outside)
		}()
		return inside, nil
	}
}

func (h *host) open(t testing.TB) *Store {
	return &Store{Dial: h.dial(t), ID: testID, Key: testKey, Boot: [16]byte{7}}
}

func TestStoreConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) watermark.Store { return newHost(t).open(t) })
}

// Two enclaves on one state, an honest host between them: each mark has one
// writer, and the other one gets an error.
func TestTwinsOnAnHonestHost(t *testing.T) {
	storetest.RunShared(t, func(t *testing.T) (a, b watermark.Store) {
		h := newHost(t)
		return h.open(t), h.open(t)
	})
}

func mark(height int64) watermark.Mark {
	return watermark.Mark{Height: height, Step: watermark.StepPrevote, SignBytes: []byte{byte(height)}}
}

// The host's disk fails in every way it can. The enclave's mark is the one it
// sent last, whatever became of it outside.
func TestHostStoreFails(t *testing.T) {
	for name, outcome := range map[string]storetest.Outcome{"before": storetest.Before, "after": storetest.After} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			s := h.open(t)
			saved, err := s.Load(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			h.fake.Script(outcome)
			if _, err := s.Replace(t.Context(), saved, mark(5)); err == nil {
				t.Fatal("acknowledged by a host whose disk failed")
			}
			if _, err := s.Replace(t.Context(), saved, mark(6)); err == nil {
				t.Fatal("not poisoned")
			}
			saved, err = s.Load(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !saved.Mark.Equal(mark(5)) {
				t.Errorf("after the failure the mark is %v, want what was sent", saved.Mark)
			}
			// And the host has it.
			r, err := ReadRecord(h.fake.Saved().Mark.SignBytes)
			if err != nil || !r.Mark.Equal(mark(5)) {
				t.Errorf("the host has %v, %v", r.Mark, err)
			}
		})
	}
}

// liar answers each frame as the test says.
func liar(t *testing.T, answers ...[]byte) func(context.Context) (net.Conn, error) {
	return func(context.Context) (net.Conn, error) {
		inside, outside := net.Pipe()
		go func() {
			defer outside.Close()
			for _, a := range answers {
				if _, err := readFrame(outside, maxFrame); err != nil {
					return
				}
				if a == nil {
					io.Copy(io.Discard, outside) // silent
					return
				}
				if writeFrame(outside, a) != nil {
					return
				}
			}
		}()
		return inside, nil
	}
}

// What a hostile host can answer, and that it gets nothing signed by it: every
// lie is an error of the store, after which the signer may not sign.
func TestHostileHost(t *testing.T) {
	seal := func(key Key, id watermark.ID, seq uint64, m watermark.Mark) []byte {
		sealed, err := key.Seal(id, Record{Seq: seq, Mark: m})
		if err != nil {
			t.Fatal(err)
		}
		return sealed
	}
	current := seal(testKey, testID, 5, mark(50))
	frame := func(kind byte, body []byte) []byte { return append([]byte{kind}, body...) }
	flipped := slices.Clone(current)
	flipped[40]++

	for name, tc := range map[string]struct {
		answers [][]byte
		want    error // nil: any
	}{
		"forged record":         {[][]byte{frame('R', flipped)}, ErrForged},
		"record of another key": {[][]byte{frame('R', seal(Key{1}, testID, 5, mark(50)))}, ErrForged},
		"another chain's":       {[][]byte{frame('R', seal(testKey, watermark.ID{ChainID: "chain-2", Key: testID.Key}, 5, mark(50)))}, ErrForged},
		"no record":             {[][]byte{frame('R', nil)}, ErrForged},
		"a long record":         {[][]byte{frame('R', make([]byte, 900))}, ErrForged},
		"garbage":               {[][]byte{[]byte("hello")}, nil},
		"an empty frame":        {[][]byte{{}}, nil},
		"silence":               {[][]byte{nil}, nil},
		"ack of another record": {[][]byte{frame('R', current), frame('A', firstRecord(t))}, nil},
		"moved to an older one": {[][]byte{frame('R', current), frame('M', seal(testKey, testID, 4, mark(40)))}, ErrReplay},
		"moved to a forged one": {[][]byte{frame('R', current), frame('M', flipped)}, ErrForged},
		"moved forever":         {[][]byte{frame('R', current), frame('M', seal(testKey, testID, 6, mark(60))), frame('M', seal(testKey, testID, 7, mark(70)))}, nil},
		"higher number, lower mark": {
			[][]byte{frame('R', current), frame('M', seal(testKey, testID, 9, mark(40)))}, ErrReplay},
		"lower number, higher mark": {
			[][]byte{frame('R', current), frame('M', seal(testKey, testID, 4, mark(60)))}, ErrReplay},
		"same number, higher mark": {
			[][]byte{frame('R', current), frame('M', seal(testKey, testID, 5, mark(60)))}, ErrReplay},
		"higher number, same mark, other bytes": {
			[][]byte{frame('R', current), frame('M', seal(testKey, testID, 9, watermark.Mark{Height: 50, Step: watermark.StepPrevote, SignBytes: []byte("other")}))}, ErrReplay},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Store{Dial: liar(t, tc.answers...), ID: testID, Key: testKey}
			// What is not a lie that could be named ends with the caller's time.
			patience := 50 * time.Millisecond
			if tc.want != nil {
				patience = time.Minute
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			saved, err := s.Load(ctx)
			if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("Load: %+v, %v, want %v", saved, err, tc.want)
			}
			if _, err := s.Replace(t.Context(), saved, mark(99)); err == nil {
				t.Error("Replace after a lie")
			}
		})
	}
}

// A host that replays an old record within one boot gets the newer one sent
// again, and no way back.
func TestReplayWithinABoot(t *testing.T) {
	h := newHost(t)
	s := h.open(t)
	saved, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	old := h.fake.Saved().Mark
	for height := range int64(3) {
		if saved, err = s.Replace(t.Context(), saved, mark(height+1)); err != nil {
			t.Fatal(err)
		}
	}
	h.fake.Put(old) // a snapshot of the host's disk
	h.keeper.loaded = false
	if saved, err = s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !saved.Mark.Equal(mark(3)) {
		t.Errorf("the mark went back to %v", saved.Mark)
	}
	if r, err := ReadRecord(h.fake.Saved().Mark.SignBytes); err != nil || !r.Mark.Equal(mark(3)) {
		t.Errorf("the host got no report: %v, %v", r, err)
	}
	// Authenticated is not fresh: at the next boot the same replay works, and
	// only a watcher of the attested sequence numbers can see it.
	h.fake.Put(old)
	h.keeper.loaded = false
	reborn := h.open(t)
	if saved, err := reborn.Load(t.Context()); err != nil || !saved.Mark.IsZero() {
		t.Errorf("the threat model says that this works: %v, %v", saved, err)
	}
	if reborn.last.Seq >= s.last.Seq {
		t.Error("the replay does not show in the sequence number")
	}
}

// Whatever a host answers, each record of a boot has a number of its own, one above
// what the enclave knew: documents with two marks at one number would prove nothing.
func TestNumbersRise(t *testing.T) {
	rng := mathrand.New(mathrand.NewPCG(1, 2))
	for range 200 {
		h := &fickleHost{t: t, rng: rng, current: Record{Seq: 5, Mark: mark(1)}, sent: map[uint64][]byte{}}
		s := &Store{Dial: h.dial, ID: testID, Key: testKey, Boot: [16]byte{7}}
		for range 30 {
			saved, err := s.Load(t.Context())
			for err == nil {
				if saved.Mark.Height > 200 {
					break
				}
				h.known = saved.Version
				saved, err = s.Replace(t.Context(), saved, mark(saved.Mark.Height+1))
			}
		}
		if len(h.sent) == 0 {
			t.Fatal("nothing was sent")
		}
	}
}

// fickleHost acknowledges, refuses, hangs up, or brings a twin's record, by chance.
type fickleHost struct {
	t       *testing.T
	rng     *mathrand.Rand
	current Record            // as the host has it
	known   uint64            // the last number that the enclave knew
	sent    map[uint64][]byte // by number, what this boot of the enclave has made
}

func (h *fickleHost) dial(context.Context) (net.Conn, error) {
	inside, outside := net.Pipe()
	answers := make([]int, 64)
	for i := range answers {
		answers[i] = h.rng.IntN(6)
	}
	go func() {
		defer outside.Close()
		if _, err := ReadStateOpen(outside); err != nil {
			return
		}
		writeFrame(outside, append([]byte{frameCurrent}, h.seal(h.current)...))
		for _, answer := range answers {
			frame, err := readFrame(outside, maxFrame)
			if err != nil || writeFrame(outside, h.put(frame[1:], answer)) != nil {
				return
			}
		}
	}()
	return inside, nil
}

// put looks at a record of the enclave, and answers it.
func (h *fickleHost) put(sealed []byte, answer int) []byte {
	r, err := testKey.Open(testID, sealed)
	if err != nil {
		h.t.Error(err)
	}
	switch before := h.sent[r.Seq]; {
	case r.Boot != [16]byte{7}: // a twin's, sent back
	case before == nil:
		h.sent[r.Seq] = bytes.Clone(sealed)
		if r.Seq != h.known+1 {
			h.t.Errorf("number %d follows %d", r.Seq, h.known)
		}
	case !bytes.Equal(before, sealed):
		h.t.Errorf("number %d stands on two records", r.Seq)
	}
	switch {
	case answer == 0:
		return []byte{frameError, 'n', 'o'}
	case answer == 1: // a twin was quicker, with the number of this record or a higher one
		h.current = Record{Seq: r.Seq + uint64(r.Mark.Height%2), Boot: [16]byte{8}, Mark: mark(r.Mark.Height + 1)}
		return append([]byte{frameMoved}, h.seal(h.current)...)
	}
	h.current = r
	return append([]byte{frameAck}, sealed...)
}

func (h *fickleHost) seal(r Record) []byte {
	sealed, err := testKey.Seal(testID, r)
	if err != nil {
		h.t.Error(err)
	}
	return sealed
}

// The MAC covers where the chain id ends: else a record of one chain would be that of
// another, whose id is shorter and whose key begins with the rest.
func TestRecordsKnowWhereTheChainIDEnds(t *testing.T) {
	id := watermark.ID{ChainID: "chain-1", Key: [32]byte(bytes.Repeat([]byte{3}, 32))}
	sealed, err := testKey.Seal(id, Record{Seq: 1<<48 + 1, Mark: mark(7)})
	if err != nil {
		t.Fatal(err)
	}
	shorter := watermark.ID{ChainID: "chain-"}
	copy(shorter.Key[:], append([]byte("1"), id.Key[:31]...))
	shifted := append([]byte{id.Key[31]}, sealed...)
	if r, err := testKey.Open(shorter, shifted); !errors.Is(err, ErrForged) {
		t.Errorf("a record of %s is one of %s: %+v, %v", id.ChainID, shorter.ChainID, r, err)
	}
	longer := watermark.ID{ChainID: "chain-1\x03"}
	copy(longer.Key[:], append(bytes.Clone(id.Key[1:]), sealed[0]))
	if r, err := testKey.Open(longer, sealed[1:]); !errors.Is(err, ErrForged) {
		t.Errorf("a record of %s is one of %q: %+v, %v", id.ChainID, longer.ChainID, r, err)
	}
	tag := testKey.Attested(id, watermark.Mark{Height: 1, Step: watermark.StepPrevote, SignBytes: []byte{4, 5}})
	if other := testKey.Attested(shorter, watermark.Mark{Height: 1, Step: watermark.StepPrevote, SignBytes: append([]byte{id.Key[31]}, 4, 5)}); other == tag {
		t.Error("two marks have one tag")
	}
}

// The law of records, and that no other bytes are one.
func FuzzRecord(f *testing.F) {
	f.Add(firstRecord(f))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, sealed []byte) {
		if _, err := testKey.Open(testID, sealed); err == nil && !bytes.Equal(sealed, firstRecord(t)) {
			t.Fatal("a record out of nowhere")
		}
		r, err := ReadRecord(sealed)
		if err != nil {
			return
		}
		again, err := testKey.Seal(testID, r)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again[:len(again)-macSize], sealed[:len(sealed)-macSize]) {
			t.Fatalf("read %x as %+v, which is %x", sealed, r, again)
		}
	})
}

// As many chains and nodes as an enclave takes are one request; what would decode to
// more than an enclave's memory is none.
func TestRequestsAreBounded(t *testing.T) {
	full := &Boot{LogLevel: "info", Credentials: Credentials{AccessKeyID: "a", SecretAccessKey: secret.New("s"), SessionToken: secret.New("t"), Expires: time.Now()}}
	for range MaxChains {
		c := BootChain{ID: "chain", Wrapped: make([]byte, 500), Identity: make([]byte, 500), HeightBurst: 1, HeightPerSecond: 1, Idle: 1}
		for range MaxServed / MaxChains {
			c.Nodes = append(c.Nodes, BootNode{Name: "name", Addr: "unix:///a.sock"})
		}
		full.Chains = append(full.Chains, c)
	}
	text, err := json.Marshal(Request{Boot: full})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := RawRequest(text).Decode(); err != nil {
		t.Error(err)
	}
	// The bound stays near to what is needed: a looser one is memory for who floods.
	if n := bytes.Count(text, []byte(",")); n < maxValues/4 {
		t.Errorf("the largest boot has %d values, and %d are let in", n, maxValues)
	}
	for _, element := range []string{"{},", "null,"} {
		text := `{"boot":{"chains":[` + strings.Repeat(element, maxValues+1)
		if _, err := RawRequest(text + `{}]}}`).Decode(); err == nil || !strings.Contains(err.Error(), "values") {
			t.Errorf("%d times %q: %v", maxValues+1, element, err)
		}
	}
}

// A request is for one thing, whichever it is: of two, an enclave does neither.
func TestRequestsAreForOneThing(t *testing.T) {
	fields := reflect.TypeFor[Request]()
	text := func(i int) string {
		name, _, _ := strings.Cut(fields.Field(i).Tag.Get("json"), ",")
		return fmt.Sprintf("%q:{}", name)
	}
	for i := range fields.NumField() {
		if _, err := RawRequest("{" + text(i) + "}").Decode(); err != nil {
			t.Errorf("%s: %v", text(i), err)
		}
		for j := range i {
			if _, err := RawRequest("{" + text(i) + "," + text(j) + "}").Decode(); err == nil {
				t.Errorf("%s and %s are one request", text(i), text(j))
			}
		}
	}
}
