// Package recovery is what the holder of a recovery key does, on a machine that is not the
// validator's: makes the key, makes backups for it of keys that exist already or were backed
// up for another one, and opens the key of a backup for an enclave that he has verified. No
// network is needed.
//
// It trusts the files of the holder, and the verifier of documents. It believes nothing of a
// backup or a document that is not verified: both come from the host. A validator's key is in
// memory while a backup is made of it, and in no file that is written.
package recovery

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"privyseal/internal/key/sgxseal"
	"privyseal/internal/regular"
)

// A recovery key is a file of two lines: the first, and the private half of an X25519 key as
// hpke-x25519-private: and base64. One of RSA is a PRIVATE KEY in PEM, of PKCS #8.
const (
	firstLine = "privyseal recovery key 1"
	private   = "hpke-x25519-private:"
	public    = "hpke-x25519:"
	maxKey    = 16 << 10
)

func encodeKey(key *ecdh.PrivateKey) []byte {
	return []byte(firstLine + "\n" + private + base64.StdEncoding.EncodeToString(key.Bytes()) + "\n")
}

// publicText returns the public half as a policy has it.
func publicText(key *ecdh.PublicKey) string {
	return public + base64.StdEncoding.EncodeToString(key.Bytes())
}

// readKey reads a recovery key.
func readKey(path string) (sgxseal.Recovery, error) {
	data, err := regular.ReadPrivate("recovery key", path, maxKey)
	if err != nil {
		return sgxseal.Recovery{}, err
	}
	defer clear(data)
	r, err := parseKey(data)
	if err != nil {
		return sgxseal.Recovery{}, fmt.Errorf("cannot use the recovery key %s: %w", path, err)
	}
	return r, nil
}

func parseKey(data []byte) (r sgxseal.Recovery, err error) {
	if bytes.HasPrefix(data, []byte("-----BEGIN ")) {
		r.RSA, err = parseRSA(data)
		return r, err
	}
	text, ok := strings.CutPrefix(string(data), firstLine+"\n"+private)
	if !ok {
		return r, errors.New("it is neither one of `privyseal sgx recovery-key` nor a PRIVATE KEY in PEM")
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSuffix(text, "\n"))
	if err != nil || len(raw) != 32 {
		return r, errors.New("it is damaged: not base64 of 32 bytes")
	}
	defer clear(raw)
	r.X25519, err = ecdh.X25519().NewPrivateKey(raw)
	return r, err
}

func parseRSA(data []byte) (*rsa.PrivateKey, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("it is not one PRIVATE KEY in PEM and nothing else")
	}
	defer clear(block.Bytes)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(*rsa.PrivateKey)
	if err != nil || !ok {
		return nil, errors.New("it is not a private key of RSA")
	}
	return key, nil
}

// readKEK reads what an HSM has decrypted: 32 bytes, raw or in base64.
func readKEK(path string) ([]byte, error) {
	data, err := regular.ReadPrivate("file of --kek", path, maxKey)
	if err != nil || len(data) == 32 {
		return data, err
	}
	defer clear(data)
	kek, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(data)))
	if err != nil || len(kek) != 32 {
		return nil, fmt.Errorf("%s is not 32 bytes, raw or in base64", path)
	}
	return kek, nil
}

// sgxDevice is there where enclaves run.
const sgxDevice = "/dev/sgx_enclave"

// nearEnclaves says why a path is no place for a recovery key; "" if nothing is known. Whoever
// has the host has the backups, and so the keys, if the recovery key is there too.
func nearEnclaves(path, device string) string {
	if _, err := os.Stat(device); err == nil {
		return "this machine runs SGX enclaves (" + device + ")"
	}
	dir, err := filepath.Abs(path)
	if err != nil {
		return ""
	}
	for dir = filepath.Dir(dir); ; dir = filepath.Dir(dir) {
		config := filepath.Join(dir, "privyseal.toml")
		if _, err := os.Stat(config); err == nil {
			return "a validator's config lies beside it, " + config
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
	}
}
