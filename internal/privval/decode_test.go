package privval_test

import (
	"bytes"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"

	"privyseal/internal/privval"
	"privyseal/internal/privval/privvaltest"
)

var (
	blockA = privval.BlockID{Hash: bytes.Repeat([]byte{0xaa}, 32), PartsTotal: 1, PartsHash: bytes.Repeat([]byte{0xab}, 32)}
	blockB = privval.BlockID{Hash: bytes.Repeat([]byte{0xbb}, 32), PartsTotal: math.MaxUint32, PartsHash: bytes.Repeat([]byte{0xbc}, 32)}
)

func precommit(change func(*privval.Request)) privval.Request {
	r := privval.Request{Kind: privval.KindPrecommit, ChainID: "chain-1", Height: 7, Round: 1, BlockID: blockA, Timestamp: someTime}
	change(&r)
	return r
}

// TestDecodeSays: what an operator reads about a message that is not signed.
func TestDecodeSays(t *testing.T) {
	vote := func(change func(*privval.Request)) []byte { return privvaltest.EncodeRequest(precommit(change)) }
	prop := func(change func(*privval.Request)) []byte {
		return vote(func(r *privval.Request) { r.Kind, r.POLRound = privval.KindProposal, -1; change(r) })
	}
	for _, c := range []struct {
		name    string
		payload []byte
		kind    privval.Kind
		want    string
	}{
		{"no vote", str(3, str(2, []byte("chain-1"))), privval.KindVote, "there is no vote in it"},
		{"no proposal", str(5, str(2, []byte("chain-1"))), privval.KindProposal, "there is no proposal in it"},
		{"type 0", vote(func(r *privval.Request) { r.Kind = privval.KindVote }), privval.KindVote, "a vote of type 0 is neither prevote nor precommit"},
		{"height 0", vote(func(r *privval.Request) { r.Height = 0 }), privval.KindPrecommit, "height 0"},
		{"height -1", vote(func(r *privval.Request) { r.Height = -1 }), privval.KindPrecommit, "height -1"},
		{"round -1", prop(func(r *privval.Request) { r.Round = -1 }), privval.KindProposal, "round -1"},
		{"pol round -2", prop(func(r *privval.Request) { r.POLRound = -2 }), privval.KindProposal, "a proposal of pol round -2"},
		{"no block", prop(func(r *privval.Request) { r.BlockID = privval.BlockID{} }), privval.KindProposal, "a proposal for no block"},
		{"no chain", vote(func(r *privval.Request) { r.ChainID = "" }), privval.KindPrecommit, "there is no chain id in it"},
		{"half a block id", vote(func(r *privval.Request) { r.BlockID.PartsHash = nil }), privval.KindPrecommit, "a block id is empty or complete"},
		{"a short hash", vote(func(r *privval.Request) { r.BlockID.Hash = r.BlockID.Hash[:5] }), privval.KindPrecommit, "a hash of 5 bytes"},
		{"no parts", vote(func(r *privval.Request) { r.BlockID.PartsTotal = 0 }), privval.KindPrecommit, "with 0 parts"},
		{
			"an extension on nil", vote(func(r *privval.Request) { r.BlockID, r.Extension = privval.BlockID{}, []byte{1} }),
			privval.KindPrecommit, "only a precommit for a block may carry an extension",
		},
		{
			"a non_rp_extension on a prevote", vote(func(r *privval.Request) { r.Kind, r.NonRPExtension = privval.KindPrevote, []byte{1} }),
			privval.KindPrevote, "only a precommit for a block may carry an extension",
		},
		{"year 10000", vote(func(r *privval.Request) { r.Timestamp.Seconds = 253402300800 }), privval.KindVote, "a timestamp out of range"},
		{"year 0", vote(func(r *privval.Request) { r.Timestamp.Seconds = -62135596801 }), privval.KindVote, "a timestamp out of range"},
		{"negative nanoseconds", vote(func(r *privval.Request) { r.Timestamp.Nanos = -1 }), privval.KindVote, "a timestamp out of range"},
		{"a whole second of nanoseconds", vote(func(r *privval.Request) { r.Timestamp.Nanos = 1_000_000_000 }), privval.KindVote, "a timestamp out of range"},
		{"a parts hash of 31 bytes", vote(func(r *privval.Request) { r.BlockID.PartsHash = r.BlockID.PartsHash[:31] }), privval.KindPrecommit, "a parts hash of 31 bytes"},
		{"a vote longer than its request by one", str(3, []byte{0x0a, 1}), privval.KindVote, "a field that is cut off"},
		{"raw bytes without an id", privvaltest.EncodeRequest(privval.Request{Kind: privval.KindRawBytes, ChainID: "chain-1", Bytes: []byte{1}}), privval.KindRawBytes, "need a chain id, bytes and a unique id"},
		{"raw bytes without a chain", privvaltest.EncodeRequest(privval.Request{Kind: privval.KindRawBytes, Bytes: []byte{1}, UniqueID: "u"}), privval.KindRawBytes, "need a chain id, bytes and a unique id"},
		{"raw bytes without bytes", privvaltest.EncodeRequest(privval.Request{Kind: privval.KindRawBytes, ChainID: "chain-1", UniqueID: "u"}), privval.KindRawBytes, "need a chain id, bytes and a unique id"},
		{"skip written out as false", str(3, append(str(1, nil), 0x18, 0)), privval.KindVote, "missing"},
		{"skip is 2", append3(vote(func(*privval.Request) {}), 0x18, 2), privval.KindVote, "a number out of its range"},
		{"skip is false", append3(vote(func(*privval.Request) {}), 0x18, 0), privval.KindVote, "a zero value written out"},
		{"the chain twice", append3(vote(func(*privval.Request) {}), 0x12, 1, 'x'), privval.KindVote, "out of order or twice"},
		{"a field of a later version, cut", append3(vote(func(*privval.Request) {}), 0x22, 9, 'x'), privval.KindVote, "a field that is cut off"},
		{"a later field of a type that is none", append3(vote(func(*privval.Request) {}), 0x26), privval.KindVote, "a field that is cut off"},
		{"the chain as a number", append3(str(3, str(1, nil)), 0x10, 1), privval.KindVote, "missing"},
		{"the chain behind its flag", append3(str(3, nil), 0x18, 1, 0x12, 1, 'x'), privval.KindVote, "out of order or twice"},
		{"the chain twice, with a later field between", append3(vote(func(*privval.Request) {}), 0x22, 1, 'x', 0x12, 1, 'x'), privval.KindVote, "out of order or twice"},
		{"a vote that is cut", str(3, []byte{0x0a, 9, 8, 1}), privval.KindVote, "a field that is cut off"},
		{"an empty chain written out", str(1, []byte{0x0a, 0}), privval.KindPubKey, "a zero value written out"},
		{"bytes with a later field", str(9, append(str(1, []byte{1}), 0x20, 1)), privval.KindSignBytes, "field 4 of wire type 0 is unknown here"},
	} {
		req, err := privval.Decode(c.payload)
		switch {
		case err != nil:
			t.Errorf("%s: %v; it can be answered", c.name, err)
		case req.Kind != c.kind:
			t.Errorf("%s: taken for a %v, not a %v", c.name, req.Kind, c.kind)
		case req.Invalid == nil || !strings.Contains(req.Invalid.Error(), c.want):
			t.Errorf("%s: %v does not say %q", c.name, req.Invalid, c.want)
		}
	}
}

