package hostlink

import (
	"bytes"
	"encoding/base64"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"privyseal/internal/watermark"
	"privyseal/internal/watermark/storetest"
)

// Every bit of a record, its chain, its key and its length are under the MAC.
func TestRecordsAreWhole(t *testing.T) {
	sealed, err := testKey.Seal(testID, Record{Seq: 7, Boot: [16]byte{1}, Time: time.Unix(2, 0), Mark: mark(50)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := testKey.Open(testID, sealed); err != nil {
		t.Fatal(err)
	}
	for bit := range len(sealed) * 8 {
		bad := bytes.Clone(sealed)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, err := testKey.Open(testID, bad); !errors.Is(err, ErrForged) {
			t.Fatalf("bit %d turned: %v", bit, err)
		}
	}
	for n := range len(sealed) {
		if _, err := testKey.Open(testID, sealed[:n]); !errors.Is(err, ErrForged) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	body := make([]byte, MaxRecord-macSize+1)
	otherKey := testID
	otherKey.Key[31]++
	for name, c := range map[string]struct {
		key    Key
		id     watermark.ID
		sealed []byte
	}{
		"a byte more":              {testKey, testID, append(bytes.Clone(sealed), 0)},
		"another key of its MAC":   {Key{1}, testID, sealed},
		"another chain":            {testKey, watermark.ID{ChainID: "chain-2", Key: testID.Key}, sealed},
		"another consensus key":    {testKey, otherKey, sealed},
		"longer than records are":  {testKey, testID, testKey.mac(body, testID, body)},
		"the tag of a mark, whole": {testKey, testID, testKey.hash("privyseal mark 1\x00", testID).Sum(bytes.Clone(sealed[:len(sealed)-macSize]))},
	} {
		if r, err := c.key.Open(c.id, c.sealed); !errors.Is(err, ErrForged) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

// What no enclave records is neither sealed by one nor kept by its host.
func TestRecordsInRange(t *testing.T) {
	for name, r := range map[string]Record{
		"no number":            {Mark: mark(5)},
		"a negative height":    {Seq: 1, Mark: watermark.Mark{Height: -1}},
		"a negative round":     {Seq: 1, Mark: watermark.Mark{Height: 1, Round: -1}},
		"a step of none":       {Seq: 1, Mark: watermark.Mark{Height: 1, Step: 4}},
		"too many sign bytes":  {Seq: 1, Mark: watermark.Mark{Height: 1, Step: 1, SignBytes: make([]byte, maxSignBytes+1)}},
		"the lowest of all":    {Seq: 1, Mark: watermark.Mark{Height: math.MinInt64}},
		"a round at its lower": {Seq: 1, Mark: watermark.Mark{Height: 1, Round: math.MinInt32}},
	} {
		if sealed, err := testKey.Seal(testID, r); err == nil {
			t.Errorf("%s: sealed to %d bytes", name, len(sealed))
		}
	}
	longest, err := testKey.Seal(testID, Record{Seq: 1, Mark: watermark.Mark{Height: 1, Step: 1, SignBytes: make([]byte, maxSignBytes)}})
	if err != nil || len(longest) != MaxRecord {
		t.Fatalf("%d bytes, %v", len(longest), err)
	}
	good := bytes.Clone(longest)
	for name, spoil := range map[string]func(b []byte){
		"no number":         func(b []byte) { clear(b[:8]) },
		"a negative height": func(b []byte) { b[32] = 0x80 },
		"a negative round":  func(b []byte) { b[40] = 0x80 },
		"a step of none":    func(b []byte) { b[44] = 4 },
	} {
		bad := bytes.Clone(good)
		spoil(bad)
		if r, err := ReadRecord(bad); err == nil {
			t.Errorf("%s: kept as %+v", name, r)
		}
	}
	if _, err := ReadRecord(append(good, 0)); err == nil {
		t.Error("longer than records are, and kept")
	}
}

// The tag in a document is one for what was signed, at one key and chain.
func TestTags(t *testing.T) {
	m := watermark.Mark{Height: 5, Step: watermark.StepPrevote, SignBytes: []byte("block A")}
	other := m
	other.SignBytes = []byte("block B")
	tag := testKey.Attested(testID, m)
	if tag != testKey.Attested(testID, m) || !strings.HasPrefix(tag, "5/0/prevote/") || len(tag) != len("5/0/prevote/")+11 {
		t.Errorf("the tag is %s", tag)
	}
	if forged := base64.RawURLEncoding.EncodeToString(testKey.mac(nil, testID, m.SignBytes)[:8]); strings.HasSuffix(tag, forged) {
		t.Error("the tag of a mark is the MAC of a record")
	}
	for name, same := range map[string]string{
		"another block": testKey.Attested(testID, other),
		"another chain": testKey.Attested(watermark.ID{ChainID: "chain-2", Key: testID.Key}, m),
		"another key":   Key{1}.Attested(testID, m),
	} {
		if same == tag {
			t.Errorf("%s has the tag %s too", name, tag)
		}
	}
}

// A state that another program has left is not an enclave's.
func TestKeeperOfAnotherState(t *testing.T) {
	k := &Keeper{ID: testID, Store: storetest.NewFake(watermark.Floor(100))}
	s := &Store{Dial: (&host{keeper: k}).dial(t), ID: testID, Key: testKey}
	if _, err := s.Load(t.Context()); err == nil || !strings.Contains(err.Error(), "holds no record of an enclave") {
		t.Errorf("got %v", err)
	}
}

// TestFrames: what is over its limit is not read.
func TestFrames(t *testing.T) {
	for size, limit := range map[int]int{0: 0, 1: 1, 10: 10} {
		var wire bytes.Buffer
		if err := writeFrame(&wire, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		whole := wire.Bytes()
		if got, err := readFrame(bytes.NewReader(whole), limit); err != nil || len(got) != size {
			t.Errorf("%d of at most %d bytes: %x, %v", size, limit, got, err)
		}
		if got, err := readFrame(bytes.NewReader(whole), size-1); size > 0 && !errors.Is(err, errFrame) {
			t.Errorf("%d of at most %d bytes: %x, %v", size, size-1, got, err)
		}
	}
	if err := writeFrame(&bytes.Buffer{}, make([]byte, maxFrame+1)); !errors.Is(err, errFrame) {
		t.Error(err)
	}
}

// TestStateOpen: the first frame names one state.
func TestStateOpen(t *testing.T) {
	for size, ok := range map[int]bool{0: false, 1: true, watermark.MaxChainID: true, watermark.MaxChainID + 1: false} {
		var wire bytes.Buffer
		want := watermark.ID{ChainID: strings.Repeat("c", size), Key: testID.Key}
		if err := writeFrame(&wire, append(append([]byte{frameOpen}, want.Key[:]...), want.ChainID...)); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadStateOpen(&wire); (err == nil) != ok || ok && got != want {
			t.Errorf("a chain id of %d bytes: %+v, %v", size, got, err)
		}
	}
}

// A line is of one kind.
func TestLinesAreOfOneKind(t *testing.T) {
	for text, ok := range map[string]bool{
		`{"log":{"level":"INFO","message":"m"}}`:                         true,
		`{"node":{"chain_id":"c","node":"n","state":"parked"}}`:          true,
		`{"log":{"level":"INFO","message":"m"},"node":{"chain_id":"c"}}`: false,
		`{"event":{"chain_id":"c"},"node":{"chain_id":"c"}}`:             false,
		`{}`:                                     false,
		`{"log":{"level":"INFO"},"more":1}`:      false,
		`{"log":{"level":"INFO","message":1e9}}`: false,
	} {
		lines := 0
		err := ReadLines(strings.NewReader(text+"\n"), func(Line) { lines++ })
		if (err == nil) != ok || (lines == 1) != ok {
			t.Errorf("%s: %d lines, %v", text, lines, err)
		}
	}
}

// deriver is a key that shows what it is derived for.
type deriver struct{}

func (deriver) Derive(use string) (k [32]byte, err error) {
	copy(k[:], use)
	return k, err
}

// The records of every release are under one derivation of the key, and the first of a state
// has a number that no state of an earlier second can have.
func TestRecordKey(t *testing.T) {
	k, err := RecordKey(deriver{})
	if err != nil || string(bytes.TrimRight(k[:], "\x00")) != "state record 1" {
		t.Errorf("%q, %v", k, err)
	}
	if first := FirstSeq(time.Unix(1_800_000_000, 5)); first != 1_800_000_000<<20 {
		t.Errorf("the first record is %d", first)
	}
}
