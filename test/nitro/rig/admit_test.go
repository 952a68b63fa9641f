package rig

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"privyseal/internal/awspolicy"
	"privyseal/internal/claims"
	"privyseal/internal/eif"
	"privyseal/internal/secret"
)

// The key policies that we print, as KMS judges them: which image of which signer
// has a key opened, by the choice of registers. Each policy was made for the first
// image alone.
func TestKeyPolicyAdmits(t *testing.T) {
	ours, other := newSigner(t), newSigner(t)
	images := map[string]map[int]pcr{
		"the image":               registersOf(t, "policy 1", ours, false),
		"without its signature":   registersOf(t, "policy 1", nil, false),
		"the next one":            registersOf(t, "policy 2", ours, false),
		"the next one unsigned":   registersOf(t, "policy 2", nil, false),
		"of another signer":       registersOf(t, "policy 1", other, false),
		"next, of another signer": registersOf(t, "policy 2", other, false),
		"in debug mode":           registersOf(t, "policy 1", ours, true),
		"elsewhere":               registersOf(t, "policy 1", ours, false),
	}
	images["elsewhere"][3] = extend(pcr{}, []byte("arn:aws:iam::123456789012:role/other"))

	only := func(names ...string) map[string]bool {
		m := map[string]bool{}
		for _, n := range names {
			m[n] = true
		}
		return m
	}
	for name, mode := range map[string]struct {
		policy awspolicy.KeyPolicy
		admits map[string]bool
	}{
		"PCR0":                   {awspolicy.KeyPolicy{}, only("the image", "without its signature", "of another signer")},
		"PCR0 and PCR8":          {awspolicy.KeyPolicy{Signed: true}, only("the image")},
		"PCR1 and PCR2":          {awspolicy.KeyPolicy{Parts: true, WithoutPCR0: true}, only("the image", "without its signature", "of another signer")},
		"PCR1, PCR2 and PCR8":    {awspolicy.KeyPolicy{Parts: true, Signed: true, WithoutPCR0: true}, only("the image")},
		"PCR8":                   {awspolicy.KeyPolicy{Signed: true, WithoutPCR0: true}, only("the image", "the next one")},
		"PCR8, on this instance": {awspolicy.KeyPolicy{Signed: true, WithoutPCR0: true, Instance: testInstance}, only("the image", "the next one")},
	} {
		t.Run(name, func(t *testing.T) {
			w := newKMSWorld(t)
			p := mode.policy
			p.Role, p.Images = testRole, []awspolicy.Image{imageOf(images["the image"])}
			text, err := p.JSON()
			if err != nil {
				t.Fatal(err)
			}
			if err := w.kms.AddKey(testKey, text); err != nil {
				t.Fatal(err)
			}
			blob, err := w.kms.Encrypt(testKey, nil, []byte("a seed"))
			if err != nil {
				t.Fatal(err)
			}
			for image, pcrs := range images {
				for i, value := range pcrs {
					w.module.pcrs[i] = value
				}
				_, err := w.client.Decrypt(t.Context(), testCredentials, blob)
				_, wrapErr := w.client.Wrap(t.Context(), testCredentials, secret.Key{KeyType: "ed25519", Public: make([]byte, 32), Secret: secret.NewBytes(make([]byte, 32)), Origin: claims.Generated})
				if granted := err == nil; granted != mode.admits[image] || granted != (wrapErr == nil) {
					t.Errorf("%s: Decrypt: %v; GenerateDataKey: %v; want granted: %t", image, err, wrapErr, mode.admits[image])
				}
			}
		})
	}
}

func imageOf(pcrs map[int]pcr) awspolicy.Image {
	of := func(i int) []byte { p := pcrs[i]; return p[:] }
	return awspolicy.Image{PCR0: of(0), PCR1: of(1), PCR2: of(2), PCR8: of(8)}
}

// registersOf returns what the hypervisor measures of an image with this policy.
// In debug mode PCR8 is as it may be at worst: AWS does not say that it is zero.
func registersOf(t *testing.T, policy string, by *eif.Signer, debug bool) map[int]pcr {
	t.Helper()
	built, err := eif.Build(eif.Source{Arch: eif.AMD64, Kernel: []byte("kernel"), Ramdisks: [][]byte{[]byte("program"), []byte(policy)}, Sign: by})
	if err != nil {
		t.Fatal(err)
	}
	im, err := readImage(built.Encode())
	if err != nil {
		t.Fatal(err)
	}
	pcrs := Config{Role: testRole, Instance: testInstance}.registers(im)
	if debug {
		pcrs[0], pcrs[1], pcrs[2] = pcr{}, pcr{}, pcr{}
	}
	return pcrs
}

func newSigner(t *testing.T) *eif.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "signer"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s, err := eif.NewSigner(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
	if err != nil {
		t.Fatal(err)
	}
	return s
}