// append3 appends to the request inside the message.
func append3(payload []byte, more ...byte) []byte {
	num, _, n := protowire.ConsumeTag(payload)
	body, _ := protowire.ConsumeBytes(payload[n:])
	return str(num, append(bytes.Clone(body), more...))
}

func str(num protowire.Number, body []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), body)
}

// What comes after a message in its buffer, of an earlier and longer one, is no
// part of it.
func TestDecodeReadsNoFurther(t *testing.T) {
	buf := append([]byte{0x0a, 4, 0x0a, 2, 'a'}, 'b')
	if req, err := privval.Decode(buf); err != nil || req.ChainID != "ab" {
		t.Fatalf("got %+v, %v", req, err)
	}
	if req, err := privval.Decode(buf[:5]); err == nil {
		t.Errorf("got %+v of a message that is cut", req)
	}
}

// TestDecodeFails: what is not a request of a node at all.
func TestDecodeFails(t *testing.T) {
	ping := str(7, nil)
	for _, c := range []struct {
		name    string
		payload []byte
		want    string
	}{
		{"nothing", nil, "a field is missing"},
		{"text", []byte("GET / HTTP/1.1\r\n\r\n"), "unknown here"},
		{"a TLS hello", []byte{0x16, 3, 1, 2, 0, 1}, "unknown here"},
		{"field 0", []byte{2, 0}, "out of order"},
		{"two messages", append(bytes.Clone(ping), str(9, nil)...), "more than one message in a frame"},
		{"a byte behind", append(bytes.Clone(ping), 0), "out of order"},
		{"a reply behind", append(bytes.Clone(ping), str(10, nil)...), "more than one message in a frame"},
		{"a later message", str(11, nil), "field 11 of wire type 2 is unknown here"},
		{"a later message that is cut", append(bytes.Clone(ping), 0x5a, 1), "a field that is cut off"},
		{"a reply", str(4, nil), "field 4 of wire type 2 is unknown here"},
		{"a number", []byte{8, 1}, "field 1 of wire type 0 is unknown here"},
		{"cut", []byte{0x1a, 200}, "cut off"},
		{"a message longer than the frame", []byte{0x1a, 5, 1}, "a field that is cut off"},
		{"a message longer than the frame by one", []byte{0x3a, 1}, "a field that is cut off"},
		{"a message of 2^63 bytes", append([]byte{0x1a}, protowire.AppendVarint(nil, math.MaxUint64)...), "a field that is cut off"},
		{"a long tag", []byte{0xba, 0x80, 0, 0}, "shortest form"},
		{"a long length", []byte{0x3a, 0x80, 0}, "shortest form"},
	} {
		if req, err := privval.Decode(c.payload); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v (%v) does not say %q", c.name, err, req.Kind, c.want)
		}
	}
}

