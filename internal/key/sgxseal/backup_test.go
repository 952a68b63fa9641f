package sgxseal

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"privyseal/internal/claims"
	"privyseal/internal/kwp"
	"privyseal/internal/policy"
	"privyseal/internal/secret"
)

func recoveries(t testing.TB) map[string]Recovery {
	return map[string]Recovery{"X25519": newX25519(t), "RSA": {RSA: rsaKey()}}
}

// wrapKey makes a wrap key, and returns how the holder of a backup's key encrypts to it.
func wrapKey(t *testing.T, s *Sealer) (sealed []byte, to func([]byte) []byte) {
	t.Helper()
	sealed, public, err := s.WrapKey()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParsePKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	key := parsed.(*rsa.PublicKey)
	if key.N.BitLen() != 2048 || key.E != 65537 {
		t.Errorf("a wrap key of %d bits, %d", key.N.BitLen(), key.E)
	}
	return sealed, func(plain []byte) []byte {
		b, err := kwp.WrapRSA(key, plain)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}

// A key is made on one CPU, which burns. The holder of the recovery key opens the key of the
// backup, for an enclave on another CPU, whatever the kinds of both are.
func TestRecovery(t *testing.T) {
	for kind, r := range recoveries(t) {
		p := policyFor(t, r)
		old, fresh := newSealer(t, p, cpu), newSealer(t, p, another)
		sealed, to := wrapKey(t, fresh)
		for name, change := range variants {
			k := testKey()
			change(&k)
			file, err := old.Backup(k)
			if err != nil {
				t.Fatalf("%s, %s: %v", kind, name, err)
			}
			if plain := k.Secret.Reveal(); len(plain) == 32 && bytes.Contains(file, plain[:16]) {
				t.Errorf("%s, %s: the secret stands in the file", kind, name)
			}
			b, err := InspectBackup(file)
			if err != nil || b.Recipient != p.Recipient().ID() || !cmp.Equal(b.Head, headOf(&k)) {
				t.Errorf("%s, %s: %+v, %v", kind, name, b, err)
			}
			key, err := r.Key(file)
			if err != nil {
				t.Fatalf("%s, %s: %v", kind, name, err)
			}
			encrypted := to(key)
			if len(encrypted) != EncryptedSize || kind == "RSA" && len(b.Encrypted) != EncryptedSize {
				t.Errorf("%s, %s: %d and %d bytes", kind, name, len(encrypted), len(b.Encrypted))
			}
			got, err := fresh.Recover(sealed, encrypted, file)
			if err != nil || !cmp.Equal(got, k) {
				t.Errorf("%s, %s: %v, %v", kind, name, got, err)
			}
		}
	}
}

// tmkms-light's weakness 1: the host picks the key of the backup, and so has the secret. Here
// it is made inside for each backup, and nothing that a host hands in has a part in it.
func TestTheHostDoesNotChooseTheBackupKey(t *testing.T) {
	r := newX25519(t)
	s := newSealer(t, policyFor(t, r), cpu)
	seen := map[string]bool{}
	for range 8 {
		file, err := s.Backup(testKey())
		if err != nil {
			t.Fatal(err)
		}
		key, err := r.Key(file)
		if err != nil || seen[string(key)] {
			t.Fatalf("the key of a backup again: %v", err)
		}
		seen[string(key)] = true
	}
}

// Each of what recovering takes can be another one, and each is refused by a sentence of its
// own.
func TestRecoverRefuses(t *testing.T) {
	r := newX25519(t)
	p := policyFor(t, r)
	s := newSealer(t, p, cpu)
	sealed, to := wrapKey(t, s)
	otherSealed, _ := wrapKey(t, s)
	file, err := s.Backup(testKey())
	if err != nil {
		t.Fatal(err)
	}
	key, err := r.Key(file)
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.Backup(testKey())
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := newSealer(t, policyFor(t, newX25519(t)), cpu).Backup(testKey())
	if err != nil {
		t.Fatal(err)
	}
	identity := testKey()
	identity.ChainID = ""
	sealedIdentity, err := s.Wrap(t.Context(), secret.AWS{}, identity)
	if err != nil {
		t.Fatal(err)
	}
	there, _ := wrapKey(t, newSealer(t, p, another))
	for _, c := range []struct {
		name                    string
		wrap, encrypted, backup []byte
		says, cure              string
	}{
		{"fine", sealed, to(key), file, "", ""},
		{"a wrap key of another CPU", there, to(key), file, "does not open here", "sgx cloud-wrap"},
		{"another wrap key", otherSealed, to(key), file, "is not encrypted to this wrap key", "sgx open-backup"},
		{"an identity as the wrap key", sealedIdentity, to(key), file, "not a wrap key, but one of type ed25519", "sgx cloud-wrap"},
		{"no wrap key", nil, to(key), file, "not a sealed key", "sgx cloud-wrap"},
		{"nothing encrypted", sealed, nil, file, "is not encrypted to this wrap key", "sgx open-backup"},
		{"cut off", sealed, to(key)[:295], file, "is not encrypted to this wrap key", "sgx open-backup"},
		{"a key of 24 bytes", sealed, to(key[:24]), file, "is not encrypted to this wrap key", "sgx open-backup"},
		{"a key of 16 bytes, and 16 more", sealed, to(key[:16]), file, "is not encrypted to this wrap key", "sgx open-backup"},
		{"another backup's key", sealed, to(key), second, "does not open with this key", "sgx open-backup"},
		{"another recipient", sealed, to(key), elsewhere, "is for the recovery key hpke-x25519:", "build the enclave with a policy"},
		{"no backup", sealed, to(key), nil, "not a backup of a key", ""},
		{"a sealed key as the backup", sealed, to(key), sealedIdentity, "not a backup of a key", ""},
	} {
		k, err := s.Recover(c.wrap, c.encrypted, c.backup)
		var e *Error
		switch {
		case c.says == "":
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		case err == nil || !strings.Contains(err.Error(), c.says):
			t.Errorf("%s: %v, %v", c.name, k, err)
		case c.cure != "" && (!errors.As(err, &e) || !strings.Contains(e.Cure(), c.cure)):
			t.Errorf("%s: %v, with another cure", c.name, err)
		}
	}
	// A wrap key signs nothing, in whatever place the host puts it.
	if _, err := s.Unwrap(t.Context(), secret.AWS{}, sealed); err == nil || !strings.Contains(err.Error(), "which signs nothing") {
		t.Errorf("a wrap key as an identity: %v", err)
	}
}

// A backup that was changed anywhere does not open, for the holder of the recovery key or for
// an enclave, and one that is cut off is not even read.
func TestTamperedBackup(t *testing.T) {
	for kind, r := range recoveries(t) {
		s := newSealer(t, policyFor(t, r), cpu)
		file, err := s.Backup(testKey())
		if err != nil {
			t.Fatal(err)
		}
		key, err := r.Key(file)
		if err != nil {
			t.Fatal(err)
		}
		for i := range file {
			if _, err := InspectBackup(file[:i]); !errors.Is(err, errBackup) {
				t.Fatalf("%s, the first %d bytes: %v", kind, i, err)
			}
			b := bytes.Clone(file)
			b[i] ^= 1 << (i % 8)
			if _, err := r.Key(b); err == nil {
				t.Errorf("%s, byte %d: the recovery key opens it", kind, i)
			}
			if k, err := OpenBackup(b, key); err == nil {
				t.Errorf("%s, byte %d: %v", kind, i, k)
			}
		}
		if _, err := InspectBackup(append(bytes.Clone(file), 0)); !errors.Is(err, errBackup) {
			t.Errorf("%s, a byte too much: %v", kind, err)
		}
	}
}

// HPKE binds what a backup says in the clear. A key that was moved into the backup of another
// one does not come out, even for somebody who would not look at the rest.
func TestHPKEBindsTheHead(t *testing.T) {
	r := newX25519(t)
	k := testKey()
	file, err := makeBackup(r.Recipient(), &k)
	if err != nil {
		t.Fatal(err)
	}
	b, err := InspectBackup(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Backup){
		"nothing":    func(*Backup) {},
		"chain":      func(b *Backup) { b.ChainID = "test-2" },
		"type":       func(b *Backup) { b.KeyType = "ml_dsa_65" },
		"public key": func(b *Backup) { b.Public = bytes.Repeat([]byte{8}, 32) },
		"origin":     func(b *Backup) { b.Origin = claims.Imported },
		"recipient":  func(b *Backup) { b.Recipient = "hpke-x25519:x" },
	} {
		other := b
		change(&other)
		if _, err := r.decrypt(b.Encrypted, other.info()); (err == nil) != (name == "nothing") {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

// An HSM decrypts an AES key and gives nothing else away; with that the backup opens too.
func TestRecoveryKeyInAnHSM(t *testing.T) {
	r := Recovery{RSA: rsaKey()}
	file, err := newSealer(t, policyFor(t, r), cpu).Backup(testKey())
	if err != nil {
		t.Fatal(err)
	}
	b, err := InspectBackup(file)
	if err != nil {
		t.Fatal(err)
	}
	kek, err := rsa.DecryptOAEP(sha256.New(), nil, rsaKey(), b.ForHSM(), nil)
	if err != nil {
		t.Fatal(err)
	}
	want, err := r.Key(file)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := KeyUnder(file, kek); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%x, %v", got, err)
	}
	for name, bad := range map[string][]byte{"another": make([]byte, 32), "short": kek[:31], "none": nil} {
		if _, err := KeyUnder(file, bad); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	x := newX25519(t)
	if file, err = newSealer(t, policyFor(t, x), cpu).Backup(testKey()); err != nil {
		t.Fatal(err)
	}
	if b, err = InspectBackup(file); err != nil || b.ForHSM() != nil {
		t.Errorf("for an HSM: %x, %v", b.ForHSM(), err)
	}
	if _, err := KeyUnder(file, kek); err == nil || !strings.Contains(err.Error(), "not for a recovery key of RSA") {
		t.Error(err)
	}
}

// Nobody else's recovery key opens a backup, and the one that is asked for is named.
func TestAnotherRecoveryKey(t *testing.T) {
	r := newX25519(t)
	file, err := newSealer(t, policyFor(t, r), cpu).Backup(testKey())
	if err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string]Recovery{"X25519": newX25519(t), "RSA": {RSA: rsaKey()}, "none": {}} {
		if _, err := other.Key(file); err == nil || !strings.Contains(err.Error(), "the backup is for the recovery key "+r.Recipient().ID()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	k := testKey()
	if _, err := makeBackup(policy.Recipient{}, &k); err == nil {
		t.Error("a backup for nobody")
	}
	if _, err := (Recovery{}).decrypt(nil, nil); err == nil {
		t.Error("opened with nothing")
	}
}

// A host that makes a backup says that its key was generated. Nobody can tell, so what comes
// out of a backup is never taken for made inside: the enclave says where it comes from.
func TestAnybodyMakesBackups(t *testing.T) {
	r := newX25519(t)
	s := newSealer(t, policyFor(t, r), cpu)
	forged := testKey()
	key, info := make([]byte, keySize), Backup{Recipient: r.Recipient().ID(), Head: headOf(&forged)}
	rand.Read(key)
	var err error
	if info.Encrypted, err = encryptTo(r.Recipient(), key, info.info()); err != nil {
		t.Fatal(err)
	}
	file, err := encrypt(key, info.before(), &forged)
	if err != nil {
		t.Fatal(err)
	}
	sealed, to := wrapKey(t, s)
	k, err := s.Recover(sealed, to(key), file)
	if err != nil || k.Origin != claims.Generated {
		t.Fatalf("a forged backup: %v, %v", k, err)
	}
	if got := claims.Recovered(k.Origin); got == claims.Generated {
		t.Errorf("it looks like one that was made inside: %s", got)
	}
}

// A terminal is shown what a file says without what a terminal would act on.
func TestPrintable(t *testing.T) {
	if got := printable("a\x1b[2J\u202e\"b"); strings.ContainsAny(got, "\x1b\u202e") || !strings.HasPrefix(got, "a") {
		t.Errorf("%q", got)
	}
}

// FuzzBackup holds the law: what is accepted encodes to the same bytes.
func FuzzBackup(f *testing.F) {
	k := testKey()
	for _, r := range recoveries(f) {
		file, err := makeBackup(r.Recipient(), &k)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(file)
	}
	f.Add([]byte(backupMagic))
	f.Fuzz(func(t *testing.T, file []byte) {
		b, sealed, err := parseBackup(file)
		if err != nil {
			if !errors.Is(err, errBackup) {
				t.Error(err)
			}
			return
		}
		if again := appendField(b.before(), sealed); !bytes.Equal(again, file) {
			t.Errorf("accepted %x, which encodes to %x", file, again)
		}
	})
}
