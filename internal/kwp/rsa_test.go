package kwp

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"testing"
)

// What HSMs and tmkms-light make and open: 256 bytes of RSA-OAEP, and 40 of AES key wrap.
func TestRSA(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	key := make([]byte, 32)
	rand.Read(key)
	wrapped, err := WrapRSA(&private.PublicKey, key)
	if err != nil || len(wrapped) != 296 {
		t.Fatalf("%d bytes, %v", len(wrapped), err)
	}
	got, err := UnwrapRSA(private, wrapped)
	if err != nil || !bytes.Equal(got, key) {
		t.Errorf("%x, %v", got, err)
	}
	for i := range wrapped {
		wrapped[i] ^= 1
		if got, err := UnwrapRSA(private, wrapped); err != errRSA {
			t.Errorf("byte %d changed: %x, %v", i, got, err)
		}
		wrapped[i] ^= 1
	}
	for _, n := range []int{0, 255, 256, 264, 295} {
		if got, err := UnwrapRSA(private, wrapped[:n]); err != errRSA {
			t.Errorf("%d bytes: %x, %v", n, got, err)
		}
	}
	// An AES key of another size is one of another mechanism.
	head, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &private.PublicKey, key[:16], nil)
	if err != nil {
		t.Fatal(err)
	}
	tail, err := Wrap(key[:16], key)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := UnwrapRSA(private, append(head, tail...)); err != errRSA {
		t.Errorf("under AES of 128 bits: %x, %v", got, err)
	}
	if _, err := WrapRSA(&private.PublicKey, nil); err == nil {
		t.Error("wrapped nothing")
	}
}