// unvectored is what no module among the vectors can say: v2's second
// extension, and Celestia's request.
func unvectored() []privval.Request {
	return []privval.Request{
		precommit(func(r *privval.Request) { r.NonRPExtension = []byte("raw") }),
		precommit(func(r *privval.Request) {
			r.Extension, r.ExtensionSignature = []byte("ext"), []byte{1}
			r.NonRPExtension, r.NonRPExtensionSignature = []byte("raw"), []byte{2}
			r.SkipExtensionSigning = true
		}),
		{Kind: privval.KindRawBytes, ChainID: "chain-1", Bytes: []byte{0xff}, UniqueID: "id"},
	}
}

func TestDecodeUnvectored(t *testing.T) {
	for _, want := range unvectored() {
		got, err := privval.Decode(privvaltest.EncodeRequest(want))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// TestForeignFields: what a fork sends with a proposal and does not sign stands in
// nobody's way. Its sign bytes are those of the same request without them.
func TestForeignFields(t *testing.T) {
	text, err := os.ReadFile("testdata/foreign.hex")
	if err != nil {
		t.Fatal(err)
	}
	frame := unhex(t, strings.Join(strings.Fields(regexp.MustCompile(`(?m)^#.*$`).ReplaceAllString(string(text), "")), ""))
	payload, n := protowire.ConsumeBytes(frame)
	if n != len(frame) {
		t.Fatalf("a frame of %d bytes, read %d", len(frame), n)
	}
	req, err := privval.Decode(payload)
	if err != nil || req.Invalid != nil {
		t.Fatal(err, req.Invalid)
	}
	if req.Unknown != 5 || req.Kind != privval.KindProposal || req.Height != 11 || req.POLRound != -1 {
		t.Errorf("read as %+v", req)
	}
	plain, err := privval.Decode(knownFields(t, payload))
	if err != nil || plain.Invalid != nil || plain.Unknown != 0 {
		t.Fatal(err, plain.Invalid, plain.Unknown)
	}
	if !bytes.Equal(req.SignBytes(), plain.SignBytes()) {
		t.Errorf("signed over\n%x, want\n%x", req.SignBytes(), plain.SignBytes())
	}
}

// TestForeignFieldsAnywhere puts fields of every wire type into every message of a
// request: before, between and after.
func TestForeignFieldsAnywhere(t *testing.T) {
	foreign := protowire.AppendTag(nil, 100, protowire.StartGroupType)
	foreign = append(foreign, str(1, []byte("x"))...)
	foreign = protowire.AppendTag(foreign, 100, protowire.EndGroupType)
	foreign = protowire.AppendVarint(protowire.AppendTag(foreign, 77, protowire.VarintType), 0)
	foreign = protowire.AppendFixed32(protowire.AppendTag(foreign, 99, protowire.Fixed32Type), 0)
	foreign = protowire.AppendFixed64(protowire.AppendTag(foreign, 13, protowire.Fixed64Type), 0)
	foreign = append(foreign, append(str(13, nil), 0x7a, 0x80, 0)...) // a length in a longer form
	for _, want := range []privval.Request{
		precommit(func(*privval.Request) {}),
		precommit(func(r *privval.Request) { r.Kind, r.POLRound = privval.KindProposal, -1 }),
		precommit(func(r *privval.Request) { r.Extension, r.SkipExtensionSigning = []byte("ext"), true }),
		{Kind: privval.KindPubKey, ChainID: "chain-1"},
		{Kind: privval.KindPing},
	} {
		plain := privvaltest.EncodeRequest(want)
		got, err := privval.Decode(spread(t, plain, requestSchema, foreign))
		if err != nil || got.Invalid != nil {
			t.Fatalf("%v: %v, %v", want.Kind, err, got.Invalid)
		}
		if got.Unknown < 6 || got.Unknown%6 != 0 {
			t.Errorf("%v: %d unknown fields", want.Kind, got.Unknown)
		}
		got.Unknown = 0
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%v (-want +got):\n%s", want.Kind, diff)
		}
	}
}

// schema are the fields of a message by number: those that are messages have a
// schema of their own.
type schema map[protowire.Number]schema

var (
	blockIDSchema = schema{1: nil, 2: {1: nil, 2: nil}}
	timeSchema    = schema{1: nil, 2: nil}
	voteSchema    = schema{
		1: nil, 2: nil, 3: nil, 4: blockIDSchema, 5: timeSchema, 6: nil, 7: nil, 8: nil, 9: nil, 10: nil, 11: nil, 12: nil,
	}
	proposalSchema = schema{1: nil, 2: nil, 3: nil, 4: nil, 5: blockIDSchema, 6: timeSchema, 7: nil}
	requestSchema  = schema{
		1: {1: nil}, 3: {1: voteSchema, 2: nil, 3: nil}, 5: {1: proposalSchema, 2: nil}, 7: {}, 9: {1: nil, 2: nil, 3: nil},
	}
)

// knownFields is the payload without the fields that are in no schema, written by
// nothing of package privval.
func knownFields(t *testing.T, payload []byte) []byte { return rewrite(t, payload, requestSchema, nil) }

// spread puts foreign fields into every message of a payload but the outermost,
// whose first field has to be a request: there they come after.
func spread(t *testing.T, payload []byte, s schema, foreign []byte) []byte {
	out := rewrite(t, payload, s, foreign)
	return append(out[len(foreign):], foreign...)
}

// rewrite copies the known fields of a message, with foreign ones in front, and
// after each.
func rewrite(t *testing.T, b []byte, s schema, foreign []byte) []byte {
	out := bytes.Clone(foreign)
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		size := protowire.ConsumeFieldValue(num, typ, b[max(n, 0):])
		if n < 0 || size < 0 {
			t.Fatalf("%x is no message", b)
		}
		in, known := s[num]
		switch {
		case in != nil:
			body, _ := protowire.ConsumeBytes(b[n:])
			out = append(out, str(num, rewrite(t, body, in, foreign))...)
			out = append(out, foreign...)
		case known:
			out = append(out, b[:n+size]...)
			out = append(out, foreign...)
		}
		b = b[n+size:]
	}
	return out
}

