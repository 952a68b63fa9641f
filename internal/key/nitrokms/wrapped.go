package nitrokms

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"privyseal/internal/awsjson"
	"privyseal/internal/claims"
	"privyseal/internal/secret"
)

// A wrapped key is a file that a host may keep and anybody may read. It is, each
// field with its length in two bytes before it, big-endian:
//
//	"privyseal wrapped key 1\n"   (without a length)
//	ARN of the KMS key
//	chain id                      (empty for an identity)
//	key type                      (CometBFT's name)
//	public key                    (in its raw form)
//	data key                      (KMS's CiphertextBlob)
//	sealed                        (AES-256-GCM: nonce, ciphertext, tag)
//
// All before sealed is its additional data, so that no field can be exchanged.
// Inside are the origin (one byte: 1 generated, 2 imported), the time in seconds
// since 1970 (8 bytes) and the secret.
const wrappedMagic = FirstLine + "\n"

// FirstLine is how a wrapped key begins.
const FirstLine = "privyseal wrapped key 1"

// Limits of a wrapped key's fields in bytes.
const (
	maxChain  = 50 // MaxChainIDLen of CometBFT
	maxType   = 32
	maxPublic = 4096
	maxSecret = 8192
	innerHead = 1 + 8
	maxSealed = 12 + innerHead + maxSecret + 16
)

// errWrapped says that this is not a wrapped key, or that it was tampered with.
var errWrapped = errors.New("not a wrapped key, or a damaged one")

// EncryptionContext returns what KMS binds the data key of a wrapped key to, and
// what a key policy can pin: "privyseal-chain", not there for an identity, and
// "privyseal-public-key", base64 of the raw key, or "sha256:" and the hash in hex
// where the key has more than 65 bytes. KMS writes both to CloudTrail.
func EncryptionContext(chainID string, public []byte) map[string]string {
	m := map[string]string{"privyseal-public-key": claims.EncodeKey(public)}
	if chainID != "" {
		m["privyseal-chain"] = chainID
	}
	return m
}

// Wrap encrypts a secret under a data key that KMS makes for this image.
func (k *Client) Wrap(ctx context.Context, c secret.AWS, s secret.Key) ([]byte, error) {
	if s.Created.IsZero() {
		s.Created = k.c.Now()
	}
	if err := check(&s); err != nil {
		return nil, fmt.Errorf("cannot wrap the key: %w", err)
	}
	dataKey, encrypted, err := k.generateDataKey(ctx, c, EncryptionContext(s.ChainID, s.Public))
	if err != nil {
		return nil, fmt.Errorf("cannot wrap the key: %w", err)
	}
	defer clear(dataKey)
	h := Header{KeyARN: k.c.KeyARN, ChainID: s.ChainID, KeyType: s.KeyType, Public: s.Public, dataKey: encrypted}
	return h.seal(dataKey, &s)
}

// seal returns the wrapped key.
func (h *Header) seal(dataKey []byte, s *secret.Key) ([]byte, error) {
	aead, err := newAEAD(dataKey)
	if err != nil {
		return nil, err
	}
	inner := encode(s)
	defer clear(inner)
	head := h.encode()
	return appendField(head, aead.Seal(nil, nil, inner, head)), nil
}

// open returns what is sealed after the header.
func (h *Header) open(dataKey, sealed []byte) (secret.Key, error) {
	aead, err := newAEAD(dataKey)
	if err != nil {
		return secret.Key{}, err
	}
	inner, err := aead.Open(nil, nil, sealed, h.encode())
	if err != nil {
		return secret.Key{}, errWrapped
	}
	defer clear(inner)
	s := secret.Key{ChainID: h.ChainID, KeyType: h.KeyType, Public: h.Public}
	if err := decode(&s, inner); err != nil {
		return secret.Key{}, err
	}
	return s, nil
}

// newAEAD returns AES-256-GCM with a random nonce, which comes before the
// ciphertext.
func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// Unwrap opens a wrapped key of this client's KMS key. All in the result is
// authenticated: an enclave that KMS let use the key wrote it. Which of its
// wrapped keys the host handed in, the caller has to check: chain, public key,
// and that the secret belongs to it. The errors are [errWrapped] and *[Error].
func (k *Client) Unwrap(ctx context.Context, c secret.AWS, wrapped []byte) (secret.Key, error) {
	h, sealed, err := parseWrapped(wrapped)
	if err != nil {
		return secret.Key{}, fmt.Errorf("cannot unwrap the key: %w", err)
	}
	if h.KeyARN != k.c.KeyARN {
		return secret.Key{}, &Error{Op: "Decrypt", Reason: errOtherKey, Message: "it says " + awsjson.Printable(h.KeyARN, maxARN)}
	}
	dataKey, err := k.decrypt(ctx, c, h.dataKey, EncryptionContext(h.ChainID, h.Public))
	if err != nil {
		return secret.Key{}, fmt.Errorf("cannot unwrap the key: %w", err)
	}
	defer clear(dataKey)
	if len(dataKey) != 32 {
		return secret.Key{}, fmt.Errorf("cannot unwrap the key: %w", errWrapped)
	}
	s, err := h.open(dataKey, sealed)
	if err != nil {
		return secret.Key{}, fmt.Errorf("cannot unwrap the key: %w", err)
	}
	return s, nil
}

