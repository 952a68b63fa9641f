package sgxseal

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"strings"
	"testing"

	"privyseal/internal/claims"
	"privyseal/internal/kwp"
	"privyseal/internal/secret"
)

// AES takes keys of 16 bytes as well. A backup has one of 32, whoever made it.
func TestBackupUnderAShortKey(t *testing.T) {
	recovery := newX25519(t)
	to := recovery.Recipient()
	for _, size := range []int{16, 24, keySize} {
		k, key := testKey(), bytes.Repeat([]byte{3}, size)
		b := Backup{Recipient: to.ID(), Head: headOf(&k)}
		var err error
		if b.Encrypted, err = encryptTo(to, key, b.info()); err != nil {
			t.Fatal(err)
		}
		file, err := encrypt(key, b.before(), &k)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := recovery.Key(file); (err == nil) != (size == keySize) {
			t.Errorf("a key of %d bytes: %v", size, err)
		}
	}
}

// A wrap key whose file names another public half is not used: what its document attests would
// be another key.
func TestWrapKeyOfAnotherName(t *testing.T) {
	recovery := newX25519(t)
	s := newSealer(t, policyFor(t, recovery), bytes.Repeat([]byte{1}, cpuKeySize))
	k := testKey()
	backup, err := s.Backup(k)
	if err != nil {
		t.Fatal(err)
	}
	key, err := recovery.Key(backup)
	if err != nil {
		t.Fatal(err)
	}
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	own, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	encrypted, err := kwp.WrapRSA(&private.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	for name, public := range map[string][]byte{"its own": own, "another": append(bytes.Clone(own[:len(own)-1]), 9)} {
		sealed, err := s.Wrap(context.Background(), secret.AWS{}, secret.Key{
			KeyType: WrapKeyType, Public: public, Origin: claims.Generated, Secret: secret.NewBytes(x509.MarshalPKCS1PrivateKey(private)),
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Recover(sealed, encrypted, backup)
		if name == "its own" && err != nil || name == "another" && (err == nil || !strings.Contains(err.Error(), "not the one that its file names")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
