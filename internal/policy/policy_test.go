package policy

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const key = "arn:aws:kms:eu-central-1:111122223333:key/12345678-1234-1234-1234-123456789012"

// publicKey is that of RFC 8032, 7.1, TEST 1.
const publicKey = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="

func full(t testing.TB) *Policy {
	t.Helper()
	p, err := ForAWS(key, false)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(AWSRoots()))
	p.AttestationRoot = string(pem.EncodeToMemory(block))
	p.Chains, p.PublicKeys = []string{"chain-1", "chain-2"}, []string{publicKey}
	p.AllowSignBytes, p.AllowRawBytes, p.MaxHeight = true, true, 7
	p.StateFloor = map[string]int64{"chain-2": 2, "chain-1": 1}
	p.Etcd = Etcd{CA: p.AttestationRoot, ServerNames: []string{"etcd.test", "10.0.0.1"}, ClusterID: "cdf818194e3a8c32", Prefix: "/privyseal"}
	return p
}

// The same policy has one form, whatever its file looked like.
func TestEncode(t *testing.T) {
	p := full(t)
	one, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(one, Nitro)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p, again); diff != "" {
		t.Error(diff)
	}
	flat := bytes.ReplaceAll(bytes.ReplaceAll(one, []byte("\n"), nil), []byte(`": `), []byte(`":`))
	other, err := Parse(flat, Nitro)
	if err != nil {
		t.Fatal(err)
	}
	if two, err := other.Encode(); err != nil || !bytes.Equal(one, two) {
		t.Errorf("%v\n%s", err, two)
	}
}

// What is absent is at its strictest.
func TestStrictest(t *testing.T) {
	p, err := ForAWS(key, false)
	if err != nil {
		t.Fatal(err)
	}
	data, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"allow", "max_height", "state_floor", "attestation_root", "chains", "public_keys", "etcd"} {
		if bytes.Contains(data, []byte(name)) {
			t.Errorf("%s stands in %s", name, data)
		}
	}
	if p.AllowSignBytes || p.AllowRawBytes || p.AttestationRoot != "" || len(p.StateFloor) > 0 {
		t.Errorf("%+v", p)
	}
	if !p.AllowsChain("any") || !p.AllowsKey("any") {
		t.Error("without a list the wrapped key decides, and did not")
	}
	p.Chains, p.PublicKeys = []string{"chain-1"}, []string{"AAAA"}
	if !p.AllowsChain("chain-1") || p.AllowsChain("chain-10") || p.AllowsChain("") || !p.AllowsKey("AAAA") || p.AllowsKey("AAAB") {
		t.Error("the lists do not hold")
	}
}

func TestForAWS(t *testing.T) {
	for _, tt := range []struct {
		key  string
		fips bool
		host string
	}{
		{key, false, "kms.eu-central-1.amazonaws.com"},
		{key, true, "kms-fips.eu-central-1.amazonaws.com"},
		{"arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/1", true, "kms-fips.us-gov-west-1.amazonaws.com"},
		{"arn:aws-cn:kms:cn-north-1:111122223333:key/1", false, "kms.cn-north-1.amazonaws.com.cn"},
		{"arn:aws-iso:kms:us-iso-east-1:111122223333:key/1", false, ""},
		{"arn:aws:kms:eu-central-1:111122223333:alias/validator", false, ""},
		{"arn:aws:kms:eu/central:111122223333:key/1", false, ""},
	} {
		p, err := ForAWS(tt.key, tt.fips)
		if tt.host == "" {
			if err == nil {
				t.Errorf("%s: %s", tt.key, p.KMSEndpoint)
			}
			continue
		}
		if err != nil || p.KMSEndpoint != tt.host+":443" || p.KMSServerName != tt.host || p.Region() != strings.Split(tt.host, ".")[1] {
			t.Errorf("%s: %+v, %v", tt.key, p, err)
		}
	}
}

