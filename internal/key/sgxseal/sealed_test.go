package sgxseal

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"privyseal/internal/claims"
	"privyseal/internal/policy"
	"privyseal/internal/secret"
)

func TestSeal(t *testing.T) {
	p := policyFor(t, newX25519(t))
	for _, seal := range []string{policy.SealMRENCLAVE, policy.SealMRSIGNER} {
		p.Seal = seal
		for name, change := range variants {
			k := testKey()
			change(&k)
			file, err := newSealer(t, p, cpu).Wrap(t.Context(), secret.AWS{}, k)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got, err := newSealer(t, p, cpu).Unwrap(t.Context(), secret.AWS{}, file)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if diff := cmp.Diff(k, got); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
			if plain := k.Secret.Reveal(); len(plain) == 32 && bytes.Contains(file, plain[:16]) {
				t.Errorf("%s: the secret stands in the file", name)
			}
			h, err := Inspect(file)
			if want := (Sealed{seal, headOf(&k)}); err != nil || !cmp.Equal(h, want) {
				t.Errorf("%s: %+v, %v", name, h, err)
			}
		}
	}
}

func TestCreated(t *testing.T) {
	s := newSealer(t, policyFor(t, newX25519(t)), cpu)
	k := testKey()
	k.Created = time.Time{}
	file, err := s.Wrap(t.Context(), secret.AWS{}, k)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Unwrap(t.Context(), secret.AWS{}, file); err != nil || !got.Created.Equal(epoch) {
		t.Errorf("created %s, %v", got.Created, err)
	}
}

func TestImpossibleKeys(t *testing.T) {
	s := newSealer(t, policyFor(t, newX25519(t)), cpu)
	for name, change := range impossible {
		k := testKey()
		change(&k)
		if _, err := s.Wrap(t.Context(), secret.AWS{}, k); err == nil {
			t.Errorf("%s: sealed", name)
		}
		if _, err := s.Backup(k); err == nil {
			t.Errorf("%s: in a backup", name)
		}
	}
}

// The key of a sealed key is derived as the file's description says, so that another program
// could do it too.
func TestDerivation(t *testing.T) {
	s := newSealer(t, policyFor(t, newX25519(t)), cpu)
	k := testKey()
	file, err := s.Wrap(t.Context(), secret.AWS{}, k)
	if err != nil {
		t.Fatal(err)
	}
	var info []byte
	for _, f := range []string{"privyseal sgx seal 1", "mrenclave", "test-1", "ed25519", strings.Repeat("\x07", 32), "generated"} {
		info = append(binary.BigEndian.AppendUint16(info, uint16(len(f))), f...)
	}
	key, err := hkdf.Key(sha256.New, cpu, nil, string(info), 32)
	if err != nil {
		t.Fatal(err)
	}
	_, sealed, err := parseSealed(file)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := newAEAD(key)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := aead.Open(nil, nil, sealed, file[:len(file)-len(sealed)-2])
	if want := append(binary.BigEndian.AppendUint64(nil, uint64(epoch.Unix())), k.Secret.Reveal()...); err != nil || !bytes.Equal(inner, want) {
		t.Errorf("%x, %v", inner, err)
	}
}

// Another CPU, and the same one after an update of its microcode, have another key. What an
// operator does then is one thing.
func TestAnotherCPU(t *testing.T) {
	p := policyFor(t, newX25519(t))
	file, err := newSealer(t, p, cpu).Wrap(t.Context(), secret.AWS{}, testKey())
	if err != nil {
		t.Fatal(err)
	}
	_, err = newSealer(t, p, another).Unwrap(t.Context(), secret.AWS{}, file)
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(e.Error(), "does not open here") || !strings.Contains(e.Cure(), "`privyseal sgx recover`") {
		t.Errorf("%v", err)
	}
}

// The command that brings a consensus key back is not the one for an identity.
func TestCureOfAnIdentity(t *testing.T) {
	p := policyFor(t, newX25519(t))
	ours, other := newSealer(t, p, []byte("the key of a CPU")), newSealer(t, p, []byte("of another CPU!!"))
	for chain, want := range map[string]string{"chain-1": "`privyseal sgx recover`", "": "`privyseal sgx recover --identity`"} {
		k := testKey()
		k.ChainID = chain
		file, err := ours.Wrap(t.Context(), secret.AWS{}, k)
		if err != nil {
			t.Fatal(err)
		}
		_, err = other.Unwrap(t.Context(), secret.AWS{}, file)
		if e, is := errors.AsType[*Error](err); !is || !strings.Contains(e.Cure(), want) {
			t.Errorf("%q: %v", chain, err)
		}
	}
}