// FuzzDecode has the law of the decoder: what is accepted is, without the fields
// that no version has, what would be encoded; and what is signed for it is
// canonical and reads back.
func FuzzDecode(f *testing.F) {
	for _, version := range versions {
		for _, v := range readVectors(f, version) {
			if len(v.request) < 4096 {
				f.Add(v.request)
			}
		}
	}
	for _, r := range unvectored() {
		f.Add(privvaltest.EncodeRequest(r))
		f.Add(append3(append3(privvaltest.EncodeRequest(r), 0x78, 0), 0x78, 1))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		before := bytes.Clone(payload)
		req, err := privval.Decode(payload)
		if !bytes.Equal(before, payload) {
			t.Fatal("the payload was changed")
		}
		if err != nil {
			return
		}
		if req.Kind == 0 || req.Kind.String() == "none" {
			t.Fatalf("a request of no kind: %+v", req)
		}
		// Whatever it is, it can be answered.
		for _, resp := range []privval.Response{{Kind: req.Kind, Refused: "no"}, {Kind: req.Kind, Signature: []byte{1}}} {
			if _, err := privvaltest.DecodeResponse(framed(t, &resp)); err != nil {
				t.Fatal(err)
			}
		}
		if req.Invalid != nil {
			return
		}
		checkEncodes(t, req, payload)
		checkSigned(t, req)
	})
}

