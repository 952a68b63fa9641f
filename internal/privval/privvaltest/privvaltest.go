// Package privvaltest is the node's half of package privval, for tests and
// benchmarks: it encodes requests as CometBFT does and decodes replies. No
// program imports it.
package privvaltest

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protowire"

	"privyseal/internal/privval"
)

// EncodeRequest returns the payload of the request, without its frame.
func EncodeRequest(r privval.Request) []byte {
	switch r.Kind {
	case privval.KindPubKey:
		return message(1, str(nil, 1, r.ChainID))
	case privval.KindPing:
		return message(7, nil)
	case privval.KindProposal:
		return message(5, str(message(1, proposal(r)), 2, r.ChainID))
	case privval.KindSignBytes:
		return message(9, bytesField(nil, 1, r.Bytes))
	case privval.KindRawBytes:
		return message(9, str(bytesField(str(nil, 1, r.ChainID), 2, r.Bytes), 3, r.UniqueID))
	}
	m := str(message(1, vote(r)), 2, r.ChainID)
	if r.SkipExtensionSigning {
		m = varint(m, 3, 1)
	}
	return message(3, m)
}

// WriteRequest writes the request as one frame.
func WriteRequest(w io.Writer, r privval.Request) error {
	_, err := w.Write(protowire.AppendBytes(nil, EncodeRequest(r)))
	return err
}

// Call sends one request and reads its reply.
func Call(w io.Writer, r *bufio.Reader, req privval.Request) (privval.Response, error) {
	if err := WriteRequest(w, req); err != nil {
		return privval.Response{}, err
	}
	payload, err := privval.ReadFrame(r, nil)
	if err != nil {
		return privval.Response{}, err
	}
	return DecodeResponse(payload)
}

// DecodeResponse reads the payload of a reply. The kind of a signed vote is
// KindVote, of signed bytes KindSignBytes.
func DecodeResponse(payload []byte) (resp privval.Response, err error) {
	outer, err := walk(payload)
	if err != nil || len(outer) != 1 {
		return resp, errors.Join(err, fmt.Errorf("%d messages in a frame", len(outer)))
	}
	for num, body := range outer {
		in, err := walk(body)
		if err != nil {
			return resp, err
		}
		if refused, ok := in[2]; ok {
			fields, err := walk(refused)
			if err != nil {
				return resp, err
			}
			resp.Refused = string(fields[2])
		}
		switch num {
		case 2:
			resp.Kind = privval.KindPubKey
			resp.PubKey = privval.PubKey{Type: string(in[4]), Bytes: in[3]}
		case 4:
			resp.Kind = privval.KindVote
			fields, err := walk(in[1])
			if err != nil {
				return resp, err
			}
			resp.Timestamp, resp.Signature = fields[5], fields[8]
			resp.ExtensionSignature, resp.NonRPExtensionSignature = fields[10], fields[12]
		case 6:
			resp.Kind = privval.KindProposal
			fields, err := walk(in[1])
			if err != nil {
				return resp, err
			}
			resp.Signature = fields[7]
		case 8:
			resp.Kind = privval.KindPing
		case 10:
			resp.Kind = privval.KindSignBytes
			resp.Signature = in[1]
		default:
			return resp, fmt.Errorf("message %d is not a reply", num)
		}
	}
	return resp, nil
}

// walk returns the length-delimited fields of a message by number.
func walk(b []byte) (map[protowire.Number][]byte, error) {
	fields := map[protowire.Number][]byte{}
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 || typ != protowire.BytesType {
			return nil, fmt.Errorf("field %d of type %d in a reply", num, typ)
		}
		v, size := protowire.ConsumeBytes(b[n:])
		if size < 0 {
			return nil, protowire.ParseError(size)
		}
		fields[num] = v
		b = b[n+size:]
	}
	return fields, nil
}

func vote(r privval.Request) []byte {
	types := map[privval.Kind]uint64{privval.KindPrevote: 1, privval.KindPrecommit: 2}
	b := varint(nil, 1, types[r.Kind])
	b = varint(b, 2, uint64(r.Height))
	b = varint(b, 3, uint64(int64(r.Round)))
	b = sub(b, 4, blockID(r.BlockID))
	b = sub(b, 5, r.Timestamp.Append(nil))
	b = bytesField(b, 6, r.ValidatorAddress)
	b = varint(b, 7, uint64(int64(r.ValidatorIndex)))
	b = bytesField(b, 8, r.Signature)
	b = bytesField(b, 9, r.Extension)
	b = bytesField(b, 10, r.ExtensionSignature)
	b = bytesField(b, 11, r.NonRPExtension)
	return bytesField(b, 12, r.NonRPExtensionSignature)
}

func proposal(r privval.Request) []byte {
	b := varint(nil, 1, 32)
	b = varint(b, 2, uint64(r.Height))
	b = varint(b, 3, uint64(int64(r.Round)))
	b = varint(b, 4, uint64(int64(r.POLRound)))
	b = sub(b, 5, blockID(r.BlockID))
	b = sub(b, 6, r.Timestamp.Append(nil))
	return bytesField(b, 7, r.Signature)
}

func blockID(id privval.BlockID) []byte {
	parts := bytesField(varint(nil, 1, uint64(id.PartsTotal)), 2, id.PartsHash)
	return sub(bytesField(nil, 1, id.Hash), 2, parts)
}

func message(num protowire.Number, body []byte) []byte { return sub(nil, num, body) }

func sub(b []byte, num protowire.Number, body []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), body)
}

func varint(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

func bytesField(b []byte, num protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return sub(b, num, v)
}

func str(b []byte, num protowire.Number, s string) []byte { return bytesField(b, num, []byte(s)) }