// tmkms-light's weakness 4: its enclave opens a file with the key policy that the file names,
// so that any other enclave on the CPU can make one. Here the measured policy says which one
// it is, and a file that names another does not open, even if that key were the same.
func TestTheFileDoesNotChooseTheSeal(t *testing.T) {
	p := policyFor(t, newX25519(t))
	p.Seal = policy.SealMRSIGNER
	file, err := newSealer(t, p, cpu).Wrap(t.Context(), secret.AWS{}, testKey())
	if err != nil {
		t.Fatal(err)
	}
	p.Seal = policy.SealMRENCLAVE
	s := newSealer(t, p, cpu)
	if _, err := s.Unwrap(t.Context(), secret.AWS{}, file); err == nil || !strings.Contains(err.Error(), "sealed to mrsigner, and the measured policy seals to mrenclave") {
		t.Error(err)
	}
	renamed := bytes.Replace(file, []byte("\x00\x08mrsigner"), []byte("\x00\x09mrenclave"), 1)
	if _, err := s.Unwrap(t.Context(), secret.AWS{}, renamed); err == nil || !strings.Contains(err.Error(), "does not open here") {
		t.Error(err)
	}
}

// A file that was changed anywhere does not open, and one that is cut off is not even read.
func TestTamperedSealed(t *testing.T) {
	s := newSealer(t, policyFor(t, newX25519(t)), cpu)
	file, err := s.Wrap(t.Context(), secret.AWS{}, testKey())
	if err != nil {
		t.Fatal(err)
	}
	for i := range file {
		if _, err := Inspect(file[:i]); !errors.Is(err, ErrSealed) {
			t.Fatalf("the first %d bytes: %v", i, err)
		}
		for bit := range 8 {
			b := bytes.Clone(file)
			b[i] ^= 1 << bit
			if k, err := s.Unwrap(t.Context(), secret.AWS{}, b); err == nil {
				t.Errorf("bit %d of byte %d: %v", bit, i, k)
			}
		}
	}
	if _, err := Inspect(append(bytes.Clone(file), 0)); !errors.Is(err, ErrSealed) {
		t.Errorf("a byte too much: %v", err)
	}
}

// A host that has several sealed keys cannot mix them, nor give one another name: each field
// of the head is bound twice, and here neither the derivation nor the additional data alone.
func TestMixedSealed(t *testing.T) {
	s := newSealer(t, policyFor(t, newX25519(t)), cpu)
	file, err := s.Wrap(t.Context(), secret.AWS{}, testKey())
	if err != nil {
		t.Fatal(err)
	}
	h, sealed, err := parseSealed(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Sealed){
		"chain":      func(h *Sealed) { h.ChainID = "test-2" },
		"identity":   func(h *Sealed) { h.ChainID = "" },
		"type":       func(h *Sealed) { h.KeyType = "secp256k1" },
		"public key": func(h *Sealed) { h.Public = bytes.Repeat([]byte{8}, 32) },
		"origin":     func(h *Sealed) { h.Origin = claims.Imported },
		"seal":       func(h *Sealed) { h.Seal = policy.SealMRSIGNER },
	} {
		other := h
		change(&other)
		if k, err := other.open(cpu, sealed); !errors.Is(err, errKey) {
			t.Errorf("another %s: %v, %v", name, k, err)
		}
		key, err := other.key(cpu)
		if err != nil {
			t.Fatal(err)
		}
		if own, err := h.key(cpu); err != nil || bytes.Equal(own, key) {
			t.Errorf("another %s has the same key, %v", name, err)
		}
		if own, err := h.key(cpu); err != nil {
			t.Fatal(err)
		} else if k, err := decrypt(own, other.encode(), sealed, other.Head); !errors.Is(err, errKey) {
			t.Errorf("another %s is not in the additional data: %v, %v", name, k, err)
		}
	}
}

