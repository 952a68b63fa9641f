package sgxseal

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"sync"
	"testing"
	"time"

	"privyseal/internal/claims"
	"privyseal/internal/policy"
	"privyseal/internal/secret"
)

var (
	epoch   = time.Unix(1_800_000_000, 0).UTC()
	cpu     = []byte("a CPU's seal key")
	another = []byte("another CPU's key")[:16]
)

// rsaKey is made once: it takes long.
var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func newX25519(t testing.TB) Recovery {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return Recovery{X25519: key}
}

// policyFor returns a policy whose backups one recovery key opens.
func policyFor(t testing.TB, r Recovery) *policy.Policy {
	t.Helper()
	p := &policy.Policy{SGX: policy.SGX{Seal: policy.SealMRENCLAVE}}
	switch {
	case r.X25519 != nil:
		p.RecoveryKey = "hpke-x25519:" + base64.StdEncoding.EncodeToString(r.X25519.PublicKey().Bytes())
	default:
		der, err := x509.MarshalPKIXPublicKey(&r.RSA.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		p.RecoveryKey = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}
	return p
}

func newSealer(t testing.TB, p *policy.Policy, cpu []byte) *Sealer {
	t.Helper()
	s, err := New(Config{Policy: p, Key: func(seal string) ([]byte, error) {
		if seal != p.Seal {
			t.Errorf("asked for the key of %s", seal)
		}
		return bytes.Clone(cpu), nil
	}, Now: func() time.Time { return epoch }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func testKey() secret.Key {
	return secret.Key{
		ChainID: "test-1", KeyType: "ed25519", Public: bytes.Repeat([]byte{7}, 32), Secret: secret.NewBytes(bytes.Repeat([]byte{0x5e}, 32)),
		Origin: claims.Generated, Created: epoch,
	}
}

// variants are keys of all sizes and origins.
var variants = map[string]func(*secret.Key){
	"generated": func(*secret.Key) {},
	"imported":  func(k *secret.Key) { k.Origin = claims.Imported },
	"recovered": func(k *secret.Key) { k.Origin = claims.RecoveredGenerated },
	"identity":  func(k *secret.Key) { k.ChainID = "" },
	"ML-DSA-65": func(k *secret.Key) {
		k.KeyType, k.Public, k.Secret = "ml_dsa_65", make([]byte, 1952), secret.NewBytes(make([]byte, 4032))
	},
	"long": func(k *secret.Key) {
		k.ChainID, k.KeyType = string(bytes.Repeat([]byte("c"), maxChain)), string(bytes.Repeat([]byte("t"), maxType))
		k.Public, k.Secret = make([]byte, maxPublic), secret.NewBytes(make([]byte, maxSecret))
	},
}

// impossible are keys that go into no file.
var impossible = map[string]func(*secret.Key){
	"no origin":      func(k *secret.Key) { k.Origin = "" },
	"unknown origin": func(k *secret.Key) { k.Origin = "found" },
	"long chain":     func(k *secret.Key) { k.ChainID = string(make([]byte, maxChain+1)) },
	"no type":        func(k *secret.Key) { k.KeyType = "" },
	"long type":      func(k *secret.Key) { k.KeyType = string(make([]byte, maxType+1)) },
	"no public key":  func(k *secret.Key) { k.Public = nil },
	"long public":    func(k *secret.Key) { k.Public = make([]byte, maxPublic+1) },
	"no secret":      func(k *secret.Key) { k.Secret = secret.Bytes{} },
	"long secret":    func(k *secret.Key) { k.Secret = secret.NewBytes(make([]byte, maxSecret+1)) },
	"before 1970":    func(k *secret.Key) { k.Created = time.Unix(-1, 0) },
}