// checkEncodes checks that an accepted request is what it was read from, but for
// the fields that were passed over.
func checkEncodes(t *testing.T, req privval.Request, payload []byte) {
	t.Helper()
	known := knownFields(t, payload)
	if (req.Unknown == 0) != bytes.Equal(known, payload) {
		t.Fatalf("%d unknown fields in\n%x", req.Unknown, payload)
	}
	if again := privvaltest.EncodeRequest(req); !bytes.Equal(again, known) {
		t.Fatalf("encoded again it is\n%x, not\n%x", again, known)
	}
}

func checkSigned(t *testing.T, req privval.Request) {
	switch req.Kind {
	case privval.KindVote:
		t.Fatal("a vote of no type is valid")
	case privval.KindPubKey, privval.KindPing, privval.KindSignBytes, privval.KindRawBytes:
		return
	}
	signed := req.SignBytes()
	if req.Height < 1 || req.Round < 0 || req.ChainID == "" {
		t.Fatalf("accepted: %+v", req)
	}
	back, err := privval.ParseSignBytes(signed)
	if err != nil || !bytes.Equal(back.SignBytes(), signed) || back.Kind != req.Kind || back.Height != req.Height || back.Round != req.Round || back.ChainID != req.ChainID {
		t.Fatalf("%x reads back as %+v, %v", signed, back, err)
	}
	checkLooksCanonical(t, signed)
	checkLooksCanonical(t, req.ExtensionSignBytes())
}

