package rig

import (
	"encoding/binary"
	"encoding/hex"
	"time"
)

// Commit is the commit of a block as the RPC gives it.
type Commit struct {
	ChainID    string
	Height     int64             `json:"height,string"`
	Round      int32             `json:"round"`
	BlockID    BlockID           `json:"block_id"`
	Signatures []CommitSignature `json:"signatures"`
}

// BlockID names a block.
type BlockID struct {
	Hash  HexBytes `json:"hash"`
	Parts struct {
		Total uint32   `json:"total"`
		Hash  HexBytes `json:"hash"`
	} `json:"parts"`
}

// CommitSignature is one validator's precommit.
type CommitSignature struct {
	Flag      int       `json:"block_id_flag"`
	Address   HexBytes  `json:"validator_address"`
	Timestamp time.Time `json:"timestamp"`
	Signature []byte    `json:"signature"`
}

// Flags of a precommit. There is a third one, of a vote that is absent.
const (
	forBlock = 2
	forNil   = 3
)

// SignatureOf returns the signature of the validator with that address (upper
// case hex) and the bytes it has to be over; ok is false if it did not sign for
// the block.
func (c *Commit) SignatureOf(address string) (signBytes, signature []byte, ok bool) {
	return c.voteOf(address, forBlock)
}

// NilOf returns the same of a vote for nil.
func (c *Commit) NilOf(address string) (signBytes, signature []byte, ok bool) {
	return c.voteOf(address, forNil)
}

func (c *Commit) voteOf(address string, flag int) (signBytes, signature []byte, ok bool) {
	for _, s := range c.Signatures {
		if s.Flag == flag && s.Address.String() == address {
			return c.signBytes(flag, s.Timestamp), s.Signature, true
		}
	}
	return nil, nil, false
}

// signBytes encodes the CanonicalVote of a precommit
// (proto/tendermint/types/canonical.proto), its length in front. One for nil has
// no block.
func (c *Commit) signBytes(flag int, at time.Time) []byte {
	parts := appendBytes(appendVarint(nil, 1, uint64(c.BlockID.Parts.Total)), 2, c.BlockID.Parts.Hash)
	block := appendBytes(appendBytes(nil, 1, c.BlockID.Hash), 2, parts)
	stamp := appendVarint(appendVarint(nil, 1, uint64(at.Unix())), 2, uint64(at.Nanosecond()))

	vote := appendVarint(nil, 1, 2) // precommit
	vote = appendFixed(vote, 2, c.Height)
	vote = appendFixed(vote, 3, int64(c.Round))
	if flag == forBlock {
		vote = appendBytes(vote, 4, block)
	}
	vote = appendBytes(vote, 5, stamp)
	vote = appendBytes(vote, 6, []byte(c.ChainID))
	return append(binary.AppendUvarint(nil, uint64(len(vote))), vote...)
}

func appendVarint(b []byte, field int, v uint64) []byte {
	if v == 0 {
		return b
	}
	return binary.AppendUvarint(append(b, byte(field<<3)), v)
}

func appendFixed(b []byte, field int, v int64) []byte {
	if v == 0 {
		return b
	}
	return binary.LittleEndian.AppendUint64(append(b, byte(field<<3|1)), uint64(v))
}

func appendBytes(b []byte, field int, v []byte) []byte {
	b = binary.AppendUvarint(append(b, byte(field<<3|2)), uint64(len(v)))
	return append(b, v...)
}

// HexBytes are upper-case hex in JSON.
type HexBytes []byte

// UnmarshalText reads hex.
func (h *HexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// String returns upper-case hex.
func (h HexBytes) String() string {
	const digits = "0123456789ABCDEF"
	s := make([]byte, 0, 2*len(h))
	for _, b := range h {
		s = append(s, digits[b>>4], digits[b&15])
	}
	return string(s)
}
