package privval_test

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"privyseal/internal/privval"
	"privyseal/internal/privval/privvaltest"
)

// someTime is a timestamp with every field set.
var someTime = privval.Timestamp{Seconds: 1_786_527_015, Nanos: 123456789}

type reply struct {
	name string
	resp privval.Response
	time privval.Timestamp // what resp.Timestamp encodes
}

// replies is one of each kind of answer, at the edges of its fields.
func replies() (rs []reply) {
	add := func(name string, resp privval.Response) { rs = append(rs, reply{name: name, resp: resp}) }
	for _, k := range []privval.PubKey{
		{Type: "ed25519", Bytes: bytes.Repeat([]byte{0xed}, 32)},
		{Type: "secp256k1", Bytes: append([]byte{2}, bytes.Repeat([]byte{0x79}, 32)...)},
		{Type: "secp256k1eth", Bytes: generator},
		{Type: "ml_dsa_65", Bytes: bytes.Repeat([]byte{0x65}, 1952)},
	} {
		add("pubkey/"+k.Type, privval.Response{Kind: privval.KindPubKey, PubKey: k})
	}
	sig, ext, nonRP := bytes.Repeat([]byte{0x51}, 64), bytes.Repeat([]byte{0x5e}, 64), bytes.Repeat([]byte{0x5f}, 64)
	for _, at := range []struct {
		name string
		time privval.Timestamp
	}{
		{"some", someTime},
		{"epoch", privval.Timestamp{}},
		{"second", privval.Timestamp{Seconds: 1_786_527_015}},
		{"year-1", privval.Timestamp{Seconds: -62135596800}},
		{"year-9999", privval.Timestamp{Seconds: 253402300799, Nanos: 999_999_999}},
	} {
		ts := at.time.Append([]byte{})
		for _, r := range []privval.Response{
			{Kind: privval.KindPrevote, Timestamp: ts, Signature: sig},
			{Kind: privval.KindPrecommit, Timestamp: ts, Signature: sig, ExtensionSignature: ext},
			{Kind: privval.KindVote, Timestamp: ts, Signature: sig, ExtensionSignature: ext, NonRPExtensionSignature: nonRP},
		} {
			add(fmt.Sprintf("vote/%v/%s", r.Kind, at.name), r)
			rs[len(rs)-1].time = at.time
		}
	}
	long := bytes.Repeat([]byte{0x65}, 3309)
	add("vote/long", privval.Response{
		Kind: privval.KindPrecommit, Timestamp: someTime.Append(nil), Signature: long, ExtensionSignature: long, NonRPExtensionSignature: long,
	})
	rs[len(rs)-1].time = someTime
	add("proposal", privval.Response{Kind: privval.KindProposal, Signature: sig})
	add("proposal/long", privval.Response{Kind: privval.KindProposal, Signature: long})
	add("signbytes", privval.Response{Kind: privval.KindSignBytes, Signature: sig})
	add("rawbytes", privval.Response{Kind: privval.KindRawBytes, Signature: sig})
	add("ping", privval.Response{Kind: privval.KindPing})
	for kind := privval.KindProposal; kind <= privval.KindRawBytes; kind++ {
		add(fmt.Sprintf("error/%v", kind), privval.Response{Kind: kind, Refused: "refused: conflict: no", Signature: sig})
	}
	add("error/pubkey", privval.Response{Kind: privval.KindPubKey, Refused: "asked for chain \"b\", this is for \"a\""})
	add("error/text", privval.Response{Kind: privval.KindPrevote, Refused: "кошка = 鎖 %s " + strings.Repeat("long ", 100) + "end"})
	return rs
}

// generator is the generator of secp256k1, compressed: a point that exists.
var generator = append([]byte{2}, []byte("\x79\xbe\x66\x7e\xf9\xdc\xbb\xac\x55\xa0\x62\x95\xce\x87\x0b\x07\x02\x9b\xfc\xdb\x2d\xce\x28\xd9\x59\xf2\x81\x5b\x16\xf8\x17\x98")...)

// TestReplies writes the replies that the modules of each CometBFT version read
// (test/vectors), and checks that they stay the same.
func TestReplies(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Replies of privyseal, which the modules in test/vectors read with each CometBFT version.\n" +
		"# Made by `go test ./internal/privval -run TestReplies -update`; test/vectors/README.md has the format.\n")
	for _, r := range replies() {
		payload := framed(t, &r.resp)
		fmt.Fprintf(&b, "%s %s\n", r.name, describe(r, run8(payload)))
	}
	golden(t, "testdata/replies.txt", b.String())
}

// framed returns the payload of the reply's frame.
func framed(t *testing.T, r *privval.Response) []byte {
	t.Helper()
	in := bufio.NewReader(bytes.NewReader(r.AppendFrame(nil)))
	payload, err := privval.ReadFrame(in, nil)
	if err != nil || in.Buffered() != 0 {
		t.Fatalf("no frame: %v, %d bytes left", err, in.Buffered())
	}
	return payload
}

