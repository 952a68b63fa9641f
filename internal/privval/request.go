package privval

import (
	"errors"
	"fmt"
)

// Numbers of the oneof in Message (proto/tendermint/privval/types.proto). A
// reply has the number of its request plus one.
const (
	fieldPubKey   = 1
	fieldVote     = 3
	fieldProposal = 5
	fieldPing     = 7
	fieldBytes    = 9 // SignBytesRequest of v1 and v2, SignRawBytesRequest of Celestia

	lastMessage = fieldBytes + 1
)

// Values of SignedMsgType (proto/tendermint/types/types.proto).
const (
	typePrevote   = 1
	typePrecommit = 2
	typeProposal  = 32
)

// Decode reads the payload of one message as a request. The result shares the
// payload's memory.
//
// An error means that the bytes are no request at all, and that the connection
// should be closed; what can be answered has [Request.Invalid] set instead.
//
// Fields of numbers that are not in our schema are passed over, as every node
// does, and counted in [Request.Unknown]: forks send them with proposals and do
// not sign them. No such field reaches the sign bytes. Requests for bytes of the
// node's choice may have none.
func Decode(payload []byte) (Request, error) {
	var r Request
	f := fields{b: payload, skipped: &r.Unknown}
	for f.next() {
		switch {
		case f.num > lastMessage && r.Kind != 0:
			f.foreign()
		case r.Kind != 0:
			f.err = errors.New("more than one message in a frame")
		default:
			r.decodeMessage(&f)
		}
	}
	if f.err == nil && r.Kind == 0 {
		f.err = errMissing
	}
	if f.err != nil {
		return Request{}, fmt.Errorf("cannot decode a request: %w", f.err)
	}
	return r, nil
}

// decodeMessage reads what the frame is about.
func (r *Request) decodeMessage(f *fields) {
	m := f.message()
	switch f.num {
	case fieldPubKey:
		r.Kind = KindPubKey
		r.decodePubKey(&m)
	case fieldVote:
		r.Kind = KindVote
		r.decodeSignVote(&m)
	case fieldProposal:
		r.Kind = KindProposal
		r.decodeSignProposal(&m)
	case fieldPing:
		r.Kind = KindPing
		for m.next() {
			m.foreign()
		}
	case fieldBytes:
		r.Kind = KindSignBytes
		m.skipped = nil
		r.decodeBytes(&m)
	default:
		f.unknown()
	}
	if m.err != nil && f.err == nil {
		r.Invalid = m.err
	}
}

func (r *Request) decodePubKey(f *fields) {
	for f.next() {
		switch f.num {
		case 1:
			r.ChainID = string(f.bytes())
		default:
			f.foreign()
		}
	}
}

func (r *Request) decodeSignVote(f *fields) {
	var vote bool
	var msgType int32
	for f.next() {
		switch f.num {
		case 1:
			vote = true
			m := f.message()
			msgType = r.decodeVote(&m)
			f.done(&m)
		case 2:
			r.ChainID = string(f.bytes())
		case 3:
			r.SkipExtensionSigning = f.bool()
		default:
			f.foreign()
		}
	}
	switch {
	case f.err != nil:
	case !vote:
		f.err = errors.New("there is no vote in it")
	default:
		f.err = r.checkVote(msgType)
	}
}

// decodeVote reads a Vote and returns its type.
func (r *Request) decodeVote(f *fields) (msgType int32) {
	var blockID, timestamp bool
	for f.next() {
		switch f.num {
		case 1:
			msgType = f.int32()
		case 2:
			r.Height = f.int64()
		case 3:
			r.Round = f.int32()
		case 4:
			blockID = true
			r.BlockID = decodeBlockID(f)
		case 5:
			timestamp = true
			r.Timestamp = decodeTimestamp(f)
		case 6:
			r.ValidatorAddress = f.bytes()
		case 7:
			r.ValidatorIndex = f.int32()
		case 8:
			r.Signature = f.bytes()
		case 9:
			r.Extension = f.bytes()
		case 10:
			r.ExtensionSignature = f.bytes()
		case 11:
			r.NonRPExtension = f.bytes()
		case 12:
			r.NonRPExtensionSignature = f.bytes()
		default:
			f.foreign()
		}
	}
	requirePresent(f, blockID, timestamp)
	return msgType
}

func (r *Request) decodeSignProposal(f *fields) {
	var proposal bool
	var msgType int32
	for f.next() {
		switch f.num {
		case 1:
			proposal = true
			m := f.message()
			msgType = r.decodeProposal(&m)
			f.done(&m)
		case 2:
			r.ChainID = string(f.bytes())
		default:
			f.foreign()
		}
	}
	switch {
	case f.err != nil:
	case !proposal:
		f.err = errors.New("there is no proposal in it")
	default:
		f.err = r.checkProposal(msgType)
	}
}

