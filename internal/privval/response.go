package privval

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// AppendFrame appends the response as one frame, length first.
//
// It is smaller than what CometBFT's own signer sends: of a signed vote a node
// takes the timestamp and the signatures, of a proposal the signature alone
// (privval/signer_client.go, consensus/state.go; all versions). So it stays
// below the 10 KiB that nodes up to v0.39 read, whatever the extension's size.
func (r *Response) AppendFrame(dst []byte) []byte {
	num, body := r.message()
	size := protowire.SizeTag(num) + protowire.SizeBytes(len(body))
	dst = protowire.AppendVarint(dst, uint64(size))
	return appendBytesField(dst, num, body)
}

// message returns the body of the reply and its number in Message.
func (r *Response) message() (num protowire.Number, body []byte) {
	switch r.Kind {
	case KindPubKey:
		num = fieldPubKey + 1
		if r.Refused == "" {
			body = r.PubKey.append(body)
		}
	case KindPing:
		return fieldPing + 1, nil
	case KindProposal:
		num = fieldProposal + 1
		if r.Refused == "" {
			body = appendBytesField(body, 1, appendBytesField(nil, 7, r.Signature))
		}
	case KindSignBytes, KindRawBytes:
		num = fieldBytes + 1
		if r.Refused == "" {
			body = appendBytesField(body, 1, r.Signature)
		}
	default:
		num = fieldVote + 1
		if r.Refused == "" {
			body = appendBytesField(body, 1, r.signedVote())
		}
	}
	if r.Refused != "" {
		// RemoteSignerError{2: description}. No version looks at the code, and
		// CometBFT's own signer leaves it 0.
		body = appendBytesField(body, 2, appendBytesField(nil, 2, []byte(r.Refused)))
	}
	return num, body
}

// signedVote returns a Vote with nothing but what a node takes from it.
func (r *Response) signedVote() []byte {
	vote := appendBytesField(nil, 5, r.Timestamp)
	vote = appendBytesField(vote, 8, r.Signature)
	if r.ExtensionSignature != nil {
		vote = appendBytesField(vote, 10, r.ExtensionSignature)
	}
	if r.NonRPExtensionSignature != nil {
		vote = appendBytesField(vote, 12, r.NonRPExtensionSignature)
	}
	return vote
}

// append appends a PubKeyResponse for every version at once: field 1 is read
// up to v0.40, fields 3 and 4 by v1 and v2.
func (k PubKey) append(body []byte) []byte {
	if key := k.PublicKey(); key != nil {
		body = appendBytesField(body, 1, key)
	}
	long := k.Bytes
	if k.Uncompressed != nil {
		long = k.Uncompressed
	}
	body = appendBytesField(body, 3, long)
	return appendBytesField(body, 4, []byte(k.Type))
}

// PublicKey returns the key as a PublicKey, encoded as versions up to v0.40 do it, or nil
// where they have none of its type.
func (k PubKey) PublicKey() []byte {
	oneof := map[string]protowire.Number{"ed25519": 1, "secp256k1": 2, "ml_dsa_65": 4, "secp256k1eth": 5}
	if num, ok := oneof[k.Type]; ok {
		return appendBytesField(nil, num, k.Bytes)
	}
	return nil
}
