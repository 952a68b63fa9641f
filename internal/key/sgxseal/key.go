package sgxseal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"privyseal/internal/claims"
	"privyseal/internal/secret"
)

// Limits of a key's fields in bytes.
const (
	maxChain  = 50 // MaxChainIDLen of CometBFT
	maxType   = 32
	maxOrigin = 32
	maxPublic = 4096
	maxSecret = 8192
	// Of what is encrypted: a nonce, the time, the secret, a tag.
	minSealed = 12 + 8 + 1 + 16
	maxSealed = 12 + 8 + maxSecret + 16
)

// Head is what the files of a key say in the clear. Nothing proves it until the file is
// opened.
type Head struct {
	ChainID string // "" for an identity, and for a wrap key
	KeyType string // CometBFT's name, or [WrapKeyType]
	Public  []byte // in its raw form
	Origin  string // one of package claims
}

func headOf(k *secret.Key) Head {
	return Head{ChainID: k.ChainID, KeyType: k.KeyType, Public: k.Public, Origin: k.Origin}
}

func (h *Head) append(b []byte) []byte {
	b = appendField(b, h.ChainID)
	b = appendField(b, h.KeyType)
	b = appendField(b, h.Public)
	return appendField(b, h.Origin)
}

func (f *fields) head() Head {
	return Head{
		ChainID: string(f.next(0, maxChain)), KeyType: string(f.next(1, maxType)),
		Public: f.next(1, maxPublic), Origin: string(f.next(1, maxOrigin)),
	}
}

// check says why a key is not put into a file.
func check(k *secret.Key) error {
	switch n := len(k.Secret.Reveal()); {
	case claims.Recovered(k.Origin) == "":
		return fmt.Errorf("its origin is %.20q", k.Origin)
	case len(k.ChainID) > maxChain:
		return fmt.Errorf("the chain id has %d bytes, more than %d", len(k.ChainID), maxChain)
	case k.KeyType == "" || len(k.KeyType) > maxType:
		return fmt.Errorf("the key type has %d bytes, not 1 to %d", len(k.KeyType), maxType)
	case len(k.Public) == 0 || len(k.Public) > maxPublic:
		return fmt.Errorf("the public key has %d bytes, not 1 to %d", len(k.Public), maxPublic)
	case n == 0 || n > maxSecret:
		return fmt.Errorf("the secret has %d bytes, not 1 to %d", n, maxSecret)
	case k.Created.Unix() <= 0:
		return errors.New("the clock is set before 1970")
	}
	return nil
}

// encrypt appends the last field of a file to all that is before it: the time in seconds since
// 1970, 8 bytes, and the secret, by AES-256-GCM with a random nonce in front.
func encrypt(key, before []byte, k *secret.Key) ([]byte, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	plain := k.Secret.Reveal()
	inner := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(plain)), uint64(k.Created.Unix()))
	inner = append(inner, plain...)
	defer clear(inner)
	return appendField(before, aead.Seal(nil, nil, inner, before)), nil
}

// decrypt opens the last field of a file with all that is before it.
func decrypt(key, before, sealed []byte, h Head) (secret.Key, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return secret.Key{}, err
	}
	inner, err := aead.Open(nil, nil, sealed, before)
	if err != nil {
		return secret.Key{}, errKey
	}
	defer clear(inner)
	if len(inner) <= 8 {
		return secret.Key{}, errKey
	}
	k := secret.Key{
		ChainID: h.ChainID, KeyType: h.KeyType, Public: h.Public, Origin: h.Origin,
		Created: time.Unix(int64(binary.BigEndian.Uint64(inner)), 0).UTC(), Secret: secret.NewBytes(bytes.Clone(inner[8:])),
	}
	return k, check(&k)
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// errKey says that a file does not open with a key.
var errKey = errors.New("it does not open")
