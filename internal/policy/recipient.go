package policy

import (
	"crypto/ecdh"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// Recipient is who can open backups: a recovery key's public half, one of both.
type Recipient struct {
	X25519 *ecdh.PublicKey
	RSA    *rsa.PublicKey
}

// hpkePrefix stands before the base64 of an X25519 key.
const hpkePrefix = "hpke-x25519:"

// The sizes of RSA moduli in bits: those that cloud HSMs hold.
const minRSA, maxRSA = 2048, 4096

// ParseRecipient reads the public half of a recovery key: hpke-x25519: and standard base64 of
// 32 bytes, for HPKE of RFC 9180, or an RSA key of 2048 to 4096 bits with the exponent 65537
// in PEM, in the form of PKIX.
func ParseRecipient(text string) (Recipient, error) {
	if text == "" {
		return Recipient{}, errors.New("it is missing: without a backup a key is lost with its CPU; `privyseal sgx recovery-key` makes one")
	}
	if rest, ok := strings.CutPrefix(text, hpkePrefix); ok {
		key, err := parseX25519(rest)
		return Recipient{X25519: key}, err
	}
	if strings.HasPrefix(text, "-----BEGIN ") {
		key, err := parseRSA(text)
		return Recipient{RSA: key}, err
	}
	return Recipient{}, fmt.Errorf("%.40q is neither %sBASE64 nor an RSA public key in PEM", text, hpkePrefix)
}

func parseX25519(text string) (*ecdh.PublicKey, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != 32 || base64.StdEncoding.EncodeToString(raw) != text {
		return nil, fmt.Errorf("%.80q is not standard base64 of 32 bytes", text)
	}
	key, err := ecdh.X25519().NewPublicKey(raw)
	if err != nil {
		return nil, err
	}
	// A point of small order makes one secret with every key, which everybody knows.
	any, err := ecdh.X25519().NewPrivateKey([]byte("a scalar to multiply a point by."))
	if err != nil {
		return nil, err
	}
	if _, err := any.ECDH(key); err != nil {
		return nil, fmt.Errorf("%.80q is a point of small order, to which nothing can be encrypted", text)
	}
	return key, nil
}

func parseRSA(text string) (*rsa.PublicKey, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "PUBLIC KEY" || len(block.Headers) > 0 || strings.TrimSpace(string(rest)) != "" {
		return nil, errors.New("it is not one PUBLIC KEY in PEM and nothing else, as `openssl pkey -pubout` prints it")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("it is not a public key: %w", err)
	}
	key, ok := parsed.(*rsa.PublicKey)
	switch {
	case !ok:
		return nil, errors.New("it is a public key that is not of RSA")
	case key.N.BitLen() < minRSA || key.N.BitLen() > maxRSA:
		return nil, fmt.Errorf("its modulus has %d bits, not %d to %d", key.N.BitLen(), minRSA, maxRSA)
	case key.E != 65537:
		return nil, fmt.Errorf("its exponent is %d, not 65537", key.E)
	}
	return key, nil
}

// Recipient returns who can open the backups of an enclave with this policy, which is one of
// SGX.
func (p *Policy) Recipient() Recipient {
	r, _ := ParseRecipient(p.RecoveryKey) // check has parsed it
	return r
}

// Kind returns how a backup is encrypted to the recipient: "hpke-x25519" or "rsa-oaep-256".
func (r Recipient) Kind() string {
	switch {
	case r.X25519 != nil:
		return "hpke-x25519"
	case r.RSA != nil:
		return "rsa-oaep-256"
	}
	return ""
}

// ID names the recipient in backups and documents: its kind, a colon, and the first 16 bytes
// of SHA-256, URL-safe base64, of its 32 bytes or its PKIX form.
func (r Recipient) ID() string {
	var raw []byte
	switch {
	case r.X25519 != nil:
		raw = r.X25519.Bytes()
	case r.RSA != nil:
		raw, _ = x509.MarshalPKIXPublicKey(r.RSA) // no error for RSA
	default:
		return ""
	}
	sum := sha256.Sum256(raw)
	return r.Kind() + ":" + base64.RawURLEncoding.EncodeToString(sum[:16])
}
