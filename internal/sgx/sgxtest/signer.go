package sgxtest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// Signer signs enclaves, as gramine-sgx-sign does with the operator's key.
type Signer struct{ key *rsa.PrivateKey }

// NewSigner returns a signer with a new key: RSA-3072 with the exponent 3, of which the
// library makes none. It takes about a second.
func NewSigner() (*Signer, error) {
	var primes [2]*big.Int
	for i := range primes {
		for {
			p, err := rand.Prime(rand.Reader, 1536)
			if err != nil {
				return nil, err
			}
			if primes[i] = p; new(big.Int).Mod(p, big.NewInt(3)).Int64() == 2 {
				break
			}
		}
	}
	p1, q1 := new(big.Int).Sub(primes[0], big.NewInt(1)), new(big.Int).Sub(primes[1], big.NewInt(1))
	key := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: new(big.Int).Mul(primes[0], primes[1]), E: 3}, Primes: primes[:]}
	key.D = new(big.Int).ModInverse(big.NewInt(3), p1.Mul(p1, q1))
	key.Precompute()
	return &Signer{key}, key.Validate()
}

// PEM returns the key, as gramine-sgx-gen-private-key writes it.
func (s *Signer) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(s.key)})
}

// ParseSigner reads a key of RSA-3072 with the exponent 3: of PEM, or of openssl genrsa -3.
func ParseSigner(text []byte) (*Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM")
	}
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		k, err8 := x509.ParsePKCS8PrivateKey(block.Bytes)
		if key, _ = k.(*rsa.PrivateKey); err8 != nil || key == nil {
			return nil, err
		}
	}
	if key.E != 3 || key.N.BitLen() != 3072 {
		return nil, fmt.Errorf("a key of %d bits with the exponent %d, not 3072 and 3", key.N.BitLen(), key.E)
	}
	return &Signer{key}, nil
}

// little returns a number of the size of the key, little endian.
func little(n *big.Int) []byte {
	b := n.FillBytes(make([]byte, 384))
	slices.Reverse(b)
	return b
}

// MRSIGNER is what quotes call the signer.
func (s *Signer) MRSIGNER() [32]byte { return sha256.Sum256(little(s.key.N)) }

// SigStruct returns the signature of an enclave, 1,808 bytes, after change, if it is not
// nil, has changed what is signed.
func (s *Signer) SigStruct(e Enclave, change func(raw []byte)) ([]byte, error) {
	raw := make([]byte, 1808)
	copy(raw, []byte{6, 0, 0, 0, 0xe1, 0, 0, 0, 0, 0, 1})
	le.PutUint32(raw[20:], 0x20260301)
	copy(raw[24:], []byte{1, 1, 0, 0, 0x60, 0, 0, 0, 0x60, 0, 0, 0, 1})
	copy(raw[128:], little(s.key.N))
	raw[512] = 3
	le.PutUint32(raw[904:], 0xffffffff)
	copy(raw[928:], e.Attributes[:])
	if e.Attributes == [16]byte{} {
		copy(raw[928:], []byte{4, 8: 3})
	}
	if e.Debug {
		raw[928] |= 2
	}
	copy(raw[944:], []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1b, 0xff, 0xf9, 0xff, 0xff, 0xff, 0xff, 0xff})
	copy(raw[960:], e.MRENCLAVE[:])
	le.PutUint16(raw[1024:], e.ProductID)
	le.PutUint16(raw[1026:], e.SVN)
	if change != nil {
		change(raw)
	}
	sum := sha256.Sum256(slices.Concat(raw[:128], raw[900:1028]))
	signature, err := rsa.SignPKCS1v15(nil, s.key, crypto.SHA256, sum[:])
	if err != nil {
		return nil, err
	}
	n := new(big.Int).SetBytes(signature)
	q1, rest := new(big.Int).DivMod(new(big.Int).Mul(n, n), s.key.N, new(big.Int))
	q2 := new(big.Int).Div(rest.Mul(rest, n), s.key.N)
	copy(raw[516:], little(n))
	copy(raw[1040:], little(q1))
	copy(raw[1424:], little(q2))
	return raw, nil
}
