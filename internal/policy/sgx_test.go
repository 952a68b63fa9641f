package policy

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// recoveryKey is the public key of RFC 7748, 6.1, Alice's.
const recoveryKey = "hpke-x25519:hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="

func sealed(t testing.TB) *Policy {
	t.Helper()
	p := full(t)
	p.KMSKey, p.KMSEndpoint, p.KMSServerName, p.TLSRoots = "", "", "", ""
	p.SGX = SGX{Seal: SealMRENCLAVE, RecoveryKey: recoveryKey}
	return p
}

func marksInTable(p *Policy) {
	p.Etcd, p.TLSRoots = Etcd{}, AWSRoots()
	p.DynamoDB = DynamoDB{Table: "marks", TableID: "12345678-1234-1234-1234-123456789012", TableRegion: "eu-central-1", TableEndpoint: "dynamodb.eu-central-1.amazonaws.com:443"}
}

// pemRSA returns a new public key in PEM.
func pemRSA(t testing.TB, bits int) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return pemOf(t, &key.PublicKey)
}

func pemOf(t testing.TB, key any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func TestSealedPolicies(t *testing.T) {
	for name, change := range map[string]func(*Policy){
		"to this program":   func(*Policy) {},
		"to the signer":     func(p *Policy) { p.Seal = SealMRSIGNER },
		"backup for an HSM": func(p *Policy) { p.RecoveryKey = pemRSA(t, 2048) },
		"marks in DynamoDB": marksInTable,
	} {
		p := sealed(t)
		change(p)
		data, err := p.Encode()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		again, err := Parse(data, OfSGX)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(p, again); diff != "" || again.Kind() != OfSGX {
			t.Errorf("%s: %s", name, diff)
		}
		if bytes.Contains(data, []byte("kms")) {
			t.Errorf("%s: a KMS stands in %s", name, data)
		}
		if _, err := Parse(data, Nitro); err == nil || !strings.Contains(err.Error(), "it is one for Intel SGX, and not for AWS Nitro Enclaves") {
			t.Errorf("%s, as a policy of Nitro: %v", name, err)
		}
	}
	data, err := full(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(data, OfSGX); err == nil || !strings.Contains(err.Error(), "it is one for AWS Nitro Enclaves, and not for Intel SGX") {
		t.Errorf("a policy of Nitro, as one of SGX: %v", err)
	}
}

// A policy is of one kind, and says all that belongs to it: nothing is assumed about where
// secrets go.
func TestSealedPoliciesThatAreRefused(t *testing.T) {
	small := "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	ecdsaPEM := pemOf(t, must(ecdh.P256().GenerateKey(rand.Reader)).PublicKey())
	rsaPEM := pemRSA(t, 2048)
	three := must(rsa.GenerateKey(rand.Reader, 2048)).PublicKey
	three.E = 3
	for _, c := range []struct {
		name, key, says string
		change          func(*Policy)
	}{
		{"neither kind", "kms_key", "and so is sgx_seal", func(p *Policy) { p.SGX = SGX{} }},
		{"both", "sgx_seal", "names a KMS, too", func(p *Policy) { p.KMSKey = key }},
		{"a KMS endpoint", "sgx_seal", "names a KMS, too", func(p *Policy) { p.KMSEndpoint = "kms.eu-central-1.amazonaws.com:443" }},
		{"a KMS name", "sgx_seal", "names a KMS, too", func(p *Policy) { p.KMSServerName = "kms.eu-central-1.amazonaws.com" }},
		{"no seal", "sgx_seal", "it is missing", func(p *Policy) { p.Seal = "" }},
		{"another seal", "sgx_seal", "neither", func(p *Policy) { p.Seal = "MRSIGNER" }},
		{"no recovery key", "recovery_key", "it is missing", func(p *Policy) { p.RecoveryKey = "" }},
		{"a recovery key of another kind", "recovery_key", "neither", func(p *Policy) { p.RecoveryKey = "age1xyz" }},
		{"not base64", "recovery_key", "not standard base64 of 32 bytes", func(p *Policy) { p.RecoveryKey = hpkePrefix + "x" }},
		{"31 bytes", "recovery_key", "not standard base64 of 32 bytes", func(p *Policy) { p.RecoveryKey = hpkePrefix + base64.StdEncoding.EncodeToString(make([]byte, 31)) }},
		{"a line end", "recovery_key", "not standard base64 of 32 bytes", func(p *Policy) { p.RecoveryKey += "\n" }},
		{"a point of small order", "recovery_key", "small order", func(p *Policy) { p.RecoveryKey = hpkePrefix + small }},
		{"RSA of 1024 bits", "recovery_key", "1024 bits", func(p *Policy) { p.RecoveryKey = pemOf(t, shortRSA(t, 1024)) }},
		{"RSA of 5000 bits", "recovery_key", "5000 bits", func(p *Policy) { p.RecoveryKey = pemOf(t, shortRSA(t, 5000)) }},
		{"an exponent of 3", "recovery_key", "its exponent is 3", func(p *Policy) { p.RecoveryKey = pemOf(t, &three) }},
		{"not RSA", "recovery_key", "not of RSA", func(p *Policy) { p.RecoveryKey = ecdsaPEM }},
		{"a certificate", "recovery_key", "not one PUBLIC KEY", func(p *Policy) { p.RecoveryKey = p.AttestationRoot }},
		{"two keys", "recovery_key", "not one PUBLIC KEY", func(p *Policy) { p.RecoveryKey = rsaPEM + rsaPEM }},
		{"garbage in PEM", "recovery_key", "not a public key", func(p *Policy) {
			p.RecoveryKey = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte{1}}))
		}},
		{"roots for nothing", "tls_roots", "without a dynamodb_table", func(p *Policy) { p.TLSRoots = AWSRoots() }},
		{"DynamoDB without roots", "tls_roots", "PEM", func(p *Policy) { marksInTable(p); p.TLSRoots = "" }},
		{"half a seal in Nitro's", "sgx_seal", "names a KMS, too", func(p *Policy) { *p = *full(t); p.RecoveryKey = recoveryKey }},
	} {
		p := sealed(t)
		c.change(p)
		_, err := p.Encode()
		var k *KeyError
		if !errors.As(err, &k) || k.Key != c.key || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %s: %s", c.name, err, c.key, c.says)
		}
		data, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range []Kind{Nitro, OfSGX} {
			if _, err := Parse(data, kind); err == nil {
				t.Errorf("%s: parsed as one for %s", c.name, kind)
			}
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// shortRSA returns a public key that nobody has the other half of.
func shortRSA(t *testing.T, bits int) *rsa.PublicKey {
	t.Helper()
	n := must(rsa.GenerateKey(rand.Reader, 2048)).N
	if bits > 2048 {
		n.Lsh(n, uint(bits-2048))
	} else {
		n.Rsh(n, uint(2048-bits))
	}
	n.SetBit(n, 0, 1)
	return &rsa.PublicKey{N: n, E: 65537}
}

// A recipient's id is the same wherever it is made, and another one for each key.
func TestRecipients(t *testing.T) {
	p := sealed(t)
	r := p.Recipient()
	// SHA-256 of the 32 bytes, by openssl.
	if r.X25519 == nil || r.RSA != nil || r.Kind() != "hpke-x25519" || r.ID() != "hpke-x25519:MAyclgO5Kks57TlYv5JAEQ" {
		t.Errorf("%+v, %s", r, r.ID())
	}
	p.RecoveryKey = pemRSA(t, 3072)
	r = p.Recipient()
	if r.X25519 != nil || r.RSA == nil || r.RSA.N.BitLen() != 3072 || r.Kind() != "rsa-oaep-256" || !strings.HasPrefix(r.ID(), "rsa-oaep-256:") || len(r.ID()) != 13+22 {
		t.Errorf("%+v, %s", r, r.ID())
	}
	p.RecoveryKey = pemRSA(t, 3072)
	if p.Recipient().ID() == r.ID() {
		t.Error("two keys have one id")
	}
	if (Recipient{}).ID() != "" || (Recipient{}).Kind() != "" {
		t.Error("nobody has an id")
	}
}

// Where no KMS key says which partition of AWS is meant, the region does.
func TestTablesOfSealedPolicies(t *testing.T) {
	for region, want := range map[string]string{
		"eu-central-1": "dynamodb.eu-central-1.amazonaws.com:443", "us-gov-west-1": "dynamodb.us-gov-west-1.amazonaws.com:443", "cn-north-1": "dynamodb.cn-north-1.amazonaws.com.cn:443",
		"us-iso-east-1": "", "eu-isoe-west-1": "", "eusc-de-east-1": "",
	} {
		p := sealed(t)
		at, err := p.TableAt(region)
		if at != want || (err == nil) != (want != "") {
			t.Errorf("%s: %s, %v", region, at, err)
		}
		if want == "" {
			continue
		}
		marksInTable(p)
		p.TableRegion, p.TableEndpoint = region, at
		if err := p.CheckTable(); err != nil {
			t.Errorf("%s: %v", region, err)
		}
		p.TableEndpoint = "dynamodb.evil.example:443"
		if err := p.CheckTable(); err == nil {
			t.Errorf("%s: anybody's DynamoDB", region)
		}
	}
}