// describe says in the words of test/vectors/README.md what a node must read.
func describe(r reply, payload string) string {
	kinds := map[privval.Kind]string{
		privval.KindPubKey: "pubkey", privval.KindPing: "ping", privval.KindProposal: "proposal",
		privval.KindSignBytes: "signbytes", privval.KindRawBytes: "signbytes",
	}
	kind, ok := kinds[r.resp.Kind]
	if !ok {
		kind = "vote"
	}
	switch {
	case r.resp.Refused != "":
		return fmt.Sprintf("error %s reply=%s code=0 description=%s", payload, kind, r.resp.Refused)
	case kind == "pubkey":
		return fmt.Sprintf("pubkey %s type=%s key=%s", payload, r.resp.PubKey.Type, run8(r.resp.PubKey.Bytes))
	case kind == "vote":
		return fmt.Sprintf("vote %s timestamp=%s signature=%s extension_signature=%s", payload,
			r.time.Time().Format(time.RFC3339Nano), run8(r.resp.Signature), run8(r.resp.ExtensionSignature))
	case kind == "ping":
		return "ping " + payload
	}
	return fmt.Sprintf("%s %s signature=%s", kind, payload, run8(r.resp.Signature))
}

// run8 writes hex in which eight or more equal bytes stand as (bb*N).
func run8(b []byte) string {
	if len(b) == 0 {
		return "-"
	}
	var s strings.Builder
	for len(b) > 0 {
		n := 1
		for n < len(b) && b[n] == b[0] {
			n++
		}
		if n < 8 {
			n = 1
			fmt.Fprintf(&s, "%02x", b[0])
		} else {
			fmt.Fprintf(&s, "(%02x*%d)", b[0], n)
		}
		b = b[n:]
	}
	return s.String()
}

// The node's half for tests reads what was written.
func TestRepliesReadBack(t *testing.T) {
	for _, r := range replies() {
		got, err := privvaltest.DecodeResponse(framed(t, &r.resp))
		if err != nil {
			t.Errorf("%s: %v", r.name, err)
			continue
		}
		want := r.resp
		switch {
		case want.Kind == privval.KindRawBytes:
			want.Kind = privval.KindSignBytes
		case want.Kind == privval.KindPrevote, want.Kind == privval.KindPrecommit:
			want.Kind = privval.KindVote
		}
		if want.Refused != "" {
			want = privval.Response{Kind: want.Kind, Refused: want.Refused}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", r.name, diff)
		}
	}
}

// Replies without ML-DSA stay small, whatever the extension, and all of them
// below the 10 KiB that nodes up to v0.39 read; v0.40, which knows ML-DSA,
// reads more.
func TestRepliesAreSmall(t *testing.T) {
	for _, r := range replies() {
		limit := 300
		if strings.Contains(r.name, "ml_dsa") || strings.Contains(r.name, "long") || strings.Contains(r.name, "text") {
			limit = 10 << 10
		}
		if n := len(r.resp.AppendFrame(nil)); n > limit {
			t.Errorf("%s has %d bytes, the limit is %d", r.name, n, limit)
		}
	}
}

// AppendFrame appends: what stood before stays.
func TestAppendFrame(t *testing.T) {
	var all []byte
	for _, r := range replies() {
		before := bytes.Clone(all)
		all = r.resp.AppendFrame(all)
		if !bytes.HasPrefix(all, before) || !bytes.Equal(all[len(before):], r.resp.AppendFrame(nil)) {
			t.Fatalf("%s: not appended", r.name)
		}
	}
}

// v2.0.0-rc1 has secp256k1eth keys uncompressed, in the fields that it reads; v0.40
// finds the compressed one in its own.
func TestUncompressedKeyIsForV2(t *testing.T) {
	long := bytes.Repeat([]byte{4}, 65)
	short := framed(t, &privval.Response{Kind: privval.KindPubKey, PubKey: privval.PubKey{Type: "secp256k1eth", Bytes: generator}})
	both := framed(t, &privval.Response{Kind: privval.KindPubKey, PubKey: privval.PubKey{Type: "secp256k1eth", Bytes: generator, Uncompressed: long}})
	field := func(b []byte) []byte { return append([]byte{3<<3 | 2, byte(len(b))}, b...) }
	if n := bytes.Count(both, generator); n != 1 || !bytes.Contains(both, field(long)) || bytes.Contains(both, field(generator)) {
		t.Errorf("with both forms: %x", both)
	}
	if n := bytes.Count(short, generator); n != 2 || !bytes.Contains(short, field(generator)) {
		t.Errorf("with one: %x", short)
	}
}
