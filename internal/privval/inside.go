package privval

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// A node that asks within our process hands over a vote or a proposal by itself, as it
// encodes it, and takes it back signed. What decides is the same: the requests below are
// the payloads that the node would have written to its remote signer, for [Decode].

// VoteRequest returns the request to sign an encoded Vote.
func VoteRequest(vote []byte, chainID string, skipExtension bool) []byte {
	m := appendChainID(appendBytesField(nil, 1, vote), chainID)
	if skipExtension {
		m = protowire.AppendVarint(protowire.AppendTag(m, 3, protowire.VarintType), 1)
	}
	return appendBytesField(nil, fieldVote, m)
}

// ProposalRequest returns the request to sign an encoded Proposal.
func ProposalRequest(proposal []byte, chainID string) []byte {
	return appendBytesField(nil, fieldProposal, appendChainID(appendBytesField(nil, 1, proposal), chainID))
}

// BytesRequest returns the request to sign bytes, as v1 and v2 have it.
func BytesRequest(b []byte) []byte {
	var m []byte
	if len(b) > 0 {
		m = appendBytesField(m, 1, b)
	}
	return appendBytesField(nil, fieldBytes, m)
}

func appendChainID(m []byte, chainID string) []byte {
	if chainID == "" {
		return m
	}
	return appendBytesField(m, 2, []byte(chainID))
}

// Signed returns an encoded Vote or Proposal, of which Decode has read the request that
// is answered, with what the response has for it in place of its own: of a vote the
// timestamp and the signatures, of a proposal the signature. Its fields are in ascending
// order, as in what a node writes.
func (r *Response) Signed(message []byte) []byte {
	replaced, signed := []protowire.Number{7}, appendBytesField(nil, 7, r.Signature)
	if r.Kind != KindProposal {
		replaced, signed = []protowire.Number{5, 8, 10, 12}, r.signedVote()
	}
	list := slices.DeleteFunc(split(message), func(f field) bool { return slices.Contains(replaced, f.num) })
	list = append(list, split(signed)...)
	slices.SortStableFunc(list, func(a, b field) int { return int(a.num) - int(b.num) })
	out := make([]byte, 0, len(message)+len(signed))
	for _, f := range list {
		out = append(out, f.raw...)
	}
	return out
}

// field is one field of a message, with its tag.
type field struct {
	num protowire.Number
	raw []byte
}

// split returns the fields of a message, up to what is not one.
func split(message []byte) (list []field) {
	for len(message) > 0 {
		num, _, n := protowire.ConsumeField(message)
		if n < 0 {
			break
		}
		list = append(list, field{num, message[:n]})
		message = message[n:]
	}
	return list
}