// What is inside has one form, and is checked although it is authenticated: another version
// of this program may have written it.
func TestInner(t *testing.T) {
	key := make([]byte, 32)
	aead, err := newAEAD(key)
	if err != nil {
		t.Fatal(err)
	}
	k := testKey()
	good := append(binary.BigEndian.AppendUint64(nil, 1), 1)
	for name, inner := range map[string][]byte{
		"nothing": nil, "no secret": good[:8], "time 0": append(make([]byte, 8), 1), "before 1970": append(bytes.Repeat([]byte{0xff}, 8), 1),
	} {
		if k, err := decrypt(key, nil, aead.Seal(nil, nil, inner, nil), headOf(&k)); err == nil {
			t.Errorf("%s: %v", name, k)
		}
	}
	if _, err := decrypt(key, nil, aead.Seal(nil, nil, good, nil), headOf(&k)); err != nil {
		t.Error(err)
	}
}

// What is not the key of a CPU is refused. EGo answers with zeros outside of an enclave, and
// so may whatever else has the interface of Gramine.
func TestNoCPU(t *testing.T) {
	p := policyFor(t, newX25519(t))
	failed := errors.New("no such file")
	for name, c := range map[string]struct {
		key  []byte
		err  error
		says string
	}{
		"no file": {nil, failed, "no such file"}, "zeros": {make([]byte, 16), nil, "all zeros"}, "15 bytes": {cpu[:15], nil, "15 bytes"},
		"17 bytes": {append(slices.Clone(cpu), 0), nil, "17 bytes"}, "nothing": {nil, nil, "0 bytes"},
	} {
		if _, err := New(Config{Policy: p, Key: func(string) ([]byte, error) { return c.key, c.err }}); err == nil || !strings.Contains(err.Error(), c.says) || c.err != nil && !errors.Is(err, c.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(Config{Policy: p, Key: func(string) ([]byte, error) { return append(make([]byte, 15), 1), nil }}); err != nil {
		t.Error(err)
	}
	p.RecoveryKey = ""
	if _, err := New(Config{Policy: p, Key: func(string) ([]byte, error) { return slices.Clone(cpu), nil }}); err == nil || !strings.Contains(err.Error(), "recovery_key") {
		t.Errorf("no recipient of backups: %v", err)
	}
}

func TestNoKMS(t *testing.T) {
	_, err := newSealer(t, policyFor(t, newX25519(t)), cpu).Decrypt(t.Context(), secret.AWS{}, []byte("ciphertext"))
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(e.Error(), "has no KMS") || e.Cure() == "" {
		t.Error(err)
	}
}

// No field has a length that Wrap never gives it.
func TestLengthsOfFields(t *testing.T) {
	k := testKey()
	good := Sealed{policy.SealMRENCLAVE, headOf(&k)}
	for name, c := range map[string]struct {
		change func(*Sealed)
		sealed int
		ok     bool
	}{
		"as it is":      {func(*Sealed) {}, minSealed, true},
		"no chain":      {func(s *Sealed) { s.ChainID = "" }, maxSealed, true},
		"no seal":       {func(s *Sealed) { s.Seal = "" }, minSealed, false},
		"a long seal":   {func(s *Sealed) { s.Seal = strings.Repeat("m", maxSeal+1) }, minSealed, false},
		"a long chain":  {func(s *Sealed) { s.ChainID = strings.Repeat("c", maxChain+1) }, minSealed, false},
		"no type":       {func(s *Sealed) { s.KeyType = "" }, minSealed, false},
		"no key":        {func(s *Sealed) { s.Public = nil }, minSealed, false},
		"no origin":     {func(s *Sealed) { s.Origin = "" }, minSealed, false},
		"little sealed": {func(*Sealed) {}, minSealed - 1, false},
		"much sealed":   {func(*Sealed) {}, maxSealed + 1, false},
	} {
		s := good
		c.change(&s)
		if _, err := Inspect(appendField(s.encode(), make([]byte, c.sealed))); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzSealed holds the law: what is accepted encodes to the same bytes.
func FuzzSealed(f *testing.F) {
	k := testKey()
	h := Sealed{policy.SealMRENCLAVE, headOf(&k)}
	file, err := h.seal(cpu, &k)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file)
	f.Add([]byte(sealedMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, sealed, err := parseSealed(b)
		if err != nil {
			if !errors.Is(err, ErrSealed) {
				t.Error(err)
			}
			return
		}
		if again := appendField(h.encode(), sealed); !bytes.Equal(again, b) {
			t.Errorf("accepted %x, which encodes to %x", b, again)
		}
	})
}
