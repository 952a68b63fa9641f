package nitrokms

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"privyseal/internal/awsjson"
	"privyseal/internal/secret"
	"privyseal/internal/strictjson"
)

const (
	// attemptTimeout bounds one attempt: connection, handshake and answer.
	attemptTimeout = 10 * time.Second
	maxCiphertext  = 6144 // bytes of a CiphertextBlob, of KMS
	maxARN         = 256  // bytes of a key's name, ours
)

// pauses are the waits before the second and the third attempt.
var pauses = [...]time.Duration{200 * time.Millisecond, time.Second}

// Config is what a client needs. All fields but Now are required.
type Config struct {
	// KeyARN is the only key that is used: arn:PARTITION:kms:REGION:ACCOUNT:key/ID.
	KeyARN string
	// ServerName is in KMS's certificate, and goes into the Host header.
	ServerName string
	// Roots are the only ones that KMS's certificate may lead to.
	Roots *x509.CertPool
	// Dial connects to KMS. Whoever carries the bytes need not be trusted.
	Dial func(ctx context.Context) (net.Conn, error)
	// Attest returns an attestation document with this public_key, fresh:
	// KMS takes it for five minutes.
	Attest func(publicKey []byte) ([]byte, error)
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Client calls KMS. It is safe for concurrent use.
type Client struct {
	c         Config
	region    string
	recipient func() (*Recipient, error)
	ear       *ear // of a sample, or nil
}

// New returns a client. It makes the RSA key of this boot in the background,
// which takes a second on a slow machine, and connects to nothing yet.
func New(c Config) (*Client, error) {
	recipient := sync.OnceValues(NewRecipient)
	k, err := newClient(c, recipient)
	if err == nil {
		go recipient()
	}
	return k, err
}

func newClient(c Config, recipient func() (*Recipient, error)) (*Client, error) {
	part := strings.Split(c.KeyARN, ":")
	if len(part) != 6 || part[0] != "arn" || part[2] != "kms" || part[3] == "" || !strings.HasPrefix(part[5], "key/") || len(c.KeyARN) > maxARN {
		return nil, fmt.Errorf("cannot use the KMS key %.100q: it has to be the ARN of a key, not of an alias", c.KeyARN)
	}
	// A nil pool would mean the system's roots.
	if c.ServerName == "" || c.Roots == nil || c.Dial == nil || c.Attest == nil {
		return nil, errors.New("cannot call KMS: server name, roots, dialler or attester are missing")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Client{c: c, region: part[3], recipient: recipient}, nil
}

// Shapes of the KMS API (TrentService, JSON 1.1). Fields of an answer that are
// not here are ignored: AWS adds some.
type (
	recipientInfo struct {
		AttestationDocument    []byte
		KeyEncryptionAlgorithm string
	}
	dataKeyRequest struct {
		KeyId             string
		KeySpec           string
		EncryptionContext map[string]string
		Recipient         recipientInfo
	}
	decryptRequest struct {
		KeyId               string
		CiphertextBlob      []byte
		EncryptionContext   map[string]string `json:",omitempty"`
		EncryptionAlgorithm string
		Recipient           recipientInfo
	}
	recipientAnswer struct {
		KeyId                  string
		CiphertextBlob         []byte
		CiphertextForRecipient []byte
		Plaintext              []byte
	}
)

// generateDataKey returns a new key of 32 bytes, and the same encrypted under
// the KMS key.
func (k *Client) generateDataKey(ctx context.Context, c secret.AWS, encryptionContext map[string]string) (plain, encrypted []byte, err error) {
	const op = "GenerateDataKey"
	plain, a, err := k.attested(ctx, c, op, func(r recipientInfo) any {
		return dataKeyRequest{KeyId: k.c.KeyARN, KeySpec: "AES_256", EncryptionContext: encryptionContext, Recipient: r}
	})
	if err != nil {
		return nil, nil, err
	}
	if len(plain) != 32 || len(a.CiphertextBlob) == 0 || len(a.CiphertextBlob) > maxCiphertext {
		clear(plain)
		return nil, nil, &Error{Op: op, Reason: errAnswer, Message: fmt.Sprintf("a key of %d bytes, encrypted to %d", len(plain), len(a.CiphertextBlob))}
	}
	return plain, a.CiphertextBlob, nil
}

// decrypt returns the plaintext of a ciphertext under the KMS key.
func (k *Client) decrypt(ctx context.Context, c secret.AWS, ciphertext []byte, encryptionContext map[string]string) ([]byte, error) {
	plain, _, err := k.attested(ctx, c, "Decrypt", func(r recipientInfo) any {
		return decryptRequest{KeyId: k.c.KeyARN, CiphertextBlob: ciphertext, EncryptionContext: encryptionContext,
			EncryptionAlgorithm: "SYMMETRIC_DEFAULT", Recipient: r}
	})
	return plain, err
}

// attested makes a call whose answer is for this enclave only, and opens it.
func (k *Client) attested(ctx context.Context, c secret.AWS, op string, request func(recipientInfo) any) ([]byte, *recipientAnswer, error) {
	if !awsjson.Usable(c) {
		return nil, nil, &Error{Op: op, Reason: errCredentials, Message: "there are none, or they are malformed"}
	}
	recipient, err := k.recipient()
	if err != nil {
		return nil, nil, err
	}
	document, err := k.c.Attest(recipient.PublicKey())
	if err != nil {
		return nil, nil, fmt.Errorf("cannot call %s of KMS: %w", op, err)
	}
	body, err := json.Marshal(request(recipientInfo{AttestationDocument: document, KeyEncryptionAlgorithm: "RSAES_OAEP_SHA_256"}))
	if err != nil {
		return nil, nil, fmt.Errorf("cannot encode a request to KMS: %w", err)
	}
	raw, err := k.call(ctx, c, op, body)
	if err != nil {
		return nil, nil, err
	}
	var a recipientAnswer
	if err := strictjson.Unmarshal(raw, &a); err != nil {
		return nil, nil, &Error{Op: op, Reason: errAnswer, Message: "it is not the JSON that was expected"}
	}
	if a.KeyId != k.c.KeyARN {
		return nil, nil, &Error{Op: op, Reason: errAnswer, Message: fmt.Sprintf("it is about the key %q", awsjson.Printable(a.KeyId, maxARN))}
	}
	if len(a.Plaintext) > 0 {
		k.ear.forget()
		return nil, nil, &Error{Op: op, Reason: errAnswer, Message: "it holds the secret in the clear: this KMS ignores attestation"}
	}
	plain, err := recipient.Open(a.CiphertextForRecipient)
	if err != nil {
		return nil, nil, &Error{Op: op, Reason: errAnswer, Message: err.Error()}
	}
	return plain, &a, nil
}

// call sends a request, again if it may help, and returns the body of the
// answer 200.
func (k *Client) call(ctx context.Context, c secret.AWS, op string, body []byte) ([]byte, error) {
	for attempt := 0; ; attempt++ {
		answer, failed := k.attempt(ctx, c, op, body)
		if failed == nil {
			return answer, nil
		}
		if !failed.Temporary() || attempt == len(pauses) {
			return nil, failed
		}
		select {
		case <-ctx.Done():
			return nil, failed
		case <-time.After(pauses[attempt]):
		}
	}
}

func (k *Client) attempt(ctx context.Context, c secret.AWS, op string, body []byte) ([]byte, *Error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	conn, err := k.connect(ctx)
	if err != nil {
		return nil, failure(ctx, op, err)
	}
	// Not the TLS connection's Close, which waits to say goodbye.
	defer conn.NetConn().Close()
	defer context.AfterFunc(ctx, func() { conn.NetConn().Close() })()
	a, err := awsjson.NewConn(k.ear.on(conn)).Do(awsjson.Request{Service: "kms", Region: k.region, Host: k.c.ServerName,
		Type: "application/x-amz-json-1.1", Target: "TrentService." + op, Body: body}, c, k.c.Now())
	switch {
	case err != nil:
		return nil, failure(ctx, op, err)
	case a.Status != 200:
		return nil, refusal(a, op, c)
	}
	return a.Body, nil
}

// connect returns a connection that ends in KMS.
func (k *Client) connect(ctx context.Context) (*tls.Conn, error) {
	raw, err := k.c.Dial(ctx)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, &tls.Config{
		ServerName: k.c.ServerName,
		RootCAs:    k.c.Roots,
		MinVersion: tls.VersionTLS12,
		Time:       k.c.Now,
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	return conn, nil
}
