package privval_test

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"privyseal/internal/privval"
	"privyseal/internal/privval/privvaltest"
)

// inner returns the vote or proposal in a request, as the node encoded it, and whether
// the request says that an extension is not to be signed.
func inner(t *testing.T, payload []byte) (message []byte, skip bool) {
	t.Helper()
	_, _, n := protowire.ConsumeTag(payload)
	request, m := protowire.ConsumeBytes(payload[n:])
	if n < 0 || m < 0 {
		t.Fatalf("no request: %x", payload)
	}
	for len(request) > 0 {
		num, typ, n := protowire.ConsumeTag(request)
		size := protowire.ConsumeFieldValue(num, typ, request[n:])
		if n < 0 || size < 0 {
			t.Fatalf("no request: %x", payload)
		}
		switch value := request[n : n+size]; num {
		case 1:
			message, _ = protowire.ConsumeBytes(value)
		case 3:
			skip = true
		}
		request = request[n+size:]
	}
	return message, skip
}

// A request of a node that we are inside of is the one that the same node, of every
// version, sends to a remote signer.
func TestRequestsFromInside(t *testing.T) {
	same := 0
	for _, version := range versions {
		for _, v := range readVectors(t, version) {
			req, err := privval.Decode(v.request)
			if err != nil || req.Invalid != nil {
				continue
			}
			var got []byte
			switch req.Kind {
			case privval.KindProposal:
				message, _ := inner(t, v.request)
				got = privval.ProposalRequest(message, req.ChainID)
			case privval.KindPrevote, privval.KindPrecommit:
				message, skip := inner(t, v.request)
				got = privval.VoteRequest(message, req.ChainID, skip)
			case privval.KindSignBytes:
				got = privval.BytesRequest(req.Bytes)
			default:
				continue
			}
			if same++; !bytes.Equal(got, v.request) {
				t.Errorf("%s %s: %x, want %x", version, v.name, got, v.request)
			}
		}
	}
	if same < 500 {
		t.Errorf("only %d requests", same)
	}
}

// A message comes back as it was, but for what was answered: a strict decoder reads it,
// and finds the same to sign and the signature.
func TestSignedMessage(t *testing.T) {
	stamp := []byte{8, 77, 16, 5} // 77 s and 5 ns
	for _, version := range versions {
		for _, v := range readVectors(t, version) {
			before, err := privval.Decode(v.request)
			if err != nil || before.Invalid != nil || before.Kind != privval.KindProposal && before.Kind != privval.KindPrevote && before.Kind != privval.KindPrecommit {
				continue
			}
			message, skip := inner(t, v.request)
			was := bytes.Clone(message)
			resp := privval.Response{Kind: before.Kind, Signature: []byte("signature"), Timestamp: stamp}
			if before.Kind == privval.KindPrecommit {
				resp.ExtensionSignature, resp.NonRPExtensionSignature = []byte("extension"), []byte("another")
			}
			signed := resp.Signed(message)
			request := privval.ProposalRequest(signed, before.ChainID)
			want := before
			want.Signature = resp.Signature
			if before.Kind != privval.KindProposal {
				request = privval.VoteRequest(signed, before.ChainID, skip)
				want.Timestamp = privval.Timestamp{Seconds: 77, Nanos: 5}
				want.ExtensionSignature, want.NonRPExtensionSignature = resp.ExtensionSignature, resp.NonRPExtensionSignature
			}
			after, err := privval.Decode(request)
			if err != nil || after.Invalid != nil {
				t.Fatalf("%s %s: %v, %v", version, v.name, err, after.Invalid)
			}
			if after.Unknown = before.Unknown; !bytes.Equal(privvaltest.EncodeRequest(after), privvaltest.EncodeRequest(want)) {
				t.Errorf("%s %s: %+v, want %+v", version, v.name, after, want)
			}
			if !bytes.Equal(message, was) {
				t.Fatalf("%s %s: the message was written to", version, v.name)
			}
		}
	}
}

// Fields that no version has come back with the message, and bytes that are none end it.
func TestSignedMessageKeepsForeignFields(t *testing.T) {
	message := append(protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 32), 0xfa, 0x01, 1, 'x') // field 31
	resp := privval.Response{Kind: privval.KindProposal, Signature: []byte("s")}
	if got, want := resp.Signed(append(message, 0xff)), "\x08\x20\x3a\x01s\xfa\x01\x01x"; string(got) != want {
		t.Errorf("%x, want %x", got, want)
	}
}
