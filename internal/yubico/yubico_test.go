package yubico

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/yubihsm"
)

var now = time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)

// recorded returns the evidence of a real device, serial number 31650425.
func recorded(t testing.TB) Evidence {
	t.Helper()
	text, err := os.ReadFile("testdata/device-31650425_p256-key-0x7e57_of-blechschmidt-secsy-pki.pem")
	if err != nil {
		t.Fatal(err)
	}
	e, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// A real device's certificates lead to Yubico's real root.
func TestRecorded(t *testing.T) {
	a, err := recorded(t).Verify(Anchor{}, now)
	if err != nil {
		t.Fatal(err)
	}
	want := &Attestation{Serial: 31650425, Firmware: [3]byte{2, 4, 0}, ID: 0x7e57, Label: "hsmaudit-test", Domains: 1,
		Capabilities: uint64(yubihsm.SignECDSA), Origin: byte(yubihsm.Generated), Until: time.Date(2071, 10, 5, 0, 0, 0, 0, time.UTC)}
	if !reflect.DeepEqual(a, want) || !a.Generated() || a.Restored() || a.Exportable() {
		t.Errorf("%+v, want %+v", a, want)
	}
}

// The certificate that a real device made of an Ed25519 key is read; its own was not kept.
func TestRecordedEd25519(t *testing.T) {
	text, err := os.ReadFile("testdata/device-34331133_ed25519-key-0x0003_of-wiktor-k-attestation-validator.pem")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	c, err := parseKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	a, err := attestationOf(c)
	if err != nil {
		t.Fatal(err)
	}
	public, err := hex.DecodeString("e1449fa90db75eba6e3cbac2f7068c0084e0d8bfd14fe876c9179b338cfbb6e3")
	want := &Attestation{Serial: 34331133, Firmware: [3]byte{2, 4, 1}, ID: 3, Domains: 1,
		Capabilities: uint64(yubihsm.SignEdDSA), Origin: byte(yubihsm.Generated), KeyType: "ed25519", Public: public}
	if err != nil || !reflect.DeepEqual(a, want) {
		t.Errorf("%+v, want %+v, %v", a, want, err)
	}
}

// The root is the one that Yubico publishes, and the sub-CA is under it.
func TestAnchor(t *testing.T) {
	if a := (Anchor{}); !a.IsYubico() || a.Fingerprint() != yubicoFingerprint {
		t.Errorf("the root is %s", a.Fingerprint())
	}
	same, err := ParseAnchor(yubicoRoot)
	if err != nil || !same.IsYubico() {
		t.Errorf("Yubico's root by its file: %v", err)
	}
	d := yubihsmtest.New(t, yubihsmtest.Options{})
	if other := anchorOf(t, d); other.IsYubico() || len(other.Fingerprint()) != 64 {
		t.Errorf("another root is Yubico's: %s", other.Fingerprint())
	}
	broken := slices.Concat([]byte("-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n"))
	for name, text := range map[string][]byte{
		"nothing": nil, "a key": bytes.ReplaceAll(yubicoRoot, []byte("CERTIFICATE"), []byte("PUBLIC KEY")),
		"two": append(bytes.Clone(yubicoRoot), yubicoRoot...), "no certificate": broken,
	} {
		if a, err := ParseAnchor(text); err == nil {
			t.Errorf("%s: %s", name, a.Fingerprint())
		}
	}
}

// What is trusted of Yubico's second PKI is signed, over one certificate, by the root of
// it, whose fingerprint is the one that other programs pin. Nothing else below that root is
// trusted.
func TestSecondPKI(t *testing.T) {
	read := func(name string) *x509.Certificate {
		t.Helper()
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	root, between, branch := read("testdata/attestation-root-1/root.pem"), read("testdata/attestation-root-1/intermediate-b-1.pem"), read("yubihsm-attestation-b2-1.pem")
	if got := fingerprint(root.Raw); got != "62760c6a6ef91679f454c8902b80fd009825b3f25da90f1fbace2ec6586cd5a8" {
		t.Errorf("the root is %s", got)
	}
	for _, pair := range [][2]*x509.Certificate{{root, root}, {between, root}, {branch, between}} {
		if err := pair[0].CheckSignatureFrom(pair[1]); err != nil {
			t.Errorf("%v: %v", pair[0].Subject, err)
		}
	}
	trusted := x509.NewCertPool()
	for _, c := range []*x509.Certificate{read("yubico-root.pem"), branch} {
		trusted.AddCert(c)
	}
	if roots, _, err := (Anchor{}).pools(nil); err != nil || !roots.Equal(trusted) {
		t.Errorf("Yubico's anchor has other certificates: %v", err)
	}
}

// Where the certificate between root and device is one that we do not know, it is said
// where Yubico publishes it.
func TestIssuerError(t *testing.T) {
	w := newWorld(t)
	e := w.evidence(w.generate(yubihsm.Object{Domains: 1, Algorithm: yubihsm.Ed25519, Capabilities: yubihsm.SignEdDSA}))
	_, middle := w.d.Root()
	between := e.Between
	e.Between = nil
	_, err := e.Verify(w.Anchor, now)
	unknown, ok := errors.AsType[*IssuerError](err)
	if !ok || !errors.Is(err, errChain) || unknown.Issuer != middle.Subject.CommonName || unknown.URL != "https://developers.yubico.com/YubiHSM2/Concepts/"+strings.ToUpper(hex.EncodeToString(middle.SubjectKeyId))+".pem" {
		t.Errorf("%v", err)
	}
	bare := e
	e.Between = between
	for name, tt := range map[string]struct {
		Evidence
		Anchor
		at time.Time
	}{"of another root": {e, Anchor{}, now}, "of another time": {e, w.Anchor, now.AddDate(100, 0, 0)}, "of another time, without": {bare, w.Anchor, now.AddDate(100, 0, 0)}, "of Yubico, and another root": {recorded(t), w.Anchor, now}} {
		if _, err := tt.Verify(tt.Anchor, tt.at); !errors.Is(err, errChain) || errors.As(err, &unknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if c, err := x509.ParseCertificate(recorded(t).Device); err != nil || !strings.Contains(yubicoURL(t, c), "E45DA5F361B091B30D8F2C6FA040DB6FEF57918E") {
		t.Errorf("Yubico's own sub-CA is elsewhere: %v", err)
	}
}

// A certificate that does not say in the usual way which one has issued it names no place.
func TestIssuerErrorWithoutPlace(t *testing.T) {
	for _, id := range [][]byte{nil, make([]byte, 19), make([]byte, 4000)} {
		if url := yubicoURL(t, &x509.Certificate{AuthorityKeyId: id}); url != "" {
			t.Errorf("%.100s", url)
		}
	}
}

// yubicoURL returns where the issuer of a device would be, were it not known.
func yubicoURL(t *testing.T, device *x509.Certificate) string {
	t.Helper()
	e, ok := errors.AsType[*IssuerError](chainError(device, nil, x509.UnknownAuthorityError{}))
	if !ok {
		t.Fatal("it is known")
	}
	return e.URL
}

func anchorOf(t testing.TB, d *yubihsmtest.Device) Anchor {
	t.Helper()
	root, _ := d.Root()
	a, err := ParseAnchor(pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: root.Raw}))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// world is a simulated device, and the evidence of its keys.
type world struct {
	t testing.TB
	d *yubihsmtest.Device
	s *yubihsm.Session
	Anchor
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, d: yubihsmtest.New(t, yubihsmtest.Options{})}
	transport, err := yubihsm.Open(w.d.URL())
	if err != nil {
		t.Fatal(err)
	}
	if w.s, err = yubihsm.Authenticate(t.Context(), transport, 1, yubihsm.DeriveKey([]byte("password"))); err != nil {
		t.Fatal(err)
	}
	w.Anchor = anchorOf(t, w.d)
	return w
}

// evidence attests a key.
func (w *world) evidence(id uint16) Evidence {
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
	return Evidence{key, device, [][]byte{middle.Raw}}
}

func (w *world) generate(o yubihsm.Object) uint16 {
	w.t.Helper()
	id, err := w.s.GenerateAsymmetricKey(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// What a device says of a key is what was asked of it.
func TestDevice(t *testing.T) {
	w := newWorld(t)
	w.generate(yubihsm.Object{ID: 5, Label: "Schlüssel", Domains: 0x8001, Algorithm: yubihsm.Ed25519, Capabilities: yubihsm.SignEdDSA})
	w.d.Provision(t, yubihsmtest.Object{Type: yubihsmtest.AsymmetricKey, ID: 6, Algorithm: yubihsmtest.K256, Domains: 2,
		Capabilities: yubihsmtest.CanSignECDSA | yubihsmtest.ExportableUnderWrap}, bytes.Repeat([]byte{7}, 32))
	compressed := secp256k1.PrivKeyFromBytes(bytes.Repeat([]byte{7}, 32)).PubKey().SerializeCompressed()
	for id, want := range map[uint16]*Attestation{
		5: {ID: 5, Label: "Schlüssel", Domains: 0x8001, Capabilities: uint64(yubihsm.SignEdDSA), Origin: byte(yubihsm.Generated), KeyType: "ed25519", Public: w.d.Public(t, 5)},
		6: {ID: 6, Domains: 2, Capabilities: uint64(yubihsm.SignECDSA | yubihsm.ExportableUnderWrap), Origin: byte(yubihsm.Imported), KeyType: "secp256k1", Public: compressed},
	} {
		want.Serial, want.Firmware = yubihsmtest.DefaultSerial, [3]byte{2, 4, 0}
		want.Until = time.Date(2071, 10, 5, 0, 0, 0, 0, time.UTC)
		e := w.evidence(id)
		again, err := Parse(e.PEM())
		if err != nil || !reflect.DeepEqual(again, e) {
			t.Errorf("%d: %v", id, err)
		}
		a, err := again.Verify(w.Anchor, now)
		if err != nil || !reflect.DeepEqual(a, want) {
			t.Errorf("%d: %+v, %v, want %+v", id, a, err, want)
		}
		if a, err := e.Verify(Anchor{}, now); !errors.Is(err, errChain) {
			t.Errorf("%d is Yubico's: %+v, %v", id, a, err)
		}
		e.Between = nil
		if a, err := e.Verify(w.Anchor, now); !errors.Is(err, errChain) {
			t.Errorf("%d without the sub-CA: %+v, %v", id, a, err)
		}
	}
}

// A key is born in the device if nothing else is said about it.
func TestOrigin(t *testing.T) {
	for _, tt := range []struct {
		origin              byte
		generated, restored bool
	}{{0x01, true, false}, {0x02, false, false}, {0x11, false, true}, {0x12, false, true}, {0x03, false, false}, {0, false, false}} {
		a := &Attestation{Origin: tt.origin}
		if a.Generated() != tt.generated || a.Restored() != tt.restored {
			t.Errorf("origin %#x: generated %v, restored %v", tt.origin, a.Generated(), a.Restored())
		}
	}
	if (&Attestation{Capabilities: ^uint64(exportableUnderWrap)}).Exportable() || !(&Attestation{Capabilities: uint64(yubihsm.ExportableUnderWrap)}).Exportable() {
		t.Error("what is exportable")
	}
}

// Every byte of every certificate counts, of a real device and of a simulated one.
func TestEveryByte(t *testing.T) {
	w := newWorld(t)
	simulated := w.evidence(w.generate(yubihsm.Object{Domains: 1, Algorithm: yubihsm.Ed25519, Capabilities: yubihsm.SignEdDSA}))
	k256 := w.evidence(w.generate(yubihsm.Object{Domains: 1, Algorithm: yubihsm.K256, Capabilities: yubihsm.SignECDSA}))
	for name, c := range map[string]struct {
		Evidence
		Anchor
	}{"recorded": {recorded(t), Anchor{}}, "simulated": {simulated, w.Anchor}, "secp256k1": {k256, w.Anchor}} {
		if _, err := c.Verify(c.Anchor, now); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, der := range append([][]byte{c.Key, c.Device}, c.Between...) {
			for i := range der {
				der[i] ^= 1 << (i % 8)
				if a, err := c.Verify(c.Anchor, now); err == nil {
					t.Fatalf("%s: byte %d of %d: %+v", name, i, len(der), a)
				}
				der[i] ^= 1 << (i % 8)
			}
		}
		for n := range c.Key {
			e := c.Evidence
			e.Key = e.Key[:n]
			if a, err := e.Verify(c.Anchor, now); err == nil {
				t.Fatalf("%s: %d bytes: %+v", name, n, a)
			}
		}
		e := c.Evidence
		e.Key = append(bytes.Clone(e.Key), 0)
		if a, err := e.Verify(c.Anchor, now); err == nil {
			t.Fatalf("%s and a byte: %+v", name, a)
		}
	}
}

// pki makes certificates that no device makes.
type pki struct {
	t                     testing.TB
	rootKey, deviceKey    *ecdsa.PrivateKey
	root, device, subject *x509.Certificate // templates
}

func newPKI(t testing.TB) *pki {
	t.Helper()
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	named := func(name string) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(60, 0, 0)}
	}
	p := &pki{t, key(), key(), named("root"), named("YubiHSM Attestation (9)"), named("YubiHSM Attestation id:0x0001")}
	p.root.IsCA, p.root.BasicConstraintsValid, p.root.KeyUsage = true, true, x509.KeyUsageCertSign
	p.device.IsCA, p.device.BasicConstraintsValid, p.device.MaxPathLenZero = true, true, true
	p.device.ExtraExtensions = []pkix.Extension{yubicos(firmware, []byte{2, 4, 0}), yubicos(serialNumber, 9)}
	p.subject.ExtraExtensions = append(slices.Clone(p.device.ExtraExtensions), yubicos(origin, bitString(1)), yubicos(domains, bitString(0, 1)),
		yubicos(capabilities, bitString(0, 0, 0, 0, 0, 0, 1, 0)), yubicos(objectID, 1), pkix.Extension{Id: oid(label), Value: []byte{12, 2, 'h', 'i'}})
	return p
}

func oid(n int) asn1.ObjectIdentifier { return append(slices.Clone(arc), n) }

func bitString(b ...byte) asn1.BitString { return asn1.BitString{Bytes: b, BitLength: 8 * len(b)} }

func yubicos(n int, value any) pkix.Extension {
	der, err := asn1.Marshal(value)
	if err != nil {
		panic(err)
	}
	return pkix.Extension{Id: oid(n), Value: der}
}

func (p *pki) sign(c, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) []byte {
	p.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, signer)
	if err != nil {
		p.t.Fatal(err)
	}
	return der
}

// verify signs everything, and verifies it.
func (p *pki) verify(at time.Time) (*Attestation, error) {
	p.t.Helper()
	public := make(ed25519.PublicKey, 32)
	e := Evidence{Key: p.sign(p.subject, p.device, public, p.deviceKey), Device: p.sign(p.device, p.root, p.deviceKey.Public(), p.rootKey)}
	return e.Verify(Anchor{p.sign(p.root, p.root, p.rootKey.Public(), p.rootKey)}, at)
}

// replace changes an extension of the key's certificate; without a value it is left out.
func replace(n int, value any) func(*pki) {
	return func(p *pki) {
		i := slices.IndexFunc(p.subject.ExtraExtensions, func(e pkix.Extension) bool { return e.Id.Equal(oid(n)) })
		if value == nil {
			p.subject.ExtraExtensions = slices.Delete(p.subject.ExtraExtensions, i, i+1)
			return
		}
		if raw, ok := value.(string); ok {
			p.subject.ExtraExtensions[i].Value = []byte(raw)
			return
		}
		p.subject.ExtraExtensions[i] = yubicos(n, value)
	}
}

// What is signed still has to say what a device says.
func TestRefuses(t *testing.T) {
	if a, err := newPKI(t).verify(now); err != nil || a.Label != "hi" || a.Capabilities != 0x100 || a.Serial != 9 {
		t.Fatalf("%+v, %v", a, err)
	}
	for _, tt := range []struct {
		name   string
		change func(*pki)
		want   string
	}{
		{"no firmware", replace(firmware, nil), "does not name the firmware"},
		{"a short firmware", replace(firmware, []byte{2, 4}), "does not name the firmware"},
		{"no serial number", replace(serialNumber, nil), "does not name the serial number"},
		{"a negative serial number", replace(serialNumber, -9), "does not name the serial number"},
		{"a large serial number", replace(serialNumber, 1<<32), "does not name the serial number"},
		{"another serial number", replace(serialNumber, 10), "names the device 10, and that of the device 9"},
		{"a number written long", replace(serialNumber, "\x02\x02\x00\x09"), "does not name the serial number"},
		{"two values", replace(serialNumber, "\x02\x01\x09\x05\x00"), "does not name the serial number"},
		{"no origin", replace(origin, nil), "does not say how the key came"},
		{"an origin of 7 bits", replace(origin, asn1.BitString{Bytes: []byte{2}, BitLength: 7}), "it has 7 bits in place of 8"},
		{"no domains", replace(domains, nil), "does not name the domains"},
		{"8 domains", replace(domains, bitString(1)), "it has 8 bits in place of 16"},
		{"no capabilities", replace(capabilities, nil), "does not name the capabilities"},
		{"capabilities of 9 bytes", replace(capabilities, bitString(0, 0, 0, 0, 0, 0, 0, 0, 0)), "it has 72 bits in place of 64"},
		{"no id", replace(objectID, nil), "does not name the id"},
		{"a negative id", replace(objectID, -1), "does not name the id"},
		{"a large id", replace(objectID, 1<<16), "does not name the id"},
		{"no label", replace(label, nil), "does not name the label"},
		{"a label in another alphabet", replace(label, "\x13\x02hi"), "does not name the label"},
		{"a label that is not UTF-8", replace(label, "\x0c\x02\xff\xff"), "does not name the label"},
		{"a long label", replace(label, "\x0c\x29"+strings.Repeat("x", 41)), "does not name the label"},
		{"two origins", func(p *pki) {
			p.subject.ExtraExtensions = append(p.subject.ExtraExtensions, yubicos(origin, bitString(2)))
		}, "twice"},
		{"a critical extension", func(p *pki) { p.subject.ExtraExtensions[0].Critical = true }, "critical"},
		{"another algorithm", func(p *pki) { p.subject.SignatureAlgorithm = x509.ECDSAWithSHA384 }, errSignature.Error()},
		{"a key that has expired", func(p *pki) { p.subject.NotAfter = now.Add(-time.Second) }, "the certificate of the key is valid from"},
		{"a key of tomorrow", func(p *pki) { p.subject.NotBefore = now.Add(time.Second) }, "the certificate of the key is valid from"},
		{"a device that has expired", func(p *pki) { p.device.NotAfter = now.Add(-time.Second) }, errChain.Error()},
		{"a device without a serial number", func(p *pki) { p.device.ExtraExtensions = p.device.ExtraExtensions[:1] }, "does not name the serial number"},
		{"a device that is a key", func(p *pki) { p.device.ExtraExtensions = p.subject.ExtraExtensions }, "it is one of a key"},
		{"a device that is no CA", func(p *pki) { p.device.IsCA, p.device.MaxPathLenZero = false, false }, "it may not sign certificates"},
		{"a root that is no CA", func(p *pki) { p.root.IsCA = false }, errChain.Error()},
	} {
		p := newPKI(t)
		tt.change(p)
		if a, err := p.verify(now); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %+v, %v, want an error with %q", tt.name, a, err, tt.want)
		}
	}
}