// checkLooksCanonical checks b, which comes after its length, with and without it.
func checkLooksCanonical(t *testing.T, b []byte) {
	t.Helper()
	_, n := protowire.ConsumeVarint(b)
	if !privval.LooksCanonical(b) || !privval.LooksCanonical(b[n:]) {
		t.Fatalf("%x does not look canonical", b)
	}
}

func FuzzParseSignBytes(f *testing.F) {
	for _, version := range versions {
		for _, v := range readVectors(f, version) {
			if v.kind != "signbytes" {
				f.Add(v.signBytes)
				f.Add(v.extension)
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := privval.ParseSignBytes(b)
		if err != nil {
			return
		}
		if r.Kind != privval.KindProposal && r.Kind != privval.KindPrevote && r.Kind != privval.KindPrecommit {
			t.Fatalf("sign bytes of a %v", r.Kind)
		}
		if !bytes.Equal(r.SignBytes(), b) {
			t.Fatalf("%x reads as %x", b, r.SignBytes())
		}
		checkLooksCanonical(t, b)
		// A node could have asked for it.
		req, err := privval.Decode(privvaltest.EncodeRequest(r))
		if err != nil || req.Invalid != nil || !bytes.Equal(req.SignBytes(), b) {
			t.Fatalf("%x cannot be asked for: %v, %v", b, err, req.Invalid)
		}
	})
}

func TestParseSignBytesRefuses(t *testing.T) {
	good := precommit(func(*privval.Request) {})
	b := good.SignBytes()
	ext := good.ExtensionSignBytes()
	msg := b[1:]
	withLength := func(m []byte) []byte { return protowire.AppendBytes(nil, m) }
	for _, c := range []struct {
		name string
		b    []byte
		want string
	}{
		{"nothing", nil, "the length in front"},
		{"no length", msg, "the length in front"},
		{"a byte less", b[:len(b)-1], "the length in front"},
		{"a byte more", append(bytes.Clone(b), 0), "the length in front"},
		{"an empty message", []byte{0}, "a vote of type 0"},
		{"an extension", ext, "unknown here"},
		{"a long length", append([]byte{b[0] | 0x80, 0}, msg...), "not in canonical form"},
		{"an unknown field", withLength(append(bytes.Clone(msg), 0x40, 1)), "unknown here"},
		{"the chain twice", withLength(append(bytes.Clone(msg), 0x32, 1, 'x')), "out of order or twice"},
		{"a vote of type 3", withLength(append([]byte{8, 3}, msg[2:]...)), "a vote of type 3"},
		{"a vote as a proposal", withLength(append([]byte{8, 32}, msg[2:]...)), "unknown here"},
		{"a round over 32 bits", withLength(bytes.Replace(msg, []byte{0x19, 1, 0, 0, 0, 0}, []byte{0x19, 1, 0, 0, 0, 1}, 1)), "out of its range"},
		{"a height of zero", withLength(bytes.Replace(msg, []byte{0x11, 7}, []byte{0x11, 0}, 1)), "a zero value"},
		{"an empty block id", withLength([]byte{8, 1, 0x11, 1, 0, 0, 0, 0, 0, 0, 0, 0x22, 2, 0x12, 0, 0x2a, 0, 0x32, 1, 'c'}), "not in canonical form"},
		{"no timestamp", withLength([]byte{8, 1, 0x11, 1, 0, 0, 0, 0, 0, 0, 0, 0x32, 1, 'c'}), "not in canonical form"},
	} {
		if r, err := privval.ParseSignBytes(c.b); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v (%+v) does not say %q", c.name, err, r, c.want)
		}
	}
}

func TestKindNames(t *testing.T) {
	want := []string{"none", "pubkey", "ping", "proposal", "prevote", "precommit", "vote", "sign_bytes", "raw_bytes", "none"}
	for i, name := range want {
		if got := privval.Kind(i).String(); got != name {
			t.Errorf("kind %d is %q, want %q", i, got, name)
		}
	}
}
