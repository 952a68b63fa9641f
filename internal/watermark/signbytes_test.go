package watermark

import (
	"bytes"
	"encoding/binary"
	"testing"

	"privyseal/internal/privval"
)

// vote returns the sign bytes of a vote at one second.
func vote(second int64, block byte) []byte {
	r := privval.Request{
		Kind: privval.KindPrevote, ChainID: "chain-1", Height: 7, Round: 1,
		Timestamp: privval.Timestamp{Seconds: second, Nanos: 5},
	}
	if block != 0 {
		r.BlockID = privval.BlockID{Hash: bytes.Repeat([]byte{block}, 32), PartsTotal: 1, PartsHash: make([]byte, 32)}
	}
	return r.SignBytes()
}

// A hash full of what looks like a timestamp field is still a hash.
func TestTimestampInsideABlockID(t *testing.T) {
	a, b := vote(1, '*'), vote(2, '*') // '*' is the tag of the timestamp
	if !sameVote(a, b) {
		t.Error("two votes that differ in their timestamp are not the same")
	}
	other := bytes.Replace(a, []byte("**"), []byte("*\x00"), 1)
	if bytes.Equal(a, other) || sameVote(a, other) {
		t.Error("two votes for different blocks are the same")
	}
}

// What comes after the timestamp counts like what comes before it.
func TestVotesOfTwoChains(t *testing.T) {
	a := vote(1, 'a')
	b := bytes.Replace(vote(2, 'a'), []byte("chain-1"), []byte("chain-2"), 1)
	if sameVote(a, b) || !sameVote(a, vote(2, 'a')) {
		t.Error("votes of two chains are the same")
	}
}

func TestSameVoteNeedsVotes(t *testing.T) {
	a := vote(1, 'a')
	for name, b := range map[string][]byte{
		"nothing":                   nil,
		"a length and no message":   a[:1],
		"a byte less":               a[:len(a)-1],
		"a byte more":               append(bytes.Clone(a), 0),
		"no length":                 a[1:],
		"no timestamp":              {2, 0x08, 1},
		"an empty message":          {0},
		"a length of 11 bytes":      bytes.Repeat([]byte{0xff}, 11),
		"a timestamp as a number":   {4, 0x08, 1, 0x28, 1},
		"a timestamp that is cut":   {4, 0x08, 1, 0x2a, 9},
		"a timestamp cut by one":    {3, 0x2a, 2, 0},
		"a huge timestamp":          {12, 0x2a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0},
		"a group":                   {3, 0x0b, 0x2a, 0},
		"a fixed32 in front":        {7, 0x0d, 1, 2, 3, 4, 0x2a, 0},
		"a fixed64 that is cut":     {4, 0x11, 1, 2, 3},
		"a number that is cut":      {2, 0x08, 0x80},
		"a tag that is cut":         {1, 0x80},
		"a byte string that is cut": {2, 0x0a, 5},
	} {
		if sameVote(b, b) || sameVote(a, b) || sameVote(b, a) {
			t.Errorf("%s: taken for a vote", name)
		}
	}
}

// FuzzSplitTimestamp: the parts of a message make up the message, and two
// messages are the same vote if nothing but the timestamp was exchanged.
func FuzzSplitTimestamp(f *testing.F) {
	f.Add(vote(1, 'a'), []byte{})
	f.Add(vote(0, 0), []byte{8, 1})
	f.Add(vote(1_800_000_000, '*'), []byte{8, 0x80, 1, 16, 5})
	f.Add([]byte{2, 0x2a, 0}, bytes.Repeat([]byte{1}, 200))
	f.Add([]byte{0x80, 0}, []byte{})
	f.Fuzz(func(t *testing.T, b, other []byte) {
		before, ts, after, ok := splitTimestamp(b)
		if !ok {
			if before != nil || ts != nil || after != nil || sameVote(b, b) {
				t.Fatalf("parts of what is no vote: %x", b)
			}
			return
		}
		_, n := binary.Uvarint(b)
		msg := b[n:]
		field := msg[len(before) : len(msg)-len(after)]
		if !bytes.HasPrefix(msg, before) || !bytes.HasSuffix(msg, after) || !bytes.HasSuffix(field, ts) {
			t.Fatalf("%x is not %x, %x, %x", b, before, ts, after)
		}
		if !sameVote(b, b) {
			t.Fatalf("%x is not the same as itself", b)
		}
		exchanged := join(before, other, after)
		if before2, ts2, after2, ok := splitTimestamp(exchanged); !ok ||
			!bytes.Equal(before2, before) || !bytes.Equal(ts2, other) || !bytes.Equal(after2, after) {
			t.Fatalf("%x with the timestamp %x: %x, %x, %x, %v", b, other, before2, ts2, after2, ok)
		}
		if !sameVote(b, exchanged) || !sameVote(exchanged, b) {
			t.Fatalf("%x and %x are not the same vote", b, exchanged)
		}
		if sameVote(b, join(before, other, append(bytes.Clone(after), 0x30, 1))) {
			t.Fatalf("%x is the same vote with a field more", b)
		}
	})
}

func join(before, ts, after []byte) []byte {
	msg := append(bytes.Clone(before), timestampField<<3|2)
	msg = append(binary.AppendUvarint(msg, uint64(len(ts))), ts...)
	msg = append(msg, after...)
	return append(binary.AppendUvarint(nil, uint64(len(msg))), msg...)
}