// The roots are those of https://www.amazontrust.com/repository/, and no others.
func TestAWSRoots(t *testing.T) {
	want := map[string]string{
		"Amazon Root CA 1": "8ecde6884f3d87b1125ba31ac3fcb13d7016de7f57cc904fe1cb97c6ae98196e",
		"Amazon Root CA 2": "1ba5b2aa8c65401a82960118f80bec4f62304d83cec4713a19c39c011ea46db4",
		"Amazon Root CA 3": "18ce6cfe7bf14e60b2e347b8dfe868cb31d02ebb3ada271569f50343b46db3a4",
		"Amazon Root CA 4": "e35d28419ed02025cfa69038cd623962458da5c695fbdea3c22b0bfb25897092",
		"Starfield Services Root Certificate Authority - G2": "568d6905a2c88708a4b3025190edcfedb1974a606a13c6e5290fcb2ae63edab5",
	}
	got := map[string]string{}
	for rest := []byte(AWSRoots()); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(c.Raw)
		got[c.Subject.CommonName] = hex.EncodeToString(sum[:])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRefused(t *testing.T) {
	good, err := full(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	text := string(good)
	cut := func(line string) string {
		a := strings.Index(text, line)
		return text[:a] + text[a+strings.IndexByte(text[a:], '\n')+1:]
	}
	tests := map[string]string{
		"empty":                  "",
		"no object":              "[]",
		"cut off":                text[:len(text)-3],
		"something behind it":    text + "{}",
		"too long":               text + strings.Repeat(" ", MaxSize),
		"unknown key":            strings.Replace(text, `"max_height"`, `"max_heigth"`, 1),
		"duplicate key":          strings.Replace(text, `"max_height": 7`, `"max_height": 7, "max_height": 9`, 1),
		"duplicate by case":      strings.Replace(text, `"max_height": 7`, `"max_height": 7, "Max_Height": 9`, 1),
		"another case":           strings.Replace(text, `"max_height": 7`, `"MAX_HEIGHT": 7`, 1),
		"duplicate floor":        strings.Replace(text, `"chain-1": 1`, `"chain-1": 1, "chain-1": 0`, 1),
		"no KMS key":             cut(`"kms_key"`),
		"half an etcd":           cut(`"etcd_prefix"`),
		"an etcd of any cluster": cut(`"etcd_cluster_id"`),
		"an etcd of any CA":      cut(`"etcd_ca"`),
		"etcd in capitals":       strings.Replace(text, `"etcd_prefix"`, `"ETCD_prefix"`, 1),
		"etcd in an object":      strings.Replace(text, `"etcd_prefix": "/privyseal"`, `"etcd": {"etcd_prefix": "/privyseal"}`, 1),
		"an alias":               strings.Replace(text, ":key/", ":alias/", 1),
		"no account":             strings.Replace(text, ":111122223333:", "::", 1),
		"no endpoint":            cut(`"kms_endpoint"`),
		"endpoint without port":  strings.Replace(text, ".com:443", ".com", 1),
		"no server name":         cut(`"kms_server_name"`),
		"a name with a wildcard": strings.Replace(text, `name": "kms.`, `name": "*.`, 1),
		"no roots":               cut(`"tls_roots"`),
		"empty roots":            strings.Replace(text, `"tls_roots": "`, `"tls_roots": "", "x": "`, 1),
		"roots with more":        strings.Replace(text, `"tls_roots": "`, `"tls_roots": "x`, 1),
		"negative bound":         strings.Replace(text, `"max_height": 7`, `"max_height": -7`, 1),
		"negative floor":         strings.Replace(text, `"chain-1": 1`, `"chain-1": -1`, 1),
		"floor of no chain":      strings.Replace(text, `"chain-1": 1`, `"": 1`, 1),
		"a string for a number":  strings.Replace(text, `"max_height": 7`, `"max_height": "7"`, 1),
		"null":                   "null",
	}
	if _, err := Parse(good, Nitro); err != nil {
		t.Fatal(err)
	}
	for name, bad := range tests {
		if bad == text {
			t.Errorf("%s: the test changes nothing", name)
		}
		if p, err := Parse([]byte(bad), Nitro); err == nil {
			t.Errorf("%s: accepted with kms_key %s and max_height %d", name, p.KMSKey, p.MaxHeight)
		}
	}
}

// A policy that is accepted has one form, and that form is accepted as the same.
func FuzzParse(f *testing.F) {
	good, err := full(f).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"kms_key":"x","kms_key":"y"}`))
	f.Add([]byte(`{"state_floor":{"a":1,"a":2},"chains":["}{"]}`))
	of, err := sealed(f).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(of)
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse(data, Nitro)
		if err != nil {
			if p, err = Parse(data, OfSGX); err != nil {
				return
			}
		}
		one, err := p.Encode()
		if err != nil {
			t.Fatalf("accepted, and not encoded: %v", err)
		}
		again, err := Parse(one, p.Kind())
		if err != nil {
			t.Fatalf("its own form is refused: %v\n%s", err, one)
		}
		if two, err := again.Encode(); err != nil || !bytes.Equal(one, two) {
			t.Fatalf("two forms:\n%s\n%s", one, two)
		}
		p.Roots()
		switch p.Kind() {
		case Nitro:
			p.Region()
		case OfSGX:
			if r := p.Recipient(); (r.X25519 == nil) == (r.RSA == nil) || r.ID() == "" {
				t.Fatalf("a backup for nobody: %+v", p.SGX)
			}
		}
		if p.Etcd.Named() != (p.Etcd.Cluster() != [8]byte{}) {
			t.Fatalf("an etcd of no cluster: %+v", p.Etcd)
		}
	})
}

// Whoever can answer as KMS knows every key. Amazon's roots stand above the names
// of its customers too.
func TestCheckKMS(t *testing.T) {
	const (
		europe = "arn:aws:kms:eu-central-1:111122223333:key/1"
		china  = "arn:aws-cn:kms:cn-north-1:111122223333:key/1"
	)
	for _, tt := range []struct {
		arn, name string
		ok        bool
	}{
		{europe, "kms.eu-central-1.amazonaws.com", true},
		{europe, "KMS.eu-central-1.AMAZONAWS.com", true},
		{europe, "kms-fips.eu-central-1.amazonaws.com", true},
		{europe, "kms.eu-central-1.api.aws", true},
		{europe, "vpce-0123456789abcdef0-abcdefgh.kms.eu-central-1.vpce.amazonaws.com", true},
		{europe, "vpce-0123456789abcdef0-abcdefgh-eu-central-1a.kms-fips.eu-central-1.vpce.amazonaws.com", true},
		{china, "kms.cn-north-1.amazonaws.com.cn", true},
		{china, "kms.cn-north-1.api.amazonwebservices.com.cn", true},
		{europe, "kms.us-east-1.amazonaws.com", false},
		{europe, "kms.eu-central-1.amazonaws.com.cn", false},
		{europe, "kms.eu-central-1.api.amazonwebservices.com.cn", false},
		{europe, "kms.evil.example", false},
		{europe, "kms.eu-central-1.amazonaws.com.evil.example", false},
		{europe, "abc123.execute-api.eu-central-1.amazonaws.com", false},
		{europe, "kms.execute-api.eu-central-1.amazonaws.com", false},
		{europe, "vpce-1.kms.eu-central-1.amazonaws.com", false},
		{europe, "vpce-1.execute-api.eu-central-1.vpce.amazonaws.com", false},
		{europe, "vpce-1.vpce-2.kms.eu-central-1.vpce.amazonaws.com", false},
		{europe, "vpce-1", false},
		{"arn:aws-iso:kms:us-iso-east-1:111122223333:key/1", "kms.us-iso-east-1.amazonaws.com", false},
	} {
		p := &Policy{KMSKey: tt.arn, KMSServerName: tt.name, TLSRoots: AWSRoots()}
		if err := p.CheckKMS(); (err == nil) != tt.ok {
			t.Errorf("%s for %s: %v", tt.name, tt.arn, err)
		}
	}
	p, err := ForAWS(europe, true)
	if err != nil || p.CheckKMS() != nil {
		t.Errorf("AWS's own: %v, %v", err, p.CheckKMS())
	}
	p.TLSRoots += otherRoot(t)
	if err := p.CheckKMS(); err == nil || !strings.Contains(err.Error(), "not one of Amazon Trust Services'") {
		t.Errorf("one root more: %v", err)
	}
}

// otherRoot returns a certificate of nobody, PEM.
func otherRoot(t *testing.T) string {
	t.Helper()
	public, secret, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(nil, template, template, public, secret)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
