package nitro

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
)

var (
	madeAt  = time.Date(2024, 9, 7, 14, 37, 39, 0, time.UTC) // of the production document
	debugAt = time.Date(2024, 9, 7, 14, 38, 6, 0, time.UTC)
)

// vector reads a file that was made by AWS.
func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../../shared/vectors/nitro", name))
	if errors.Is(err, os.ErrNotExist) && os.Getenv("PRIVYSEAL_REQUIRE_VECTORS") != "1" {
		t.Skipf("%s is missing: the vectors live in shared/vectors beside the repository, and `make test` runs with them there", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustParse(t testing.TB, raw []byte) *Document {
	t.Helper()
	d, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// A document that AWS signed in 2024.
func TestProductionDocument(t *testing.T) {
	d := mustParse(t, vector(t, "attestation-2024.cbor"))
	if err := d.Verify(Anchor{}, madeAt); err != nil {
		t.Fatal(err)
	}
	ones := bytes.Repeat([]byte{1}, 1024)
	if err := (Expect{PCRs: map[int][]byte{0: d.PCRs[0]}, Nonce: ones, UserData: ones, PublicKey: ones}).Check(d); err != nil {
		t.Error(err)
	}
	if got := hex.EncodeToString(d.PCRs[0][:16]); got != "e72a46ca80a260fb044a125442f0c7e3" {
		t.Errorf("PCR0 is %s…", got)
	}
	if d.ModuleID != "i-0a22e5c5f24d22174-enc0191cceb4289903f" || len(d.PCRs) != 16 || len(d.CABundle) != 4 {
		t.Errorf("%s, %d PCRs, %d certificates", d.ModuleID, len(d.PCRs), len(d.CABundle))
	}
	if got := ParentPCR("i-0a22e5c5f24d22174"); !bytes.Equal(got[:], d.PCRs[4]) {
		t.Errorf("PCR4 of the instance is %x in the document, computed %x", d.PCRs[4], got)
	}
	if got := d.Time.Format(time.RFC3339Nano); got != "2024-09-07T14:37:39.545Z" {
		t.Errorf("made at %s", got)
	}
}

func TestDebugDocument(t *testing.T) {
	d := mustParse(t, vector(t, "attestation-debug-2024.cbor"))
	if err := d.Verify(Anchor{}, debugAt); !errors.Is(err, errDebug) {
		t.Errorf("Verify: %v", err)
	}
	if err := (Expect{AnyImage: true}).Check(d); !errors.Is(err, errUnverified) {
		t.Errorf("Check: %v", err)
	}
}

// Every document with one bit flipped is refused, the one of an enclave in debug
// mode too, and because it was altered: a flip that makes the zeros of debug mode
// look like measurements must not help. Flipped are all bits of the wrapper, and
// one in each byte of the payload (every 16th under the race detector, which
// slows P-384 down), or all there too, which takes a minute, with
// PRIVYSEAL_ALL_BITS set.
func TestFlippedBits(t *testing.T) {
	for name, at := range map[string]time.Time{"attestation-2024.cbor": madeAt, "attestation-debug-2024.cbor": debugAt} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flipBits(t, vector(t, name), at)
		})
	}
}

func flipBits(t *testing.T, raw []byte, at time.Time) {
	all := os.Getenv("PRIVYSEAL_ALL_BITS") != ""
	signature := len(raw) - signatureSize
	const workers = 4
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			b := bytes.Clone(raw)
			for i := w; i < len(b); i += workers {
				for bit := range 8 {
					payload := i >= 9 && i < signature-2
					if payload && !all && (bit != i%8 || underRace && i/workers%16 != 0) {
						continue
					}
					b[i] ^= 1 << bit
					err := parseAndVerify(b, at)
					altered := errors.Is(err, errSignature)
					if i < signature {
						altered = altered || errors.Is(err, errMalformed) || errors.Is(err, errChain)
					}
					if !altered {
						t.Errorf("bit %d of byte %d flipped: %v", bit, i, err)
					}
					b[i] ^= 1 << bit
				}
			}
		})
	}
	wg.Wait()
}

func parseAndVerify(raw []byte, at time.Time) error {
	d, err := Parse(raw)
	if err != nil {
		return err
	}
	return d.Verify(Anchor{}, at)
}

