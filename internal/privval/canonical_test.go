package privval_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"privyseal/internal/privval"
)

// everyShape is every valid request that has sign bytes, at the edges of its
// fields.
func everyShape() (rs []privval.Request) {
	for _, kind := range []privval.Kind{privval.KindProposal, privval.KindPrevote, privval.KindPrecommit} {
		for _, height := range []int64{1, 255, 1 << 40, math.MaxInt64} {
			for _, round := range []int32{0, 1, math.MaxInt32} {
				for _, at := range []privval.Timestamp{{}, someTime, {Seconds: -62135596800}} {
					for _, block := range []privval.BlockID{{}, blockA, blockB} {
						for _, chain := range []string{"c", "chain-1", string(bytes.Repeat([]byte{'c'}, 200))} {
							r := privval.Request{Kind: kind, ChainID: chain, Height: height, Round: round, BlockID: block, Timestamp: at}
							rs = append(rs, r)
						}
					}
				}
			}
		}
	}
	return rs
}

// Whatever a validator's signature could be worth something under is known.
func TestLooksCanonicalKnowsAll(t *testing.T) {
	for _, r := range everyShape() {
		if r.Kind == privval.KindProposal && r.BlockID.IsNil() {
			continue
		}
		for _, r.POLRound = range []int32{0, -1, 5} {
			checkLooksCanonical(t, r.SignBytes())
			if r.Kind != privval.KindProposal {
				break
			}
		}
		for _, r.Extension = range [][]byte{nil, {0}, []byte("\x08\x01"), make([]byte, 1<<10)} {
			checkLooksCanonical(t, r.ExtensionSignBytes())
		}
	}
	for _, version := range versions {
		for _, v := range readVectors(t, version) {
			if req, err := privval.Decode(v.request); err == nil && req.Invalid == nil && v.kind != "signbytes" && len(v.signBytes) > 0 {
				checkLooksCanonical(t, v.signBytes)
			}
		}
	}
}

// Wider than a verifier: bytes that some other decoder would take for a vote.
func TestLooksCanonicalIsWide(t *testing.T) {
	good := precommit(func(*privval.Request) {})
	vote := good.SignBytes()[1:]
	for name, b := range map[string][]byte{
		"fields in another order":   append(bytes.Clone(vote[2:]), vote[:2]...),
		"the type twice":            append([]byte{8, 2}, vote...),
		"the type changed later":    append(append([]byte{8, 9}, vote[2:]...), 8, 2),
		"an unknown field 7":        append(bytes.Clone(vote), 0x38, 1),
		"a negative height":         bytes.Replace(vote, []byte{0x11, 7, 0, 0, 0, 0, 0, 0, 0}, append([]byte{0x11}, bytes.Repeat([]byte{0xff}, 8)...), 1),
		"a long tag":                append([]byte{0x88, 0, 2}, vote[2:]...),
		"a block id of three bytes": {8, 1, 0x11, 1, 0, 0, 0, 0, 0, 0, 0, 0x22, 3, 1, 2, 3, 0x2a, 0},
	} {
		if !privval.LooksCanonical(b) || !privval.LooksCanonical(protowire.AppendBytes(nil, b)) {
			t.Errorf("%s: %x does not look canonical", name, b)
		}
	}
}

func TestLooksCanonicalLetsOthersPass(t *testing.T) {
	good := precommit(func(*privval.Request) {})
	celestia := privval.Request{Kind: privval.KindRawBytes, ChainID: "chain-1", UniqueID: "u"}
	for name, b := range map[string][]byte{
		"nothing":                   nil,
		"text":                      []byte("RANDAO reveal of epoch 7"),
		"a ping":                    {0x3a, 0},
		"a vote without a height":   {8, 1, 0x2a, 0, 0x32, 1, 'c'},
		"a height as a varint":      {8, 1, 0x10, 7, 0x2a, 0},
		"a vote of type 3":          {8, 3, 0x11, 1, 0, 0, 0, 0, 0, 0, 0, 0x2a, 0},
		"a wrong length in front":   append([]byte{99}, good.SignBytes()[1:]...),
		"a group that is not ended": {0x0b, 0x11, 1, 0, 0, 0, 0, 0, 0, 0},
	} {
		if privval.LooksCanonical(b) {
			t.Errorf("%s: %x looks canonical", name, b)
		}
	}
	// Celestia's prefix keeps its bytes apart, a whole vote among them too.
	for _, r := range everyShape() {
		celestia.Bytes = r.SignBytes()
		if b := celestia.RawSignBytes(); privval.LooksCanonical(b) {
			t.Fatalf("%x looks canonical", b)
		}
	}
	for n := range 500 {
		celestia.Bytes = make([]byte, n)
		if b := celestia.RawSignBytes(); privval.LooksCanonical(b) {
			t.Fatalf("%x looks canonical", b)
		}
	}
	for i := range uint64(200_000) {
		hash := sha256.Sum256(binary.BigEndian.AppendUint64(nil, i))
		if privval.LooksCanonical(hash[:]) {
			t.Fatalf("the hash %x looks canonical", hash)
		}
	}
}

// Celestia's sign bytes, written out (celestia-core, types/priv_validator.go).
func TestRawSignBytes(t *testing.T) {
	r := privval.Request{Kind: privval.KindRawBytes, ChainID: "chain", Bytes: []byte{1, 2}, UniqueID: "id"}
	want := "COMET::RAW_BYTES::SIGN" + "\x0f" + "\x0a\x05chain" + "\x12\x02\x01\x02" + "\x1a\x02id"
	if got := r.RawSignBytes(); string(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
	r.Kind = privval.KindSignBytes
	if got := r.RawSignBytes(); string(got) != "\x01\x02" {
		t.Errorf("%q, want the bytes as they are", got)
	}
}
