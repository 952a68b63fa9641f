package sgxtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
)

// saved is an Intel in a file, for several processes.
type saved struct {
	*Intel
	Keys         map[string][]byte // PKCS #8
	Attestation  []byte
	Certificates map[string][]byte // DER
}

// Save encodes all but the hooks, with its keys.
func (i *Intel) Save() ([]byte, error) {
	if err := i.issue(); err != nil {
		return nil, err
	}
	s := saved{Intel: i, Keys: map[string][]byte{}, Certificates: i.certs}
	var err error
	for name, key := range i.keys {
		if s.Keys[name], err = x509.MarshalPKCS8PrivateKey(key); err != nil {
			return nil, err
		}
	}
	if s.Attestation, err = x509.MarshalPKCS8PrivateKey(i.attestation); err != nil {
		return nil, err
	}
	return json.Marshal(s)
}

// Load reads what Save has encoded.
func Load(data []byte) (*Intel, error) {
	s := saved{Intel: &Intel{keys: map[string]*ecdsa.PrivateKey{}}}
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, err
	}
	s.certs = s.Certificates
	s.issued.Do(func() {})
	for name, der := range s.Keys {
		var err error
		if s.keys[name], err = privateKey(der); err != nil {
			return nil, err
		}
	}
	var err error
	s.attestation, err = privateKey(s.Attestation)
	return s.Intel, err
}

func privateKey(der []byte) (*ecdsa.PrivateKey, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	k, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("a key of %T", key)
	}
	return k, nil
}

// Platform returns a twin that has certified another platform, or the same one after an
// update: change says what differs. Hooks stay behind.
func (i *Intel) Platform(change func(*Intel)) (*Intel, error) {
	data, err := i.Save()
	if err != nil {
		return nil, err
	}
	j, err := Load(data)
	if err != nil {
		return nil, err
	}
	if j.keys[PCK], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	change(j)
	j.certs = maps.Clone(j.certs)
	j.certs[PCK], err = j.certificate(PCK, j.CA, 200)
	return j, err
}
