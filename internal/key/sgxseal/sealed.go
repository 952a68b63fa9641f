package sgxseal

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"

	"privyseal/internal/secret"
)

// A sealed key is a file that a host may keep and anybody may read. It is
//
//	"privyseal sealed key 1\n"    (without a length)
//	seal                          ("mrenclave" or "mrsigner")
//	chain id                      (empty for an identity)
//	key type                      (CometBFT's name)
//	public key                    (in its raw form)
//	origin
//	sealed                        (AES-256-GCM: nonce, ciphertext, tag)
//
// All before sealed is its additional data, and is in the derivation of its key, but for the
// first line: HKDF-SHA256 without a salt of the CPU's key, with the info sealInfo and these
// fields.
const sealedMagic = FirstLine + "\n"

// FirstLine is how a sealed key begins.
const FirstLine = "privyseal sealed key 1"

const sealInfo = "privyseal sgx seal 1"

// maxSeal bounds the name of a seal.
const maxSeal = 16

// ErrSealed says that this is not a sealed key.
var ErrSealed = errors.New("not a sealed key, or a damaged one")

// Sealed is the part of a sealed key that is not encrypted.
type Sealed struct {
	Seal string // as in package policy
	Head
}

// Inspect returns what a sealed key says in the clear, which nothing proves until it is
// opened. It takes exactly what an enclave writes.
func Inspect(file []byte) (Sealed, error) {
	s, _, err := parseSealed(file)
	return s, err
}

func parseSealed(b []byte) (s Sealed, sealed []byte, err error) {
	rest, ok := bytes.CutPrefix(b, []byte(sealedMagic))
	if !ok {
		return Sealed{}, nil, fmt.Errorf("%w: it does not begin as one", ErrSealed)
	}
	f := fields{rest: rest}
	s.Seal = string(f.next(1, maxSeal))
	s.Head = f.head()
	sealed = f.next(minSealed, maxSealed)
	if !f.done() {
		return Sealed{}, nil, fmt.Errorf("%w: it is cut off, or its fields are invalid", ErrSealed)
	}
	return s, sealed, nil
}

// encode returns all before the last field.
func (s *Sealed) encode() []byte { return s.append(appendField([]byte(sealedMagic), s.Seal)) }

// key derives what the file is sealed under.
func (s *Sealed) key(cpu []byte) ([]byte, error) {
	info := s.append(appendField(appendField(nil, sealInfo), s.Seal))
	return hkdf.Key(sha256.New, cpu, nil, string(info), 32)
}

func (s *Sealed) seal(cpu []byte, k *secret.Key) ([]byte, error) {
	key, err := s.key(cpu)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return encrypt(key, s.encode(), k)
}

func (s *Sealed) open(cpu, sealed []byte) (secret.Key, error) {
	key, err := s.key(cpu)
	if err != nil {
		return secret.Key{}, err
	}
	defer clear(key)
	return decrypt(key, s.encode(), sealed, s.Head)
}