// A key that was attested can sign what it likes, and its own attestation leads to the root.
func TestAttestedKeyIsNoDevice(t *testing.T) {
	p := newPKI(t)
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	forged := *p.subject
	forged.Issuer = p.subject.Subject
	e := Evidence{Key: p.sign(&forged, p.subject, make(ed25519.PublicKey, 32), own), Device: p.sign(p.subject, p.device, own.Public(), p.deviceKey),
		Between: [][]byte{p.sign(p.device, p.root, p.deviceKey.Public(), p.rootKey)}}
	if a, err := e.Verify(Anchor{p.sign(p.root, p.root, p.rootKey.Public(), p.rootKey)}, now); !errors.Is(err, errChain) || !strings.Contains(err.Error(), "may not sign certificates") {
		t.Errorf("%+v, %v", a, err)
	}
}

// A certificate with another name of the issuer is not the device's.
func TestAnotherIssuer(t *testing.T) {
	p := newPKI(t)
	other := *p.device
	other.Subject = pkix.Name{CommonName: "YubiHSM Attestation (10)"}
	e := Evidence{Key: p.sign(p.subject, &other, make(ed25519.PublicKey, 32), p.deviceKey), Device: p.sign(p.device, p.root, p.deviceKey.Public(), p.rootKey)}
	if a, err := e.Verify(Anchor{p.sign(p.root, p.root, p.rootKey.Public(), p.rootKey)}, now); !errors.Is(err, errSignature) {
		t.Errorf("%+v, %v", a, err)
	}
}

