package pubkey

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"math/big"
	"testing"
)

// The verifier says what Verify says: of good signatures, of every bit flipped in
// one, of another message, of S beside its range, and of keys of every type.
func TestVerifier(t *testing.T) {
	for seed := range byte(20) {
		private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32))
		key, err := New(Ed25519, private.Public().(ed25519.PublicKey))
		if err != nil {
			t.Fatal(err)
		}
		verify := key.Verifier()
		for i := range uint64(100) {
			message := binary.BigEndian.AppendUint64(nil, i)
			sig := ed25519.Sign(private, message)
			if !verify(message, sig) {
				t.Fatalf("seed %d: a good signature over %x is refused", seed, message)
			}
			if verify(append(message, 0), sig) {
				t.Fatalf("seed %d: a signature is good for another message", seed)
			}
		}
		message := []byte("message")
		sig := ed25519.Sign(private, message)
		for bit := range len(sig) * 8 {
			bad := bytes.Clone(sig)
			bad[bit/8] ^= 1 << (bit % 8)
			if verify(message, bad) {
				t.Fatalf("seed %d: bit %d flipped, and good", seed, bit)
			}
		}
		if verify(message, sig[:63]) || verify(message, append(bytes.Clone(sig), 0)) || verify(message, nil) {
			t.Error("a signature of another length is good")
		}
		if verify(message, withS(sig, +1)) {
			t.Error("S plus the order of the group is good: signatures can be changed")
		}
	}
}

// withS adds n times the order of the group to S.
func withS(sig []byte, n int64) []byte {
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	little := bytes.Clone(sig[32:])
	for i, j := 0, 31; i < j; i, j = i+1, j-1 {
		little[i], little[j] = little[j], little[i]
	}
	s := new(big.Int).SetBytes(little)
	s.Add(s, order.Mul(order, big.NewInt(n)))
	big := s.FillBytes(make([]byte, 32))
	for i, j := 0, 31; i < j; i, j = i+1, j-1 {
		big[i], big[j] = big[j], big[i]
	}
	return append(bytes.Clone(sig[:32]), big...)
}

// Golden signatures of every type, and the spoiled ones beside them, as Verify
// judges them.
func FuzzVerifier(f *testing.F) {
	private := ed25519.NewKeyFromSeed(make([]byte, 32))
	public := private.Public().(ed25519.PublicKey)
	key, err := New(Ed25519, public)
	if err != nil {
		f.Fatal(err)
	}
	verify := key.Verifier()
	f.Add([]byte("m"), ed25519.Sign(private, []byte("m")))
	f.Add([]byte("m"), make([]byte, 64))
	f.Fuzz(func(t *testing.T, message, sig []byte) {
		if got, want := verify(message, sig), key.Verify(message, sig); got != want {
			t.Fatalf("%x over %x: %t, want %t", sig, message, got, want)
		}
	})
}

func BenchmarkVerifier(b *testing.B) {
	private := ed25519.NewKeyFromSeed(make([]byte, 32))
	key, err := New(Ed25519, private.Public().(ed25519.PublicKey))
	if err != nil {
		b.Fatal(err)
	}
	message := make([]byte, 110)
	sig := ed25519.Sign(private, message)
	for name, verify := range map[string]func(message, sig []byte) bool{"once": key.Verify, "verifier": key.Verifier()} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if !verify(message, sig) {
					b.Fatal("refused")
				}
			}
		})
	}
}
