package nitrokms

import (
	"bytes"
	"context"
	"time"

	"privyseal/internal/secret"
)

// Sample is one answer of KMS as it came, so that a KMS of tests can be compared with it.
type Sample struct {
	Call string // what it answers
	Raw  []byte // all of it, in HTTP; nil if there is none, or if something in it may be secret
	Err  error  // why the client did not take it; nil if it did
}

// sampleTimeout bounds all calls of a sample.
const sampleTimeout = 20 * time.Second

// Sample has KMS make a data key, has it opened again, and makes some mistakes. What KMS says
// to that holds no secret: the data key encrypts nothing, and nobody keeps it. What KMS says
// of the keys in use, nobody hears.
func (k *Client) Sample(ctx context.Context, c secret.AWS, chainID string, public []byte) (list []Sample) {
	ctx, cancel := context.WithTimeout(ctx, sampleTimeout)
	defer cancel()
	var blob []byte
	for _, call := range [...]struct {
		name                          string
		badBlob, unbound, badDocument bool
	}{
		{name: "GenerateDataKey"}, {name: "Decrypt"}, {name: "Decrypt of a damaged ciphertext", badBlob: true},
		{name: "Decrypt without the encryption context", unbound: true}, {name: "Decrypt with a damaged document", badDocument: true},
	} {
		one, s, sent := *k, Sample{Call: call.name}, blob
		one.ear = &ear{}
		binding := EncryptionContext(chainID, public)
		if call.unbound {
			binding = nil
		}
		if call.badBlob {
			sent = damaged(blob)
		}
		if call.badDocument {
			one.c.Attest = func(public []byte) ([]byte, error) {
				document, err := k.c.Attest(public)
				return damaged(document), err
			}
		}
		var plain []byte
		if blob == nil {
			plain, blob, s.Err = one.generateDataKey(ctx, c, binding)
		} else {
			plain, s.Err = one.decrypt(ctx, c, sent, binding)
		}
		clear(plain)
		if one.ear.harmless(c, s.Err) {
			s.Raw = one.ear.heard
		}
		if list = append(list, s); blob == nil {
			break
		}
	}
	return list
}

// damaged returns b with a bit of its last byte flipped.
func damaged(b []byte) []byte {
	if b = bytes.Clone(b); len(b) > 0 {
		b[len(b)-1] ^= 1
	}
	return b
}
