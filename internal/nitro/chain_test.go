package nitro

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// pki makes documents under a root of its own. A test changes a template or a
// step, and then lets it sign.
type pki struct {
	t         testing.TB
	templates []*x509.Certificate // root first, leaf last
	keys      []*ecdsa.PrivateKey
	signers   []int // which key signs certificate i
	payload   map[string]any
}

var day = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newPKI(t testing.TB) *pki {
	p := &pki{t: t, payload: map[string]any{
		"module_id": "i-test-enc1", "digest": "SHA384", "timestamp": day.UnixMilli(),
		"pcrs": map[int][]byte{0: pcrOf(0), 1: pcrOf(1), 2: pcrOf(2), 3: make([]byte, 48)},
	}}
	for i, name := range []string{"root", "region", "zone", "instance", "enclave"} {
		c := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name},
			NotBefore: day.Add(-time.Hour), NotAfter: day.Add(time.Hour),
			BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
			MaxPathLen: -1,
		}
		switch name {
		case "region", "zone", "instance":
			c.MaxPathLen, c.MaxPathLenZero = 3-i, i == 3
		case "enclave":
			c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature
		}
		p.templates = append(p.templates, c)
		p.keys = append(p.keys, p.key(elliptic.P384()))
		p.signers = append(p.signers, max(i-1, 0))
	}
	return p
}

func pcrOf(i byte) []byte { return bytes.Repeat([]byte{0xa0 | i}, 48) }

func (p *pki) key(curve elliptic.Curve) *ecdsa.PrivateKey {
	p.t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	return key
}

// document signs everything and returns a document with its anchor.
func (p *pki) document() ([]byte, Anchor) {
	p.t.Helper()
	var certs [][]byte
	for i, c := range p.templates {
		signer := p.signers[i]
		parent := *p.templates[signer]
		// Else the library refuses to sign with a key of another certificate.
		parent.PublicKey = nil
		der, err := x509.CreateCertificate(rand.Reader, c, &parent, p.keys[i].Public(), crypto.Signer(p.keys[signer]))
		if err != nil {
			p.t.Fatal(err)
		}
		certs = append(certs, der)
	}
	last := len(certs) - 1
	p.payload["certificate"], p.payload["cabundle"] = certs[last], certs[:last]
	anchor, err := ParseAnchor(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certs[0]}))
	if err != nil {
		p.t.Fatal(err)
	}
	return p.sign(p.keys[last]), anchor
}

func (p *pki) sign(key *ecdsa.PrivateKey) []byte {
	p.t.Helper()
	body := p.marshal(p.payload)
	sum := sha512.Sum384(p.marshal([]any{"Signature1", []byte(protectedES384), []byte{}, body}))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		p.t.Fatal(err)
	}
	signature := make([]byte, 2*((key.Curve.Params().BitSize+7)/8))
	r.FillBytes(signature[:len(signature)/2])
	s.FillBytes(signature[len(signature)/2:])
	return p.marshal([]any{[]byte(protectedES384), map[int]int{}, body, signature})
}