// decodeProposal reads a Proposal and returns its type.
func (r *Request) decodeProposal(f *fields) (msgType int32) {
	var blockID, timestamp bool
	for f.next() {
		switch f.num {
		case 1:
			msgType = f.int32()
		case 2:
			r.Height = f.int64()
		case 3:
			r.Round = f.int32()
		case 4:
			r.POLRound = f.int32()
		case 5:
			blockID = true
			r.BlockID = decodeBlockID(f)
		case 6:
			timestamp = true
			r.Timestamp = decodeTimestamp(f)
		case 7:
			r.Signature = f.bytes()
		default:
			f.foreign()
		}
	}
	requirePresent(f, blockID, timestamp)
	return msgType
}

// requirePresent faults a message without its block id or timestamp: CometBFT
// declares both non-nullable and writes them even when they are empty.
func requirePresent(f *fields, blockID, timestamp bool) {
	if f.err == nil && !(blockID && timestamp) {
		f.err = errors.New("its block id or its timestamp is missing")
	}
}

func decodeBlockID(f *fields) (id BlockID) {
	m := f.message()
	var parts bool
	for m.next() {
		switch m.num {
		case 1:
			id.Hash = m.bytes()
		case 2:
			parts = true
			p := m.message()
			for p.next() {
				switch p.num {
				case 1:
					id.PartsTotal = p.uint32()
				case 2:
					id.PartsHash = p.bytes()
				default:
					p.foreign()
				}
			}
			m.done(&p)
		default:
			m.foreign()
		}
	}
	if m.err == nil && !parts {
		m.err = errors.New("a block id without a part set header")
	}
	f.done(&m)
	return id
}

// First and last second of the years 1 and 9999, the range of a
// google.protobuf.Timestamp.
const (
	minSeconds = -62135596800
	maxSeconds = 253402300799
)

func decodeTimestamp(f *fields) (t Timestamp) {
	m := f.message()
	for m.next() {
		switch m.num {
		case 1:
			t.Seconds = m.int64()
		case 2:
			t.Nanos = m.int32()
		default:
			m.foreign()
		}
	}
	if m.err == nil && (t.Seconds < minSeconds || t.Seconds > maxSeconds || t.Nanos < 0 || t.Nanos > 999_999_999) {
		m.err = errors.New("a timestamp out of range")
	}
	f.done(&m)
	return t
}

// decodeBytes distinguishes the two messages of number 9: CometBFT's has the
// bytes in field 1 and nothing else, Celestia's has three fields, all of which
// it requires (celestia-core types/priv_validator.go).
func (r *Request) decodeBytes(f *fields) {
	var first []byte
	for f.next() {
		switch f.num {
		case 1:
			first = f.bytes()
		case 2:
			r.Kind, r.Bytes = KindRawBytes, f.bytes()
		case 3:
			r.Kind, r.UniqueID = KindRawBytes, string(f.bytes())
		default:
			f.unknown()
		}
	}
	switch {
	case f.err != nil:
	case r.Kind == KindSignBytes:
		r.Bytes = first
	case len(first) == 0 || len(r.Bytes) == 0 || r.UniqueID == "":
		f.err = errors.New("raw bytes need a chain id, bytes and a unique id")
	default:
		r.ChainID = string(first)
	}
}

// The bounds below are those of spec/consensus/signing.md and of ValidateBasic
// in CometBFT's types. Its own signer checks none of them, and panics on some.

func (r *Request) checkVote(msgType int32) error {
	switch msgType {
	case typePrevote:
		r.Kind = KindPrevote
	case typePrecommit:
		r.Kind = KindPrecommit
	default:
		return fmt.Errorf("a vote of type %d is neither prevote nor precommit", msgType)
	}
	if r.Kind == KindPrevote || r.BlockID.IsNil() {
		if len(r.Extension) > 0 || len(r.NonRPExtension) > 0 {
			return errors.New("only a precommit for a block may carry an extension")
		}
	}
	return r.checkPosition()
}

func (r *Request) checkProposal(msgType int32) error {
	switch {
	case msgType != typeProposal:
		return fmt.Errorf("a proposal of type %d", msgType)
	case r.POLRound < -1:
		return fmt.Errorf("a proposal of pol round %d", r.POLRound)
	case r.BlockID.IsNil():
		return errors.New("a proposal for no block")
	}
	return r.checkPosition()
}

func (r *Request) checkPosition() error {
	switch id := r.BlockID; {
	case r.Height < 1:
		return fmt.Errorf("height %d", r.Height)
	case r.Round < 0:
		return fmt.Errorf("round %d", r.Round)
	case r.ChainID == "":
		return errors.New("there is no chain id in it")
	case id.IsNil():
		return nil
	case len(id.Hash) != 32 || len(id.PartsHash) != 32 || id.PartsTotal == 0:
		return fmt.Errorf("a block id is empty or complete, not a hash of %d bytes with %d parts and a parts hash of %d bytes",
			len(id.Hash), id.PartsTotal, len(id.PartsHash))
	}
	return nil
}