// origins are the bytes of the origins.
var origins = [...]string{1: claims.Generated, 2: claims.Imported}

func check(s *secret.Key) error {
	switch {
	case s.Origin != claims.Generated && s.Origin != claims.Imported:
		return fmt.Errorf("its origin is %.20q", s.Origin)
	case len(s.ChainID) > maxChain:
		return fmt.Errorf("the chain id has %d bytes, more than %d", len(s.ChainID), maxChain)
	case s.KeyType == "" || len(s.KeyType) > maxType:
		return fmt.Errorf("the key type has %d bytes, not 1 to %d", len(s.KeyType), maxType)
	case len(s.Public) == 0 || len(s.Public) > maxPublic:
		return fmt.Errorf("the public key has %d bytes, not 1 to %d", len(s.Public), maxPublic)
	case len(s.Secret.Reveal()) == 0 || len(s.Secret.Reveal()) > maxSecret:
		return fmt.Errorf("the secret has %d bytes, not 1 to %d", len(s.Secret.Reveal()), maxSecret)
	case s.Created.Unix() <= 0:
		return errors.New("the clock is set before 1970")
	}
	return nil
}

func encode(s *secret.Key) []byte {
	origin := byte(1)
	if s.Origin == claims.Imported {
		origin = 2
	}
	plain := s.Secret.Reveal()
	b := append(make([]byte, 0, innerHead+len(plain)), origin)
	b = binary.BigEndian.AppendUint64(b, uint64(s.Created.Unix()))
	return append(b, plain...)
}

// decode reads what is inside. It was authenticated, so that an error means
// another version of this program.
func decode(s *secret.Key, b []byte) error {
	if len(b) <= innerHead || int(b[0]) >= len(origins) || origins[b[0]] == "" || b[1]&0x80 != 0 {
		return errWrapped
	}
	s.Origin = origins[b[0]]
	s.Created = time.Unix(int64(binary.BigEndian.Uint64(b[1:])), 0).UTC()
	s.Secret = secret.NewBytes(bytes.Clone(b[innerHead:]))
	return check(s)
}

// Header is the part of a wrapped key that is not encrypted.
type Header struct {
	KeyARN  string
	ChainID string // "" for an identity
	KeyType string
	Public  []byte

	dataKey []byte
}

// Inspect returns what a wrapped key says about itself, which nothing proves until
// it is unwrapped. It takes exactly what Wrap writes, else [errWrapped].
func Inspect(wrapped []byte) (Header, error) {
	h, _, err := parseWrapped(wrapped)
	return h, err
}

func (h *Header) encode() []byte {
	b := []byte(wrappedMagic)
	b = appendField(b, []byte(h.KeyARN))
	b = appendField(b, []byte(h.ChainID))
	b = appendField(b, []byte(h.KeyType))
	b = appendField(b, h.Public)
	return appendField(b, h.dataKey)
}

func appendField(b, field []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(field))), field...)
}

func parseWrapped(b []byte) (h Header, sealed []byte, err error) {
	rest, ok := bytes.CutPrefix(b, []byte(wrappedMagic))
	if !ok {
		return Header{}, nil, fmt.Errorf("%w: it does not begin as one", errWrapped)
	}
	field := func(least, most int) []byte {
		if !ok || len(rest) < 2 {
			ok = false
			return nil
		}
		n := int(binary.BigEndian.Uint16(rest))
		if rest = rest[2:]; n > len(rest) || n < least || n > most {
			ok = false
			return nil
		}
		f := bytes.Clone(rest[:n])
		rest = rest[n:]
		return f
	}
	h.KeyARN = string(field(1, maxARN))
	h.ChainID = string(field(0, maxChain))
	h.KeyType = string(field(1, maxType))
	h.Public = field(1, maxPublic)
	h.dataKey = field(1, maxCiphertext)
	sealed = field(12+innerHead+1+16, maxSealed)
	if !ok || len(rest) > 0 {
		return Header{}, nil, fmt.Errorf("%w: it is cut off, or its fields are invalid", errWrapped)
	}
	return h, sealed, nil
}
