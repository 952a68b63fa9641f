// Package privval is the wire between a CometBFT node and its remote signer:
// framing, the messages of every version from v0.34 to v2.0-rc1 and Celestia's
// extra one, and the canonical bytes that are signed.
//
// It is one codec without a version setting. A node's requests are the same
// messages in every version, later ones with more fields; a reply carries what
// any version looks for, and each skips what it does not know.
//
// Nothing in a request is trusted. A [Request] is decoded strictly: fields in
// ascending order and once each, shortest varints, no zero written out. Fields
// that no version has are passed over and counted, for forks have some. So what is
// accepted would, but for those, be encoded to the same bytes again, and what is
// signed is built by [Request.SignBytes] from decoded values, never echoed.
//
// The package has no opinion on whether a request may be signed; that is the
// business of packages watermark and signer.
package privval

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// MaxRequest is the largest request payload in bytes. It is what v0.40 accepts
// itself (privval/signer_endpoint.go): a vote extension of 1 MiB, two ML-DSA-65
// signatures and 1024 bytes around them.
const MaxRequest = 1<<20 + 2*3309 + 1024

// Kind is what a request asks for.
type Kind uint8

const (
	KindPubKey Kind = iota + 1
	KindPing
	KindProposal
	KindPrevote
	KindPrecommit
	KindVote      // a vote of neither type; always with Request.Invalid
	KindSignBytes // v1 and v2: any bytes
	KindRawBytes  // Celestia: any bytes after a prefix of their own
)

// String returns the name of the kind, as used in logs and metrics.
func (k Kind) String() string {
	names := [...]string{"none", "pubkey", "ping", "proposal", "prevote", "precommit", "vote", "sign_bytes", "raw_bytes"}
	if int(k) < len(names) {
		return names[k]
	}
	return "none"
}

// Request is one decoded request of a node. Which fields count depends on Kind.
type Request struct {
	Kind    Kind
	ChainID string // absent in KindPing and KindSignBytes

	// Invalid is set when the message was recognised but cannot be signed as it
	// is: a missing vote, a half block id. Asking again would
	// not repair it, so the answer is a refusal. Only Kind counts then, and ChainID
	// where it could be read.
	Invalid error

	// Proposals and votes.
	Height    int64 // at least 1
	Round     int32 // at least 0
	POLRound  int32 // proposals: at least -1
	BlockID   BlockID
	Timestamp Timestamp
	Signature []byte // of no use in a request; kept because a node may send it

	// Votes. Only the extension is ever signed, as a message of its own.
	ValidatorAddress        []byte
	ValidatorIndex          int32
	Extension               []byte // v0.38 and later
	ExtensionSignature      []byte
	NonRPExtension          []byte // v2: signed as it comes, without chain or height
	NonRPExtensionSignature []byte
	SkipExtensionSigning    bool // v1 and v2

	Bytes    []byte // KindSignBytes, KindRawBytes
	UniqueID string // KindRawBytes

	// Unknown is how many fields of numbers that no version has were passed over,
	// at any depth. Nothing of them is kept or signed.
	Unknown int
}

// IsNilVote reports whether it is a vote for no block.
func (r *Request) IsNilVote() bool {
	return (r.Kind == KindPrevote || r.Kind == KindPrecommit) && r.Invalid == nil && r.BlockID.IsNil()
}

// BlockID names a block, or none (nil votes): it is zero or complete.
type BlockID struct {
	Hash       []byte // 32 bytes
	PartsTotal uint32
	PartsHash  []byte // 32 bytes
}

// IsNil reports whether it names no block.
func (b BlockID) IsNil() bool {
	return len(b.Hash) == 0 && b.PartsTotal == 0 && len(b.PartsHash) == 0
}

// Timestamp is a google.protobuf.Timestamp. Its zero value is 1970, while Go's
// zero time, which nodes send too, is year 1.
type Timestamp struct {
	Seconds int64 // year 1 to 9999
	Nanos   int32 // 0 to 999,999,999
}

// Time returns the timestamp in UTC.
func (t Timestamp) Time() time.Time { return time.Unix(t.Seconds, int64(t.Nanos)).UTC() }

// Response is the answer to a Request of the same Kind.
type Response struct {
	Kind Kind
	// Refused is the text of a final refusal. All other fields are ignored then.
	Refused string

	PubKey PubKey // KindPubKey
	// Timestamp is the encoded google.protobuf.Timestamp of the vote that was
	// signed; it can differ from the request's. Proposals have none: a node
	// ignores it.
	Timestamp               []byte
	Signature               []byte
	ExtensionSignature      []byte
	NonRPExtensionSignature []byte
}

// PubKey is a public key by CometBFT's name of its type: "ed25519",
// "secp256k1", "secp256k1eth", "ml_dsa_65".
type PubKey struct {
	Type  string
	Bytes []byte
	// Uncompressed is the key as v2.0.0-rc1 has it, where that differs: 65 bytes of a
	// secp256k1eth key. Otherwise nil.
	Uncompressed []byte
}

// ReadFrame reads one message after its length (uvarint, as gogoproto's
// delimited writer makes it) into buf, which it grows, and returns its payload.
// The payload stays valid until the next call with the same buf.
//
// io.EOF means that the stream ended between two messages. After any other
// error the stream is out of step and has to be closed.
func ReadFrame(r *bufio.Reader, buf []byte) ([]byte, error) {
	size, err := readLength(r)
	if err != nil {
		return nil, err
	}
	if uint64(cap(buf)) < size {
		buf = make([]byte, size)
	}
	buf = buf[:size]
	if _, err := io.ReadFull(r, buf); err != nil {
		return nil, fmt.Errorf("cannot read a message of %d bytes: %w", size, unexpected(err))
	}
	return buf, nil
}

// FrameBuffered reports whether the next frame is in r's buffer, so that
// ReadFrame does not wait for the node.
func FrameBuffered(r *bufio.Reader) bool {
	b, err := r.Peek(r.Buffered())
	if err != nil {
		return false
	}
	size, n := binary.Uvarint(b)
	return n > 0 && size <= uint64(len(b)-n)
}

// readLength reads a uvarint in its shortest form, at most MaxRequest.
func readLength(r *bufio.Reader) (uint64, error) {
	var raw [3]byte // 2^21-1 is above MaxRequest
	for i := range raw {
		b, err := r.ReadByte()
		if err != nil {
			if i > 0 {
				err = unexpected(err)
			}
			return 0, err
		}
		raw[i] = b
		if b < 0x80 {
			size, _ := binary.Uvarint(raw[:i+1])
			switch {
			case i > 0 && b == 0:
				return 0, errors.New("cannot read a message: its length is not in the shortest form")
			case size > MaxRequest:
				return 0, fmt.Errorf("cannot read a message of %d bytes: the limit is %d", size, MaxRequest)
			}
			return size, nil
		}
	}
	return 0, fmt.Errorf("cannot read a message: its length is over the limit of %d", MaxRequest)
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