func (p *pki) marshal(v any) []byte {
	p.t.Helper()
	b, err := cbor.Marshal(v)
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

const (
	root = iota
	region
	zone
	instance
	enclave
)

// What is wrong with a chain is found, whatever it is.
func TestChains(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(p *pki)
		want   error
		says   string
	}{
		{"good", func(p *pki) {}, nil, ""},
		{"unlimited CAs", func(p *pki) { p.templates[region].MaxPathLen = -1; p.templates[zone].MaxPathLen = -1 }, nil, ""},
		{"root directly above the leaf", func(p *pki) { drop(p, region, zone, instance) }, nil, ""},

		{"zone is no CA", func(p *pki) { p.templates[zone].IsCA = false; p.templates[zone].MaxPathLen = -1 }, errChain, `"zone" may not sign certificates`},
		{"zone may not sign", func(p *pki) { p.templates[zone].KeyUsage = x509.KeyUsageDigitalSignature }, errChain, `"zone" may not sign certificates`},
		{"no basic constraints", func(p *pki) { p.templates[zone].BasicConstraintsValid = false; p.templates[zone].IsCA = false }, errChain, `"zone" may not sign certificates`},
		{"root may not sign", func(p *pki) { p.templates[root].KeyUsage = x509.KeyUsageDigitalSignature }, errChain, `"root" may not sign certificates`},
		{"too deep below region", func(p *pki) { p.templates[region].MaxPathLen = 1 }, errChain, `"region" may have 1 CAs below it, and has 2`},
		{"too deep below root", func(p *pki) { p.templates[root].MaxPathLen = 2 }, errChain, `"root" may have 2 CAs below it, and has 3`},
		{"too deep below zone", func(p *pki) { p.templates[zone].MaxPathLen = 0; p.templates[zone].MaxPathLenZero = true }, errChain, `"zone" may have 0 CAs below it, and has 1`},
		{"leaf is a CA", func(p *pki) {
			p.templates[enclave].IsCA = true
			p.templates[enclave].KeyUsage |= x509.KeyUsageCertSign
		}, errChain, `"enclave" signs documents, but is a CA`},
		{"leaf may not sign", func(p *pki) { p.templates[enclave].KeyUsage = x509.KeyUsageKeyAgreement }, errChain, `"enclave" may not sign documents`},
		{"zone signed by its sister", func(p *pki) {
			p.templates[zone].AuthorityKeyId = nil
			sister := p.key(elliptic.P384())
			p.keys = append(p.keys, sister)
			p.templates = append(p.templates, p.templates[region])
			p.signers = append(p.signers, root)
			p.signers[zone] = len(p.keys) - 1
		}, nil, "sister"},
		{"wrong order", func(p *pki) { p.signers[zone] = root }, errChain, `"zone" was not issued by "region"`},
		{"leaf by the root", func(p *pki) { p.signers[enclave] = root }, errChain, `"enclave" was not issued by "instance"`},
		{"leaf of another curve", func(p *pki) { p.keys[enclave] = p.key(elliptic.P256()) }, nil, "curve"},
		{"leaf of P-521", func(p *pki) { p.keys[enclave] = p.key(elliptic.P521()) }, nil, "curve"},
		{"zone of another curve", func(p *pki) { p.keys[zone] = p.key(elliptic.P256()) }, errChain, `the key of "zone" is not on P-384`},
		{"signed with SHA-512", func(p *pki) { p.templates[zone].SignatureAlgorithm = x509.ECDSAWithSHA512 }, errChain, `"zone" is signed with ECDSA-SHA512`},
		{"unknown critical extension", func(p *pki) {
			p.templates[zone].ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}, errChain, `"zone" has the unknown critical extension 1.2.3`},
		{"name constraints", func(p *pki) {
			p.templates[zone].PermittedDNSDomains, p.templates[zone].PermittedDNSDomainsCritical = []string{"x"}, true
		}, errChain, "2.5.29.30"},
		{"region expired", func(p *pki) { p.templates[region].NotAfter = day.Add(-time.Second) }, ErrTime, `"region" is valid`},
		{"root not valid yet", func(p *pki) { p.templates[root].NotBefore = day.Add(time.Second) }, ErrTime, `"root" is valid`},
		{"made later", func(p *pki) { p.payload["timestamp"] = day.Add(clockSkew + time.Second).UnixMilli() }, ErrTime, "after"},
		{"made a little later", func(p *pki) { p.payload["timestamp"] = day.Add(clockSkew).UnixMilli() }, nil, ""},
		{"PCR0 zero", func(p *pki) { p.payload["pcrs"].(map[int][]byte)[0] = make([]byte, 48) }, errDebug, "debug mode"},
		{"PCR1 zero", func(p *pki) { p.payload["pcrs"].(map[int][]byte)[1] = make([]byte, 48) }, errDebug, "debug mode"},
		{"PCR2 zero", func(p *pki) { p.payload["pcrs"].(map[int][]byte)[2] = make([]byte, 32) }, errDebug, "debug mode"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPKI(t)
			test.change(p)
			switch test.says {
			case "curve": // its signature does not even have the size
				p.refusesAtOnce()
				return
			case "sister":
				p.refusesSister()
				return
			}
			raw, anchor := p.document()
			err := mustParse(t, raw).Verify(anchor, day)
			if !errors.Is(err, test.want) || test.want != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %v with %q", err, test.want, test.says)
			}
		})
	}
}

