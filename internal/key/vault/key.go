package vault

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"privyseal/internal/pubkey"
)

// Key is one version of a key on a server. It is a [crypto.Signer] whose public key is
// a [pubkey.Key], and safe for concurrent use.
type Key struct {
	client  *Client
	name    string
	version int
	public  pubkey.Key
	verify  func(message, signature []byte) bool
	record  *record
}

// Open returns the key of a reference. It becomes the owner of a new client. It does not
// wait for the server: one that is sealed or not there yet makes Sign fail, until it is
// back. The secret of our login has to be there.
func Open(c Config, r Reference) (*Key, error) {
	switch {
	case !keyName.MatchString(r.Name):
		return nil, fmt.Errorf("cannot use the Vault key %.60q: no key has such a name", r.Name)
	case r.Version < 1:
		return nil, errors.New("cannot use the Vault key: its version has to be pinned, and the first is 1")
	case r.Public.Type() != pubkey.Ed25519:
		return nil, fmt.Errorf("cannot use the Vault key: it signs with ed25519, and the public key is of type %q", r.Public.Type())
	}
	client, err := New(c)
	if err != nil {
		return nil, err
	}
	if _, err := client.secret(); err != nil {
		return nil, err
	}
	client.kept = make(chan struct{})
	go client.keep()
	return client.key(r.Name, r.Version, r.Public), nil
}

func (c *Client) key(name string, version int, public pubkey.Key) *Key {
	return &Key{client: c, name: name, version: version, public: public, verify: public.Verifier(),
		record: &record{Status: Status{Address: c.base.Scheme + "://" + c.base.Host, Since: time.Now()}}}
}

// Public returns the public key, a [pubkey.Key].
func (k *Key) Public() crypto.PublicKey { return k.public }

// PublicKey returns the public key.
func (k *Key) PublicKey() pubkey.Key { return k.public }

// Close ends the session in this process. A Sign that is under way fails.
func (k *Key) Close() error { return k.client.Close() }

// Status returns how the server does. It does not ask it.
func (k *Key) Status() Status { return k.record.now() }

// String returns type and address.
func (k *Key) String() string { return "Vault key " + k.public.String() }

// Format prints what String returns, whatever the verb.
func (k *Key) Format(f fmt.State, _ rune) { io.WriteString(f, k.String()) }

// LogValue is what slog logs: what String returns.
func (k *Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// signRequest signs the message itself, not a digest of it (RFC 8032, PureEdDSA).
type signRequest struct {
	Input      []byte `json:"input"`
	KeyVersion int    `json:"key_version"`
}

// Sign has the server sign the whole message and returns the 64 bytes of the signature,
// which verifies under the public key. rand is not used; opts must be nil or
// crypto.Hash(0). An error of the server is an *[Error].
func (k *Key) Sign(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts != nil && opts != crypto.Hash(0) {
		return nil, errors.New("cannot sign: a Vault key takes the whole message, and no options")
	}
	began := time.Now()
	signature, err := k.sign(k.client.ctx, message)
	if k.client.ctx.Err() == nil {
		k.record.note(time.Since(began), err)
	}
	return signature, err
}

func (k *Key) sign(ctx context.Context, message []byte) ([]byte, error) {
	c := k.client
	r := c.keyRequest(k.name, "POST", "sign/"+k.name)
	r.body = signRequest{Input: append([]byte{}, message...), KeyVersion: k.version}
	var answer signAnswer
	if err := c.call(ctx, r, &answer); err != nil {
		return nil, err
	}
	signature, err := answer.signature(k.version)
	if err != nil {
		return nil, c.fail(r, malformed, err.Error())
	}
	if !k.verify(message, signature) {
		return nil, k.explain(ctx, r)
	}
	return signature, nil
}

// explain says why a signature does not verify: another key in place of ours, or a
// server that computes wrongly.
func (k *Key) explain(ctx context.Context, r request) error {
	there, err := k.client.Public(ctx, k.name, k.version)
	switch {
	case err != nil:
		return k.client.fail(r, badSignature, "")
	case !there.Equal(k.public):
		return k.client.wrongKey(r, k.version, there, k.public)
	}
	return k.client.fail(r, badSignature, "")
}
