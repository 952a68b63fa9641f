package vault

import (
	"context"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"
	"time"

	"privyseal/internal/pubkey"
)

// adminPatience bounds a call that makes or reads keys: the server makes an RSA key of
// 4096 bits when it is first asked for one.
const adminPatience = 2 * time.Minute

// Info is what the server says of a key. Nothing proves it but the public keys, and
// those only by what they verify.
type Info struct {
	Type                 string `json:"type"`
	Derived              bool   `json:"derived"`
	Exportable           bool   `json:"exportable"`
	AllowPlaintextBackup bool   `json:"allow_plaintext_backup"`
	DeletionAllowed      bool   `json:"deletion_allowed"`
	SoftDeleted          bool   `json:"soft_deleted"`
	AutoRotatePeriod     int64  `json:"auto_rotate_period"` // seconds
	Imported             bool   `json:"imported_key"`
	LatestVersion        int    `json:"latest_version"`
	MinDecryptionVersion int    `json:"min_decryption_version"`
	MinEncryptionVersion int    `json:"min_encryption_version"`

	Keys map[string]json.RawMessage `json:"keys"` // by version
}

// keyRequest is a request about a key.
func (c *Client) keyRequest(name, method, path string) request {
	return request{what: "key " + c.c.Mount + "/" + name, key: name, method: method, path: c.c.Mount + "/" + path}
}

// Read returns what the server says of a key.
func (c *Client) Read(ctx context.Context, name string) (Info, error) {
	var info Info
	if !keyName.MatchString(name) {
		return info, fmt.Errorf("cannot read the Vault key %.60q: no key has such a name", name)
	}
	err := c.call(ctx, c.keyRequest(name, "GET", "keys/"+name), &info)
	return info, err
}

// Public returns the public key of a version of a key that can sign for a validator.
func (c *Client) Public(ctx context.Context, name string, version int) (pubkey.Key, error) {
	info, err := c.Read(ctx, name)
	if err != nil {
		return pubkey.Key{}, err
	}
	return c.publicOf(info, name, version)
}

func (c *Client) publicOf(info Info, name string, version int) (pubkey.Key, error) {
	r := c.keyRequest(name, "", "")
	switch {
	case info.Type != string(pubkey.Ed25519):
		return pubkey.Key{}, c.fail(r, wrongType, fmt.Sprintf("its type is %.40q, not ed25519", info.Type))
	case info.Derived:
		return pubkey.Key{}, c.fail(r, wrongType, "it is derived, so that it has no public key")
	case version > info.LatestVersion:
		return pubkey.Key{}, c.fail(r, tooNew, fmt.Sprintf("the latest version is %d, and %d is pinned", info.LatestVersion, version))
	case version < info.MinDecryptionVersion || version < info.MinEncryptionVersion:
		return pubkey.Key{}, c.fail(r, tooOld, "")
	}
	var entry struct {
		PublicKey []byte `json:"public_key"`
	}
	if json.Unmarshal(info.Keys[strconv.Itoa(version)], &entry) != nil {
		return pubkey.Key{}, c.fail(r, malformed, fmt.Sprintf("it has no public key of version %d", version))
	}
	key, err := pubkey.New(pubkey.Ed25519, entry.PublicKey)
	if err != nil {
		return pubkey.Key{}, c.fail(r, malformed, err.Error())
	}
	return key, nil
}

// Generate has the server make a key, and returns the public key of its version 1. The
// secret can neither be exported nor backed up in the clear.
func (c *Client) Generate(ctx context.Context, name string) (pubkey.Key, error) {
	if err := c.Absent(ctx, name); err != nil {
		return pubkey.Key{}, err
	}
	r := c.keyRequest(name, "POST", "keys/"+name)
	r.body = map[string]any{"type": "ed25519", "derived": false, "exportable": false, "allow_plaintext_backup": false}
	r.patience = adminPatience
	if err := c.call(ctx, r, nil); err != nil {
		return pubkey.Key{}, err
	}
	return c.Public(ctx, name, 1)
}

// Absent fails if there is a key of that name, or if our token may not know: asked to
// make one that is there, the server would say that all is well.
func (c *Client) Absent(ctx context.Context, name string) error {
	_, err := c.Read(ctx, name)
	var failed *Error
	switch {
	case err == nil:
		return c.fail(c.keyRequest(name, "", ""), keyExists, "")
	case errors.As(err, &failed) && failed.reason == noKey:
		return nil
	}
	return err
}

// Import hands a key to the server, encrypted under the wrapping key of its transit
// engine. It becomes version 1, can neither be exported nor rotated, and its public key
// is read back.
func (c *Client) Import(ctx context.Context, name string, secret ed25519.PrivateKey) error {
	if err := c.Absent(ctx, name); err != nil {
		return err
	}
	to, err := c.wrappingKey(ctx)
	if err != nil {
		return err
	}
	plain, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		return fmt.Errorf("cannot encode the key for the server: %w", err)
	}
	defer clear(plain)
	wrapped, err := wrapKey(to, plain)
	if err != nil {
		return err
	}
	r := c.keyRequest(name, "POST", "keys/"+name+"/import")
	r.body = map[string]any{"ciphertext": base64.StdEncoding.EncodeToString(wrapped), "hash_function": "SHA256", "type": "ed25519",
		"allow_rotation": false, "exportable": false, "allow_plaintext_backup": false}
	r.patience = adminPatience
	if err := c.call(ctx, r, nil); err != nil {
		return err
	}
	want, err := pubkey.New(pubkey.Ed25519, secret[ed25519.SeedSize:])
	if err != nil {
		return err
	}
	there, err := c.Public(ctx, name, 1)
	if err == nil && !there.Equal(want) {
		err = c.wrongKey(r, 1, there, want)
	}
	return err
}

// wrappingKey returns the key that a key is encrypted under on its way to the server.
func (c *Client) wrappingKey(ctx context.Context) (*rsa.PublicKey, error) {
	var answer struct {
		PublicKey string `json:"public_key"`
	}
	r := request{what: "wrapping key of " + c.c.Mount, method: "GET", path: c.c.Mount + "/wrapping_key", patience: adminPatience}
	if err := c.call(ctx, r, &answer); err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(answer.PublicKey))
	if block == nil {
		return nil, c.fail(r, malformed, "it is not PEM")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	public, ok := key.(*rsa.PublicKey)
	if err != nil || !ok || public.N.BitLen() != 4096 {
		return nil, c.fail(r, malformed, "it is not an RSA key of 4096 bits")
	}
	return public, nil
}