// drop takes certificates out of the chain.
func drop(p *pki, which ...int) {
	for _, i := range which {
		p.templates[i] = nil
	}
	var next pki
	for i, c := range p.templates {
		if c != nil {
			next.templates, next.keys = append(next.templates, c), append(next.keys, p.keys[i])
			next.signers = append(next.signers, max(len(next.signers)-1, 0))
		}
	}
	p.templates, p.keys, p.signers = next.templates, next.keys, next.signers
}

// refusesAtOnce signs with a leaf of another curve, with a signature of that
// curve's size and with one of 96 bytes.
func (p *pki) refusesAtOnce() {
	raw, anchor := p.document()
	if _, err := Parse(raw); !errors.Is(err, errMalformed) {
		p.t.Errorf("with its own signature: %v", err)
	}
	d := mustParse(p.t, wrap(p.t, p.marshal(p.payload)))
	if err := d.Verify(anchor, day); !errors.Is(err, errChain) || !strings.Contains(err.Error(), "not on P-384") {
		p.t.Errorf("with a signature of 96 bytes: %v", err)
	}
}

// refusesSister gives zone a signature by another key with region's name.
func (p *pki) refusesSister() {
	last := len(p.templates) - 1
	key := p.keys[enclave]
	raw, anchor := p.document()
	// The sister is the last certificate now; the leaf is the one before.
	d := mustParse(p.t, raw)
	p.payload["certificate"], p.payload["cabundle"] = d.CABundle[last-1], d.CABundle[:last-1]
	err := mustParse(p.t, p.sign(key)).Verify(anchor, day)
	if !errors.Is(err, errChain) || !strings.Contains(err.Error(), `the signature on "zone" is wrong`) {
		p.t.Errorf("got %v", err)
	}
}

// The shipped root refuses what a test root signed, and the reverse.
func TestForeignRoots(t *testing.T) {
	raw, anchor := newPKI(t).document()
	d := mustParse(t, raw)
	if err := d.Verify(Anchor{}, day); !errors.Is(err, errChain) {
		t.Errorf("under AWS's root: %v", err)
	}
	_, other := newPKI(t).document()
	if err := d.Verify(other, day); !errors.Is(err, errChain) {
		t.Errorf("under another root of the same name: %v", err)
	}
	if anchor.IsAWS() {
		t.Error("the test root says that it is AWS's")
	}
	if err := mustParse(t, vector(t, "attestation-2024.cbor")).Verify(anchor, madeAt); !errors.Is(err, errChain) {
		t.Errorf("AWS's document under the test root: %v", err)
	}
}

// A signature belongs to its payload and to its key.
func TestForeignSignatures(t *testing.T) {
	p := newPKI(t)
	raw, anchor := p.document()
	for name, forge := range map[string]func() []byte{
		"another key": func() []byte { return p.sign(p.keys[instance]) },
		"zeros":       func() []byte { return wrap(t, p.marshal(p.payload)) },
		"another payload": func() []byte {
			p.payload["nonce"] = []byte{1}
			return append(wrap(t, p.marshal(p.payload))[:0:0], swapPayload(t, raw, p.marshal(p.payload))...)
		},
	} {
		if err := mustParse(t, forge()).Verify(anchor, day); !errors.Is(err, errSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func swapPayload(t testing.TB, raw, body []byte) []byte {
	t.Helper()
	b, err := cbor.Marshal([]any{[]byte(protectedES384), map[int]int{}, body, mustParse(t, raw).signature})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A document that stops being good does not stay verified.
func TestVerifyAgain(t *testing.T) {
	raw, anchor := newPKI(t).document()
	d := mustParse(t, raw)
	e := Expect{PCRs: map[int][]byte{0: pcrOf(0)}}
	if err := errors.Join(d.Verify(anchor, day), e.Check(d)); err != nil {
		t.Fatal(err)
	}
	if err := d.Verify(anchor, day.Add(2*time.Hour)); !errors.Is(err, ErrTime) {
		t.Fatal(err)
	}
	if err := e.Check(d); !errors.Is(err, errUnverified) {
		t.Errorf("Check after a failed Verify: %v", err)
	}
}
