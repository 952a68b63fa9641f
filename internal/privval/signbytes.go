package privval

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// SignBytes returns the bytes under the signature of a proposal or vote: a
// CanonicalProposal or CanonicalVote after its length as uvarint (CometBFT
// types/vote.go VoteSignBytes, types/proposal.go ProposalSignBytes; the same
// bytes from v0.34 to v2). The request must have no Invalid.
func (r *Request) SignBytes() []byte {
	m := make([]byte, 0, 192)
	if r.Kind == KindProposal {
		m = appendVarintField(m, 1, typeProposal)
		m = appendPosition(m, 2, r.Height, r.Round)
		// pol_round is an int64 varint, not the sfixed64 of its neighbours.
		m = appendVarintField(m, 4, uint64(int64(r.POLRound)))
		m = appendCanonicalBlockID(m, 5, r.BlockID)
		m = appendBytesField(m, 6, r.Timestamp.Append(nil))
		m = appendStringField(m, 7, r.ChainID)
		return delimited(m)
	}
	if r.Kind == KindPrevote {
		m = appendVarintField(m, 1, typePrevote)
	} else {
		m = appendVarintField(m, 1, typePrecommit)
	}
	m = appendPosition(m, 2, r.Height, r.Round)
	m = appendCanonicalBlockID(m, 4, r.BlockID)
	m = appendBytesField(m, 5, r.Timestamp.Append(nil))
	m = appendStringField(m, 6, r.ChainID)
	return delimited(m)
}

// ExtensionSignBytes returns the bytes under the signature of the vote
// extension: a CanonicalVoteExtension after its length (types/vote.go
// VoteExtensionSignBytes).
func (r *Request) ExtensionSignBytes() []byte {
	m := make([]byte, 0, len(r.Extension)+len(r.ChainID)+32)
	if len(r.Extension) > 0 {
		m = appendBytesField(m, 1, r.Extension)
	}
	m = appendPosition(m, 2, r.Height, r.Round)
	m = appendStringField(m, 4, r.ChainID)
	return delimited(m)
}

// rawBytesPrefix keeps what Celestia signs apart from every consensus message.
const rawBytesPrefix = "COMET::RAW_BYTES::SIGN"

// RawSignBytes returns the bytes under the signature of a request for
// arbitrary bytes: the bytes as they are for v1's and v2's SignBytes, and the
// prefixed, delimited request itself for Celestia's (celestia-core
// types/priv_validator.go RawBytesMessageSignBytes).
func (r *Request) RawSignBytes() []byte {
	if r.Kind == KindSignBytes {
		return r.Bytes
	}
	m := appendStringField(nil, 1, r.ChainID)
	m = appendBytesField(m, 2, r.Bytes)
	m = appendStringField(m, 3, r.UniqueID)
	return append([]byte(rawBytesPrefix), delimited(m)...)
}

// Append appends the timestamp as a google.protobuf.Timestamp.
func (t Timestamp) Append(b []byte) []byte {
	b = appendVarintField(b, 1, uint64(t.Seconds))
	return appendVarintField(b, 2, uint64(int64(t.Nanos)))
}

// ParseSignBytes reads sign bytes of a proposal or vote back, as an imported
// state holds them. The result has the fields that are signed, and building
// its SignBytes gives b again.
func ParseSignBytes(b []byte) (Request, error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size != uint64(len(b)-n) {
		return Request{}, errors.New("cannot parse sign bytes: the length in front does not match")
	}
	r, err := parseCanonical(b[n:])
	if err != nil {
		return Request{}, fmt.Errorf("cannot parse sign bytes: %w", err)
	}
	if !bytes.Equal(r.SignBytes(), b) {
		return Request{}, errors.New("cannot parse sign bytes: they are not in canonical form")
	}
	return r, nil
}