// What no signature is over, and what stands before it is checked, is refused as well.
func TestParseKeyRefuses(t *testing.T) {
	der := recorded(t).Key
	version := bytes.Index(der, []byte{0xa0, 3, 2, 1, 2}) + 4
	unused := bytes.LastIndex(der, []byte{3, 0x82, 1, 1, 0}) + 4 // bits of the signature, whose last two are 0
	for name, tt := range map[string]struct {
		at   int
		to   byte
		want string
	}{"version 2": {version, 1, "not of version 3"}, "2047 bits": {unused, 1, "not of whole bytes"}} {
		bad := bytes.Clone(der)
		bad[tt.at] = tt.to
		if c, err := parseKey(bad); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %+v, %v, want an error with %q", name, c, err, tt.want)
		}
	}
}

func TestSizes(t *testing.T) {
	e := recorded(t)
	large := make([]byte, maxCertificate+1)
	for name, bad := range map[string]Evidence{"key": {large, e.Device, nil}, "device": {e.Key, large, nil}, "between": {e.Key, e.Device, [][]byte{large}}} {
		if a, err := bad.Verify(Anchor{}, now); err == nil || !strings.Contains(err.Error(), "too large") {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	e.Between = slices.Repeat([][]byte{e.Device}, maxBetween+1)
	if a, err := e.Verify(Anchor{}, now); !errors.Is(err, errChain) || !strings.Contains(err.Error(), "5 certificates") {
		t.Errorf("%+v, %v", a, err)
	}
}

// A file has certificates in it, and nothing else.
func TestParseRefuses(t *testing.T) {
	good := recorded(t)
	text := good.PEM()
	one := pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: good.Key})
	for name, bad := range map[string][]byte{
		"nothing": nil, "one": one, "a note before": append([]byte("note\n"), text...), "a note after": append(bytes.Clone(text), "note\n"...),
		"a header": bytes.Replace(text, []byte("E-----\n"), []byte("E-----\nA: b\n\n"), 1), "a key": bytes.ReplaceAll(text, []byte("CERTIFICATE"), []byte("PRIVATE KEY")),
		"seven": bytes.Repeat(one, 7), "large": append(bytes.Clone(text), bytes.Repeat([]byte{'\n'}, maxText)...),
	} {
		if e, err := Parse(bad); err == nil {
			t.Errorf("%s: %d certificates", name, 2+len(e.Between))
		}
	}
	if e, err := Parse(bytes.Repeat(one, 6)); err != nil || len(e.Between) != maxBetween {
		t.Errorf("six: %v", err)
	}
	if files, err := filepath.Glob("testdata/*.pem"); err != nil || len(files) != 2 {
		t.Errorf("%q, %v", files, err)
	}
}