// The root in the program is the one that AWS publishes.
func TestRoot(t *testing.T) {
	if !(Anchor{}).IsAWS() || (Anchor{}).Fingerprint() != awsFingerprint {
		t.Errorf("the root in the program is %s", Anchor{}.Fingerprint())
	}
	published := vector(t, "aws-nitro-root.pem")
	a, err := ParseAnchor(published)
	if err != nil {
		t.Fatal(err)
	}
	if !a.IsAWS() {
		t.Errorf("the root that AWS publishes is %s", a.Fingerprint())
	}
	if !bytes.Equal(published, awsRoot) {
		t.Error("aws-root.pem differs from the one that AWS publishes")
	}
	for name, text := range map[string]string{
		"nothing":   "",
		"two roots": string(published) + string(published),
		"a key":     "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		"no DER":    "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
	} {
		if _, err := ParseAnchor([]byte(text)); err == nil {
			t.Errorf("%s is taken for a root", name)
		}
	}
}

// Verification depends on the time that the caller gives.
func TestTime(t *testing.T) {
	d := mustParse(t, vector(t, "attestation-2024.cbor"))
	for at, want := range map[string]error{
		"2024-09-07T14:37:36Z": nil, // first second of the leaf
		"2024-09-07T17:37:39Z": nil, // last one
		"2024-09-07T14:37:35Z": ErrTime,
		"2024-09-07T17:37:40Z": ErrTime,
		"0001-01-01T00:00:00Z": ErrTime,
		"2026-01-01T00:00:00Z": ErrTime,
	} {
		when, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Verify(Anchor{}, when); !errors.Is(err, want) {
			t.Errorf("at %s: %v, want %v", at, err, want)
		}
	}
}

func TestExpect(t *testing.T) {
	d := mustParse(t, vector(t, "attestation-2024.cbor"))
	if err := (Expect{AnyImage: true}).Check(d); !errors.Is(err, errUnverified) {
		t.Errorf("before Verify: %v", err)
	}
	if err := d.Verify(Anchor{}, madeAt); err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]Expect{
		"zero":      {},
		"only PCR1": {PCRs: map[int][]byte{1: d.PCRs[1]}},
		"only PCR2": {PCRs: map[int][]byte{2: d.PCRs[2]}},
		"only PCR8": {PCRs: map[int][]byte{8: d.PCRs[8]}, Nonce: d.Nonce},
	} {
		if err := e.Check(d); !errors.Is(err, errNoImage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, e := range map[string]Expect{
		"PCR0":           {PCRs: map[int][]byte{0: d.PCRs[0]}},
		"PCR1 and PCR2":  {PCRs: map[int][]byte{1: d.PCRs[1], 2: d.PCRs[2]}},
		"any image":      {AnyImage: true},
		"any, and PCR 4": {AnyImage: true, PCRs: map[int][]byte{4: d.PCRs[4]}},
	} {
		if err := e.Check(d); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	zeros := make([]byte, 48)
	err := Expect{
		PCRs:  map[int][]byte{0: zeros, 1: d.PCRs[1], 3: d.PCRs[3], 20: {1, 2}},
		Nonce: []byte{}, UserData: d.UserData, PublicKey: []byte{3},
	}.Check(d)
	var got Mismatches
	if !errors.As(err, &got) {
		t.Fatalf("got %v", err)
	}
	want := Mismatches{
		{"PCR0", hex.EncodeToString(d.PCRs[0]), hex.EncodeToString(zeros)},
		{"PCR20", "", "0102"},
		{"public key", strings.Repeat("01", 1024), "03"},
		{"nonce", strings.Repeat("01", 1024), ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if text := err.Error(); !strings.Contains(text, "\n  PCR20: got nothing, want 0102\n") || !strings.HasSuffix(text, "want nothing") {
		t.Error(text)
	}
}

// FuzzParse holds the law for the wrapper, and the limits for what is in it.
// (The payload has two shapes, and any order of fields, under its signature.)
func FuzzParse(f *testing.F) {
	for _, name := range []string{"attestation-2024.cbor", "attestation-debug-2024.cbor"} {
		if raw, err := os.ReadFile(filepath.Join("../../../shared/vectors/nitro", name)); err == nil {
			f.Add(raw)
		}
	}
	f.Add([]byte("\x84\x44\xa1\x01\x38\x22\xa0\x41\xa0\x58\x60"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := Parse(raw)
		if err != nil {
			if !errors.Is(err, errMalformed) || d != nil {
				t.Errorf("%v with %v", d, err)
			}
			return
		}
		again, err := cbor.Marshal([]any{[]byte(protectedES384), map[int]int{}, d.payload, d.signature})
		if err != nil || !bytes.Equal(again, raw) {
			t.Errorf("accepted %x, which encodes to %x", raw, again)
		}
		if len(d.Nonce) > maxFree || len(d.UserData) > maxFree || len(d.PublicKey) > maxFree || len(d.PCRs) > maxPCRs || d.Time.Year() > 9999 {
			t.Error("beyond the limits")
		}
		if path, err := d.path(Anchor{}); err == nil && len(path) != len(d.CABundle)+1 {
			t.Errorf("a path of %d", len(path))
		}
	})
}