func parseCanonical(b []byte) (r Request, err error) {
	f := fields{b: b}
	var msgType int32
	// A proposal has pol_round in field 4, so all after it is one higher.
	shift := protowire.Number(0)
	for f.next() {
		switch num := f.num - shift; {
		case f.num == 1:
			msgType = f.int32()
			if msgType == typeProposal {
				shift = 1
			}
		case f.num == 2:
			r.Height = f.sfixed64()
		case f.num == 3:
			round := f.sfixed64()
			r.Round = int32(round)
			if int64(r.Round) != round {
				f.err = errRange
			}
		case shift == 1 && f.num == 4:
			r.POLRound = f.int32()
		case num == 4:
			r.BlockID = decodeBlockID(&f)
		case num == 5:
			r.Timestamp = decodeTimestamp(&f)
		case num == 6:
			r.ChainID = string(f.bytes())
		default:
			f.unknown()
		}
	}
	switch {
	case f.err != nil:
		return Request{}, f.err
	case msgType == typeProposal:
		r.Kind = KindProposal
		return r, r.checkProposal(msgType)
	}
	return r, r.checkVote(msgType)
}

// LooksCanonical reports whether b could be taken for a vote, a proposal or a
// vote extension of any chain, with or without its length in front. Such bytes
// are never signed as they come: the signature would be worth that of a vote
// which no mark knows.
//
// It is wider than what a verifier accepts: fields in any order and number. A
// random hash is no such message but for one in 2^60.
func LooksCanonical(b []byte) bool {
	if hasCanonicalShape(b) {
		return true
	}
	size, n := binary.Uvarint(b)
	return n > 0 && size == uint64(len(b)-n) && hasCanonicalShape(b[n:])
}

func hasCanonicalShape(b []byte) bool {
	var seen [8]protowire.Type
	for i := range seen {
		seen[i] = -1
	}
	var first uint64
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 || num > 7 {
			return false
		}
		size := protowire.ConsumeFieldValue(num, typ, b[n:])
		if size < 0 {
			return false
		}
		if num == 1 && typ == protowire.VarintType {
			first, _ = protowire.ConsumeVarint(b[n:])
		}
		seen[num] = typ
		b = b[n+size:]
	}
	if seen[2] != protowire.Fixed64Type {
		return false // no height
	}
	vote := (first == typePrevote || first == typePrecommit) && seen[5] == protowire.BytesType
	proposal := first == typeProposal && seen[6] == protowire.BytesType
	extension := seen[1] != protowire.VarintType && seen[4] == protowire.BytesType
	return vote || proposal || extension
}

func appendVarintField(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	b = protowire.AppendTag(b, num, protowire.VarintType)
	return protowire.AppendVarint(b, v)
}

func appendStringField(b []byte, num protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	b = protowire.AppendTag(b, num, protowire.BytesType)
	return protowire.AppendString(b, s)
}

// appendPosition appends height and round as sfixed64, at num and num+1.
func appendPosition(b []byte, num protowire.Number, height int64, round int32) []byte {
	if height != 0 {
		b = protowire.AppendTag(b, num, protowire.Fixed64Type)
		b = protowire.AppendFixed64(b, uint64(height))
	}
	if round != 0 {
		b = protowire.AppendTag(b, num+1, protowire.Fixed64Type)
		b = protowire.AppendFixed64(b, uint64(int64(round)))
	}
	return b
}

// appendCanonicalBlockID appends the block id, or nothing for a nil vote.
func appendCanonicalBlockID(b []byte, num protowire.Number, id BlockID) []byte {
	if id.IsNil() {
		return b
	}
	parts := appendVarintField(nil, 1, uint64(id.PartsTotal))
	parts = appendBytesField(parts, 2, id.PartsHash)
	m := appendBytesField(nil, 1, id.Hash)
	m = appendBytesField(m, 2, parts)
	return appendBytesField(b, num, m)
}

// delimited puts the length in front of a message.
func delimited(m []byte) []byte {
	b := make([]byte, 0, len(m)+protowire.SizeVarint(uint64(len(m))))
	b = protowire.AppendVarint(b, uint64(len(m)))
	return append(b, m...)
}

func appendBytesField(b []byte, num protowire.Number, v []byte) []byte {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	return protowire.AppendBytes(b, v)
}
