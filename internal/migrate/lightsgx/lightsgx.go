// Package lightsgx reads what tmkms-light's SGX provider has written: its backups, and the key
// of these, as the HSM of a cloud has it or as it was encrypted to a wrap key. What its enclave
// has sealed is recognised, and opened by nobody but that enclave on its CPU.
//
// It trusts that the files are the operator's own, and not that they are whole.
package lightsgx

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"privyseal/internal/gcmsiv"
	"privyseal/internal/key/soft"
	"privyseal/internal/kwp"
	"privyseal/internal/pubkey"
	"privyseal/internal/strictjson"
)

// MaxSize bounds each of its files in bytes: a sealed RSA key, as numbers, has some 5,000.
const MaxSize = 64 << 10

// numbers are bytes as tmkms-light writes them: a JSON array of numbers.
type numbers []byte

func (n *numbers) UnmarshalJSON(data []byte) error {
	var list []uint8 // which Go has in base64
	var ints []uint16
	if err := json.Unmarshal(data, &ints); err != nil {
		return errors.New("not an array of bytes")
	}
	for _, i := range ints {
		if i > 255 {
			return fmt.Errorf("%d is not a byte", i)
		}
		list = append(list, uint8(i))
	}
	*n = list
	return nil
}

// IsSealed reports whether a file is a key that an enclave of tmkms-light has sealed, whole or
// not.
func IsSealed(data []byte) bool {
	return strings.HasPrefix(strings.TrimLeft(string(data), " \t\r\n"), "{") && strings.Contains(string(data), `"seal_key_request"`)
}

// Backup is consensus-key.backup or id-key.backup: an Ed25519 key, by AES-256-GCM-SIV, with the
// public key as the additional data.
type Backup struct {
	nonce, sealed, public []byte
}

// ParseBackup reads a backup.
func ParseBackup(data []byte) (Backup, error) {
	if IsSealed(data) {
		return Backup{}, errors.New("it is a key that an SGX enclave has sealed, which only that enclave opens, and not a backup")
	}
	var file struct {
		Nonce  numbers `json:"nonce"`
		Sealed numbers `json:"sealed_secret"`
		Public numbers `json:"public_key"`
	}
	if err := strictjson.Decode(data, &file); err != nil {
		return Backup{}, fmt.Errorf("it is not a backup of tmkms-light's SGX provider: %w", err)
	}
	if len(file.Nonce) != gcmsiv.NonceSize || len(file.Sealed) != 32+gcmsiv.Overhead || len(file.Public) != 32 {
		return Backup{}, fmt.Errorf("it is not a backup of tmkms-light's SGX provider: %d, %d and %d bytes, not 12, 48 and 32", len(file.Nonce), len(file.Sealed), len(file.Public))
	}
	return Backup{file.Nonce, file.Sealed, file.Public}, nil
}

// Open decrypts a backup with the 32 bytes of its key.
func (b Backup) Open(key []byte) (*soft.Key, error) {
	seed, err := gcmsiv.Open(key, b.nonce, b.sealed, b.public)
	if err != nil {
		return nil, fmt.Errorf("the backup does not open with this key: %w", err)
	}
	defer clear(seed)
	k, err := soft.FromSecret(pubkey.Ed25519, seed)
	if err != nil {
		return nil, err
	}
	if string(k.PublicKey().Bytes()) != string(b.public) {
		k.Wipe()
		return nil, errors.New("the key in the backup is not that of the public key beside it")
	}
	return k, nil
}

// The key of backups is 32 bytes.
const keySize = 32

// ParseKey reads the key of a backup as an HSM gives it out: 32 bytes, raw or in base64.
func ParseKey(data []byte) ([]byte, error) {
	if len(data) == keySize {
		return data, nil
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(data)))
	if err != nil || len(raw) != keySize {
		return nil, errors.New("it is not the key of a backup: 32 bytes, raw or in base64")
	}
	return raw, nil
}

// UnwrapKey decrypts the external key file of -e, a JSON string of base64 of 296 bytes, with
// the private half of the wrap key in PEM.
func UnwrapKey(external, private []byte) ([]byte, error) {
	var text string
	if err := strictjson.Decode(external, &text); err != nil {
		return nil, errors.New("the external key is not a JSON string of base64")
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) != 296 {
		return nil, errors.New("the external key is not base64 of 296 bytes")
	}
	wrap, err := parsePrivate(private)
	if err != nil {
		return nil, err
	}
	key, err := kwp.UnwrapRSA(wrap, raw)
	if err != nil || len(key) != keySize {
		return nil, errors.New("the external key does not open with this wrap key")
	}
	return key, nil
}

func parsePrivate(data []byte) (*rsa.PrivateKey, error) {
	if IsSealed(data) {
		return nil, errors.New("the wrap key is sealed, and only the enclave that made it opens it; take the key of the backup from the HSM that holds it")
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("the wrap key is not a private key in PEM")
	}
	defer clear(block.Bytes)
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(*rsa.PrivateKey)
	if err != nil || !ok {
		return nil, errors.New("the wrap key is not a private key of RSA")
	}
	return key, nil
}