// A public key has one form.
func TestPublicKey(t *testing.T) {
	point := append([]byte{4}, bytes.Repeat([]byte{3}, 64)...)
	curve, err := asn1.Marshal(oidSecp256k1)
	if err != nil {
		t.Fatal(err)
	}
	ed, ec := pkix.AlgorithmIdentifier{Algorithm: oidEd25519}, pkix.AlgorithmIdentifier{Algorithm: oidECKey, Parameters: asn1.RawValue{FullBytes: curve}}
	null := ed
	null.Parameters.FullBytes = []byte{5, 0}
	p256 := ec
	p256.Parameters.FullBytes = []byte{6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}
	for _, tt := range []struct {
		name, typ string
		key       subjectKey
		ok        bool
	}{
		{"Ed25519", "ed25519", subjectKey{ed, bitString(make([]byte, 32)...)}, true},
		{"33 bytes", "", subjectKey{ed, bitString(make([]byte, 33)...)}, false},
		{"parameters", "", subjectKey{null, bitString(make([]byte, 32)...)}, false},
		{"secp256k1", "secp256k1", subjectKey{ec, bitString(point...)}, true},
		{"64 bytes", "", subjectKey{ec, bitString(point[:64]...)}, false},
		{"compressed", "", subjectKey{ec, bitString(append([]byte{2}, point[1:]...)...)}, false},
		{"P-256", "", subjectKey{p256, bitString(point...)}, true},
	} {
		typ, public, err := publicOf(tt.key)
		if typ != tt.typ || (err == nil) != tt.ok || (public == nil) != (tt.typ == "") {
			t.Errorf("%s: %q, %x, %v", tt.name, typ, public, err)
		}
	}
}

// FuzzParseKey: what is accepted is read again from what it says.
func FuzzParseKey(f *testing.F) {
	f.Add(recorded(f).Key)
	f.Add(recorded(f).Device)
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := parseKey(der)
		if err != nil {
			return
		}
		if !bytes.Contains(der, c.signed) || !bytes.Contains(der, c.signature) {
			t.Fatalf("%x is signed in %x", c.signed, der)
		}
		if a, err := attestationOf(c); err == nil && (len(a.Label) > 40 || (a.Public == nil) != (a.KeyType == "")) {
			t.Fatalf("%+v", a)
		}
	})
}

// FuzzParse: what is accepted is what PEM writes, and nothing that was changed leads to
// Yubico's root.
func FuzzParse(f *testing.F) {
	good := recorded(f)
	f.Add(good.PEM())
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := Parse(text)
		if err != nil {
			return
		}
		if !bytes.Equal(e.PEM(), text) {
			t.Fatalf("%q is written as %q", text, e.PEM())
		}
		if a, err := e.Verify(Anchor{}, now); err == nil && !bytes.Equal(e.Key, good.Key) {
			t.Fatalf("%+v", a)
		}
	})
}
