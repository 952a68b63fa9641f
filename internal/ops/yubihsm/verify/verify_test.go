package verify

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"privyseal/internal/home"
	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/yubico"
	hsm "privyseal/yubihsm"
)

var now = time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)

// recorded is what a real device attests about a P-256 key.
const recorded = "../../../yubico/testdata/device-31650425_p256-key-0x7e57_of-blechschmidt-secsy-pki.pem"

// world is a simulated device, with the file of its root.
type world struct {
	t    *testing.T
	d    *yubihsmtest.Device
	s    *hsm.Session
	root string
}

func newWorld(t *testing.T) *world { return newWorldOf(t, yubihsmtest.Options{}) }

func newWorldOf(t *testing.T, o yubihsmtest.Options) *world {
	t.Helper()
	w := &world{t: t, d: yubihsmtest.New(t, o)}
	transport, err := hsm.Open(w.d.URL())
	if err != nil {
		t.Fatal(err)
	}
	if w.s, err = hsm.Authenticate(t.Context(), transport, 1, hsm.DeriveKey([]byte("password"))); err != nil {
		t.Fatal(err)
	}
	root, _ := w.d.Root()
	w.root = file(t, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}))
	return w
}

func file(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// attest returns what the device says of a key.
func (w *world) attest(id uint16) yubico.Evidence {
	w.t.Helper()
	key, err := w.s.SignAttestationCertificate(w.t.Context(), id, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	device, err := w.s.Opaque(w.t.Context(), 0)
	if err != nil {
		w.t.Fatal(err)
	}
	_, middle := w.d.Root()
	return yubico.Evidence{Key: key, Device: device, Between: [][]byte{middle.Raw}}
}

func (w *world) generate(id uint16, algorithm hsm.Algorithm, can hsm.Capabilities) {
	w.t.Helper()
	if _, err := w.s.GenerateAsymmetricKey(w.t.Context(), hsm.Object{ID: id, Label: "a\x1b[2J", Domains: 1, Algorithm: algorithm, Capabilities: can}); err != nil {
		w.t.Fatal(err)
	}
}

// verified verifies a document with flags.
func verified(t *testing.T, document []byte, want home.Expected, args ...string) (string, error) {
	t.Helper()
	f := Documents().Verifier()
	cmd := &cobra.Command{}
	f.Add(cmd)
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	if !f.Recognises(document) {
		t.Fatalf("%.40q is not recognised", document)
	}
	var out bytes.Buffer
	if want.At.IsZero() {
		want.At = now
	}
	err := f.Verify(&out, document, want)
	if err != nil && out.Len() > 0 {
		t.Errorf("it is refused, and printed: %s", &out)
	}
	return out.String(), err
}

// What a key is, how it came into the device and whether it can leave it are printed, and
// what a reader could believe all the same.
func TestReport(t *testing.T) {
	w := newWorld(t)
	w.generate(1, hsm.Ed25519, hsm.SignEdDSA)
	public := base64.StdEncoding.EncodeToString(w.d.Public(t, 1))
	document := w.attest(1).PEM()
	out, err := verified(t, document, home.Expected{}, "--root", w.root)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"NOT YUBICO: --root names a root of your own, ", "the certificates of YubiHSM 0012345678, firmware 2.4.0, lead to that root\n",
		`key          0x0001, ed25519, label "a\x1b[2J", domains 1` + "\n", "capabilities sign-eddsa\n", "origin       made in this device\n", "valid until  2071-10-05\n",
		"  base64      " + public, "  + the key was made in this device\n  + it does not leave the device", "  - whose key it is: ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("there is no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "copies") {
		t.Errorf("copies of a key that cannot leave the device:\n%s", out)
	}
	if out, err := verified(t, document, home.Expected{PublicKey: public}, "--root", w.root); err != nil || strings.Contains(out, "whose key") {
		t.Errorf("the key by its name: %v\n%s", err, out)
	}
}

// An ECDSA key of old firmware can be had by whoever has the device in hand.
func TestLeaks(t *testing.T) {
	for _, c := range []struct {
		firmware [3]byte
		of       hsm.Algorithm
		sign     hsm.Capabilities
		leaks    bool
	}{
		{[3]byte{2, 3, 2}, hsm.K256, hsm.SignECDSA, true},
		{[3]byte{2, 3, 2}, hsm.Ed25519, hsm.SignEdDSA, false},
		{[3]byte{2, 4, 0}, hsm.K256, hsm.SignECDSA, false},
	} {
		w := newWorldOf(t, yubihsmtest.Options{Firmware: c.firmware})
		w.generate(1, c.of, c.sign)
		out, err := verified(t, w.attest(1).PEM(), home.Expected{}, "--root", w.root)
		if err != nil || strings.Contains(out, "  - that nobody who had the device in hand has the key: ") != c.leaks {
			t.Errorf("%v of firmware %v: %v\n%s", c.of, c.firmware, err, out)
		}
	}
}

// A key that others may have too is refused, unless any is taken.
func TestCopies(t *testing.T) {
	w := newWorld(t)
	w.generate(1, hsm.K256, hsm.SignECDSA|hsm.ExportableUnderWrap)
	w.d.Provision(t, yubihsmtest.Object{Type: yubihsmtest.AsymmetricKey, ID: 2, Algorithm: yubihsmtest.Ed25519, Capabilities: yubihsmtest.CanSignEdDSA}, bytes.Repeat([]byte{7}, 32))
	w.generate(3, hsm.P256, hsm.SignECDSA)
	for id, want := range map[uint16][2]string{
		1: {`^the attestation is genuine, and the key is not as expected:\n  it can be exported under a wrap key: copies may exist$`,
			`(?s)made in this device\n.*\+ the key was made in this device\n[^+]*- that nobody else has the key: it can be exported`},
		2: {`:\n  it was not made in this device \(imported in plain text\): copies may exist$`, `(?s)origin       imported in plain text\n.*\+ the device has had this key\n  \+ it does not leave the device.*- that nobody else has the key: it was not made`},
		3: {`:\n  it is of a kind that no validator has$`, `key          0x0003, of a kind that no validator has, label`},
	} {
		document := w.attest(id).PEM()
		if _, err := verified(t, document, home.Expected{}, "--root", w.root); err == nil || !regexp.MustCompile(want[0]).MatchString(err.Error()) {
			t.Errorf("%d: %v", id, err)
		}
		if out, err := verified(t, document, home.Expected{}, "--root", w.root, "--any-key"); err != nil || !regexp.MustCompile(want[1]).MatchString(out) {
			t.Errorf("%d: %v\n%s", id, err, out)
		}
	}
}

func TestOrigins(t *testing.T) {
	for origin, want := range map[byte]string{1: "made in this device", 2: "imported in plain text", 0x11: "made in a YubiHSM, and", 0x12: "imported in plain text into", 0x20: "unknown, 0x20"} {
		p := &Proof{Attestation: &yubico.Attestation{Origin: origin}}
		if !strings.HasPrefix(p.From(), want) || (len(p.Copies()) == 0) != (origin == 1) {
			t.Errorf("%#x: %s, %q", origin, p.From(), p.Copies())
		}
	}
}

// A key that was made in a device, and came back as a backup, is known to have been elsewhere.
func TestRestored(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.generate(1, hsm.Ed25519, hsm.SignEdDSA|hsm.ExportableUnderWrap)
	wrap := hsm.Object{ID: 2, Domains: 1, Algorithm: hsm.AES256CCMWrap, Capabilities: hsm.ExportWrapped | hsm.ImportWrapped, Delegated: hsm.AllCapabilities}
	if _, err := w.s.GenerateWrapKey(ctx, wrap); err != nil {
		t.Fatal(err)
	}
	blob, err := w.s.ExportWrapped(ctx, 2, hsm.TypeAsymmetricKey, 1)
	if err != nil {
		t.Fatal(err)
	}
	w.d.Remove(yubihsmtest.AsymmetricKey, 1)
	if _, _, err := w.s.ImportWrapped(ctx, 2, blob); err != nil {
		t.Fatal(err)
	}
	document := w.attest(1).PEM()
	const from = "made in a YubiHSM, and brought here under a wrap key"
	if _, err := verified(t, document, home.Expected{}, "--root", w.root); err == nil || !strings.Contains(err.Error(), "it was not made in this device ("+from+"): copies may exist\n  it can be exported") {
		t.Error(err)
	}
	if out, err := verified(t, document, home.Expected{}, "--root", w.root, "--any-key"); err != nil || !strings.Contains(out, "origin       "+from+"\n") || strings.Contains(out, "+ it does not leave") {
		t.Errorf("%v\n%s", err, out)
	}
}

// A real device's certificates lead to Yubico's root.
func TestRecorded(t *testing.T) {
	document, err := os.ReadFile(recorded)
	if err != nil {
		t.Fatal(err)
	}
	out, err := verified(t, document, home.Expected{}, "--any-key")
	if err != nil || strings.Contains(out, "NOT YUBICO") || !strings.Contains(out, "of YubiHSM 0031650425, firmware 2.4.0, lead to Yubico's root\nkey          0x7e57, of a kind that no validator has, label \"hsmaudit-test\", domains 1\n") {
		t.Errorf("%v\n%s", err, out)
	}
}

// What is not genuine, or not what was asked for, is one message.
func TestRefuses(t *testing.T) {
	w := newWorld(t)
	w.generate(1, hsm.Ed25519, hsm.SignEdDSA)
	good := w.attest(1)
	bare := good
	bare.Between = nil
	real, err := os.ReadFile(recorded)
	if err != nil {
		t.Fatal(err)
	}
	other := base64.StdEncoding.EncodeToString(make([]byte, 32))
	root := []string{"--root", w.root}
	for name, tt := range map[string]struct {
		document []byte
		want     home.Expected
		args     []string
		err      string
	}{
		"of another root":      {good.PEM(), home.Expected{}, nil, "^the certificate of the device does not lead to the root: "},
		"of Yubico":            {real, home.Expected{}, root, "^the certificate of the device does not lead to the root: "},
		"without its sub-CA":   {bare.PEM(), home.Expected{}, root, `issued by "Simulated YubiHSM Attestation CA", whose certificate is not known here\nappend that certificate to the file; if it is one of Yubico's, it is at https://developers\.yubico\.com/YubiHSM2/Concepts/[0-9A-F]{40}\.pem$`},
		"of a hundred years":   {good.PEM(), home.Expected{At: now.AddDate(100, 0, 0)}, root, "expired"},
		"another key":          {good.PEM(), home.Expected{PublicKey: other}, root, "\n  public key: got .*, want " + other + "$"},
		"cut short":            {good.PEM()[:900], home.Expected{}, root, "^an attestation is two or more certificates in PEM"},
		"and a word":           {append(good.PEM(), "word"...), home.Expected{}, root, "something else than certificates"},
		"no root":              {good.PEM(), home.Expected{}, []string{"--root", "nope"}, "^--root: open nope"},
		"a root that is none":  {good.PEM(), home.Expected{}, []string{"--root", file(t, []byte("root"))}, "^--root .*: a root has to be one certificate in PEM$"},
		"a key of no type":     {real, home.Expected{PublicKey: other}, []string{"--any-key"}, "\n  public key: got a key of another kind, want "},
		"another certificate":  {yubico.Evidence{Key: good.Device, Device: good.Device, Between: good.Between}.PEM(), home.Expected{}, root, "the device has not signed the certificate of the key"},
		"another key's device": {yubico.Evidence{Key: newWorld(t).d8(), Device: good.Device, Between: good.Between}.PEM(), home.Expected{}, root, "the device has not signed the certificate of the key"},
	} {
		if out, err := verified(t, tt.document, tt.want, tt.args...); err == nil || !regexp.MustCompile(tt.err).MatchString(err.Error()) {
			t.Errorf("%s: %v, want %s\n%s", name, err, tt.err, out)
		}
	}
}

// d8 returns the certificate that another device makes of its key 8.
func (w *world) d8() []byte {
	w.generate(8, hsm.Ed25519, hsm.SignEdDSA)
	return w.attest(8).Key
}

// The files of the flags that say what is trusted.
func TestTrust(t *testing.T) {
	w := newWorld(t)
	_, middle := w.d.Root()
	one := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: middle.Raw})
	for name, tt := range map[string]struct {
		trust Trust
		n     int
		err   string
	}{
		"none":               {Trust{}, 0, ""},
		"one":                {Trust{subCA: file(t, one)}, 1, ""},
		"two and a root":     {Trust{root: w.root, subCA: file(t, append(bytes.Clone(one), one...))}, 2, ""},
		"no file":            {Trust{subCA: "nope"}, 0, "--sub-ca: open nope"},
		"no certificates":    {Trust{subCA: file(t, []byte("x"))}, 0, "it is not a file of certificates in PEM"},
		"another block":      {Trust{subCA: file(t, append(bytes.Clone(one), bytes.ReplaceAll(one, []byte("CERTIFICATE"), []byte("PUBLIC KEY"))...))}, 0, "it is not a file of certificates in PEM"},
		"a root that is not": {Trust{root: "nope"}, 0, "--root: open nope"},
	} {
		anchor, between, err := tt.trust.Read()
		if len(between) != tt.n || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %d, %v", name, len(between), err)
		}
		if tt.err == "" && anchor.IsYubico() != (tt.trust.root == "") {
			t.Errorf("%s: the root is %s", name, anchor.Fingerprint())
		}
	}
}

// FuzzCertificates: what is read is what PEM holds, in its order.
func FuzzCertificates(f *testing.F) {
	text, err := os.ReadFile(recorded)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := certificates(text)
		if (err == nil) != (len(list) > 0) {
			t.Fatalf("%d certificates, %v", len(list), err)
		}
		var again []byte
		for _, der := range list {
			again = append(again, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		}
		if second, err := certificates(again); len(list) > 0 && (err != nil || len(second) != len(list)) {
			t.Fatalf("%d certificates are %d, %v", len(list), len(second), err)
		}
	})
}
