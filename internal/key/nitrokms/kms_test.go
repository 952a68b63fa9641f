package nitrokms

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"privyseal/internal/claims"
	"privyseal/internal/key/nitrokms/kmstest"
	"privyseal/internal/secret"
)

const (
	keyARN     = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	serverName = "kms.eu-west-1.amazonaws.com"
)

var (
	creds = secret.AWS{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: secret.New("very-secret-key"), SessionToken: secret.New("very-secret-session-token")}
	// epoch is when the clock of a synctest bubble begins.
	epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
)

// authority is a root with a certificate for a name.
type authority struct {
	pool *x509.CertPool
	cert tls.Certificate
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: epoch.Add(-time.Hour), NotAfter: epoch.AddDate(100, 0, 0),
		DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	return &authority{pool: pool, cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}
}

// fakeKMS is a KMS in memory. Its ciphertexts are a byte that is in no text, as
// in real ones, and what they encrypt, with the context, in JSON. An attestation
// document is the public key itself, and damaged if that is none.
type fakeKMS struct {
	t    testing.TB
	ca   *authority
	mu   sync.Mutex
	seen []*http.Request // bodies replaced by what was read
	// answer, if set, is what is sent instead, as it is.
	answer func(op string) string
	// change, if set, changes an answer before it is encoded.
	change func(op string, answer map[string]any)
}

type fakeBlob struct {
	Plain   []byte
	Context map[string]string
}

func (b fakeBlob) encode(t testing.TB) []byte {
	t.Helper()
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte{1}, text...)
}

func newFakeKMS(t testing.TB) *fakeKMS { return &fakeKMS{t: t, ca: newAuthority(t, serverName)} }

func (f *fakeKMS) dial(context.Context) (net.Conn, error) { return f.loopback(f.serve) }

// loopback returns a connection whose other end a function has.
func (f *fakeKMS) loopback(serve func(net.Conn)) (net.Conn, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	ours, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	theirs, err := l.Accept()
	if err != nil {
		return nil, err
	}
	go serve(theirs)
	return ours, nil
}

// pipe is for tests in a synctest bubble. It has no buffers, so that both ends
// of a failed handshake would wait for each other.
func (f *fakeKMS) pipe(c *Config) {
	c.Dial = func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go f.serve(theirs)
		return ours, nil
	}
}

func (f *fakeKMS) serve(raw net.Conn) {
	conn := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{f.ca.cert}, Time: func() time.Time { return epoch }})
	defer raw.Close()
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return // the client went away, or did not trust us
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	f.mu.Lock()
	f.seen = append(f.seen, req)
	f.mu.Unlock()
	op := strings.TrimPrefix(req.Header.Get("X-Amz-Target"), "TrentService.")
	if f.answer != nil {
		io.WriteString(conn, f.answer(op))
	} else {
		answer, status := f.do(op, body), 200
		if answer["__type"] != nil {
			status = 400
		}
		out, err := json.Marshal(answer)
		if err != nil {
			f.t.Error(err)
		}
		fmt.Fprintf(conn, "HTTP/1.1 %d X\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: %d\r\n\r\n%s", status, len(out), out)
	}
	conn.Close()
}

// requests returns what was asked so far.
func (f *fakeKMS) requests() []*http.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.seen)
}

func (f *fakeKMS) do(op string, body []byte) map[string]any {
	var req struct {
		KeyId             string
		KeySpec           string
		CiphertextBlob    []byte
		EncryptionContext map[string]string
		Recipient         struct {
			AttestationDocument    []byte
			KeyEncryptionAlgorithm string
		}
	}
	if err := json.Unmarshal(body, &req); err != nil || req.KeyId != keyARN || req.Recipient.KeyEncryptionAlgorithm != "RSAES_OAEP_SHA_256" {
		f.t.Errorf("bad request %s: %v", body, err)
	}
	if public, err := x509.ParsePKIXPublicKey(req.Recipient.AttestationDocument); err != nil || public.(*rsa.PublicKey).E != 65537 {
		return map[string]any{"__type": "ValidationException", "message": "Attestation document: its signature is wrong"}
	}
	answer := map[string]any{"KeyId": keyARN, "KeyMaterialId": "new field"}
	var blob fakeBlob
	if op == "GenerateDataKey" {
		blob = fakeBlob{Plain: make([]byte, 32), Context: req.EncryptionContext}
		rand.Read(blob.Plain)
		if req.KeySpec != "AES_256" {
			f.t.Errorf("bad request %s", body)
		}
		answer["CiphertextBlob"] = blob.encode(f.t)
	} else if err := json.Unmarshal(bytes.TrimPrefix(req.CiphertextBlob, []byte{1}), &blob); err != nil || !maps.Equal(blob.Context, req.EncryptionContext) {
		return map[string]any{"__type": "InvalidCiphertextException"}
	}
	sealed, err := kmstest.Seal(req.Recipient.AttestationDocument, blob.Plain)
	if err != nil {
		f.t.Error(err)
	}
	answer["CiphertextForRecipient"] = sealed
	if f.change != nil {
		f.change(op, answer)
	}
	return answer
}

// ciphertext is what `aws kms encrypt` would print.
func ciphertext(t testing.TB, plain []byte) []byte {
	t.Helper()
	return fakeBlob{Plain: plain}.encode(t)
}

// client returns a client of f whose RSA key is shared by all tests.
func (f *fakeKMS) client(change ...func(*Config)) *Client {
	f.t.Helper()
	c := Config{KeyARN: keyARN, ServerName: serverName, Roots: f.ca.pool, Dial: f.dial,
		Attest: func(public []byte) ([]byte, error) { return public, nil },
		Now:    func() time.Time { return epoch }}
	for _, ch := range change {
		ch(&c)
	}
	k, err := newClient(c, sharedRecipient)
	if err != nil {
		f.t.Fatal(err)
	}
	return k
}

func testSecret() secret.Key {
	return secret.Key{ChainID: "test-1", KeyType: "ed25519", Public: bytes.Repeat([]byte{2}, 32), Secret: secret.NewBytes(bytes.Repeat([]byte{3}, 32)),
		Origin: claims.Generated, Created: time.Unix(1700000000, 0).UTC()}
}

func TestNew(t *testing.T) {
	f := newFakeKMS(t)
	good := f.client().c
	k, err := New(good)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.Decrypt(t.Context(), creds, ciphertext(t, []byte("x"))); err != nil || string(got) != "x" {
		t.Errorf("with a key of its own: %q, %v", got, err)
	}
	for name, change := range map[string]func(*Config){
		"no key":         func(c *Config) { c.KeyARN = "" },
		"alias":          func(c *Config) { c.KeyARN = "arn:aws:kms:eu-west-1:111122223333:alias/x" },
		"key id":         func(c *Config) { c.KeyARN = "1234abcd-12ab-34cd-56ef-1234567890ab" },
		"other service":  func(c *Config) { c.KeyARN = strings.Replace(keyARN, ":kms:", ":s3:", 1) },
		"no region":      func(c *Config) { c.KeyARN = strings.Replace(keyARN, "eu-west-1", "", 1) },
		"no server name": func(c *Config) { c.ServerName = "" },
		"no roots":       func(c *Config) { c.Roots = nil },
		"no dialler":     func(c *Config) { c.Dial = nil },
		"no attester":    func(c *Config) { c.Attest = nil },
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: a client", name)
		}
	}
}

// What goes over the wire: the call, signed, with the document, and the
// encryption context of chain and public key.
func TestRequests(t *testing.T) {
	f := newFakeKMS(t)
	k := f.client()
	wrapped, err := k.Wrap(t.Context(), creds, testSecret())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Unwrap(t.Context(), creds, wrapped); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Decrypt(t.Context(), secret.AWS{AccessKeyID: "AKID", SecretAccessKey: secret.New("x")}, ciphertext(t, []byte("x"))); err != nil {
		t.Fatal(err)
	}
	for i, op := range []string{"GenerateDataKey", "Decrypt", "Decrypt"} {
		req := f.requests()[i]
		h := req.Header
		signed := "content-type;host;x-amz-date;x-amz-security-token;x-amz-target"
		if i == 2 {
			signed = "content-type;host;x-amz-date;x-amz-target"
		}
		if req.Method != "POST" || req.RequestURI != "/" || req.Host != serverName || h.Get("X-Amz-Target") != "TrentService."+op ||
			h.Get("Content-Type") != "application/x-amz-json-1.1" || h.Get("X-Amz-Date") != "20000101T000000Z" ||
			!strings.Contains(h.Get("Authorization"), "/20000101/eu-west-1/kms/aws4_request, SignedHeaders="+signed+", Signature=") {
			t.Errorf("%s: %s %s %s %v", op, req.Method, req.RequestURI, req.Host, h)
		}
		if (h.Get("X-Amz-Security-Token") == creds.SessionToken.Reveal()) != (i < 2) {
			t.Errorf("%s: token %q", op, h.Get("X-Amz-Security-Token"))
		}
		body, _ := io.ReadAll(req.Body)
		context := `"EncryptionContext":{"privyseal-chain":"test-1","privyseal-public-key":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI="}`
		if bytes.Contains(body, []byte(context)) != (i < 2) || bytes.Contains(body, []byte("EncryptionContext")) != (i < 2) {
			t.Errorf("%s: %s", op, body)
		}
	}
}

func TestEncryptionContext(t *testing.T) {
	if c := EncryptionContext("", []byte{1}); len(c) != 1 || c["privyseal-public-key"] != "AQ==" {
		t.Errorf("of an identity: %v", c)
	}
	long := EncryptionContext("c", make([]byte, 1952))["privyseal-public-key"]
	if len(long) != 7+64 || !strings.HasPrefix(long, "sha256:") {
		t.Errorf("of a long key: %v", long)
	}
}

// How KMS's refusals reach an operator.
func TestRefusals(t *testing.T) {
	f := newFakeKMS(t)
	k := f.client()
	wrapped := goodWrapped(t, f)
	for _, test := range []struct {
		status       int
		code         string
		message      string
		want         error
		wantsMessage bool
	}{
		{400, "AccessDeniedException", "User: arn:aws:sts::1:assumed-role/x is not authorized", errDenied, true},
		{400, "InvalidCiphertextException", "", errCiphertext, false},
		{400, "IncorrectKeyException", "The key ID in the request does not identify a CMK", errOtherKey, true},
		{400, "NotFoundException", "Key does not exist", errNotFound, true},
		{400, "DisabledException", "is disabled", errDisabled, true},
		{400, "KMSInvalidStateException", "is pending deletion.", errDisabled, true},
		{400, "InvalidKeyUsageException", "key usage is SIGN_VERIFY", errKeyUsage, true},
		{400, "UnrecognizedClientException", "The security token included in the request is invalid.", errCredentials, false},
		{400, "InvalidSignatureException", "The request signature we calculated does not match ... x-amz-security-token:very-secret-session-token", errCredentials, false},
		{400, "InvalidSignatureException", "Signature expired: 20000101T000000Z is now earlier than 20000101T001000Z", errClock, true},
		{400, "InvalidSignatureException", "Signature not yet current: 2000", errClock, true},
		{400, "ExpiredTokenException", "The security token included in the request is expired", errExpired, true},
		{400, "com.amazonaws.kms#AccessDeniedException", "no", errDenied, true},
		{400, "AccessDeniedException:http://internal.amazon.com/coral/", "no", errDenied, true},
		{400, "ValidationException", "Invalid attestation document", errRequest, true},
		{400, "SomethingNew", "very-secret-session-token is wrong", errRequest, false},
		{400, "", "", errRequest, false},
	} {
		f.answer = func(string) string {
			body, err := json.Marshal(map[string]string{"__type": test.code, "message": test.message})
			if err != nil {
				t.Error(err)
			}
			return fmt.Sprintf("HTTP/1.1 %d X\r\nx-amzn-RequestId: 42-aa\r\nContent-Length: %d\r\n\r\n%s", test.status, len(body), body)
		}
		_, err := k.Unwrap(t.Context(), creds, wrapped)
		var e *Error
		if !errors.Is(err, test.want) || !errors.As(err, &e) || e.Op != "Decrypt" || e.RequestID != "42-aa" || e.Temporary() {
			t.Errorf("%s: %v", test.code, err)
			continue
		}
		if e.Cure() == "" || (e.Message != "") != test.wantsMessage {
			t.Errorf("%s: message %q, cure %q", test.code, e.Message, e.Cure())
		}
		if strings.Contains(err.Error(), "very-secret") {
			t.Errorf("%s: a secret in %v", test.code, err)
		}
	}
}

// goodWrapped is wrapped by the same KMS before it turned bad.
func goodWrapped(t testing.TB, f *fakeKMS) []byte {
	t.Helper()
	good := &fakeKMS{t: t, ca: f.ca}
	wrapped, err := good.client().Wrap(t.Context(), creds, testSecret())
	if err != nil {
		t.Fatal(err)
	}
	return wrapped
}

// What may pass is tried three times, with pauses; what helps nothing is not.
func TestRetries(t *testing.T) {
	if _, err := sharedRecipient(); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		answer string
		want   error
		tries  int
		takes  time.Duration
	}{
		{`500 {"__type":"KMSInternalException"}`, errUnavailable, 3, 1200 * time.Millisecond},
		{`400 {"__type":"ThrottlingException","message":"Rate exceeded"}`, errBusy, 3, 1200 * time.Millisecond},
		{`429 {}`, errBusy, 3, 1200 * time.Millisecond},
		{`503 <html>gateway</html>`, errUnavailable, 3, 1200 * time.Millisecond},
		{`400 {"__type":"AccessDeniedException"}`, errDenied, 1, 0},
		{`301 moved`, errRequest, 1, 0},
		{"hang", errConnect, 3, 31200 * time.Millisecond},
		{"", errAnswer, 1, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeKMS(t)
			f.answer = func(string) string {
				status, body, _ := strings.Cut(test.answer, " ")
				switch status {
				case "":
					return "HTTP/1.1 200 OK\r\n"
				case "hang":
					time.Sleep(time.Hour)
				}
				return fmt.Sprintf("HTTP/1.1 %s X\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
			}
			k := f.client(f.pipe)
			start := time.Now()
			_, err := k.Decrypt(t.Context(), creds, ciphertext(t, []byte("x")))
			if !errors.Is(err, test.want) || len(f.requests()) != test.tries || time.Since(start) != test.takes {
				t.Errorf("%s: %v after %d tries and %s", test.answer, err, len(f.requests()), time.Since(start))
			}
			time.Sleep(2 * time.Hour) // lets those who hang go
		})
	}
}

// A caller that gives up ends the call at once.
func TestCancelled(t *testing.T) {
	if _, err := sharedRecipient(); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFakeKMS(t)
		f.answer = func(string) string { time.Sleep(time.Hour); return "" }
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		_, err := f.client(f.pipe).Decrypt(ctx, creds, ciphertext(t, []byte("x")))
		if !errors.Is(err, errConnect) || time.Since(start) != 3*time.Second {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		time.Sleep(2 * time.Hour)
	})
}

// Whoever sits in the middle, with a certificate of his own or none, gets
// nothing: not even the request.
func TestManInTheMiddle(t *testing.T) {
	f := newFakeKMS(t)
	other := newAuthority(t, serverName)
	for name, change := range map[string]func(*Config){
		"another root": func(c *Config) { c.Roots = other.pool },
		"another name": func(c *Config) { c.ServerName = "kms.us-east-1.amazonaws.com" },
		"no root":      func(c *Config) { c.Roots = x509.NewCertPool() },
		"expired":      func(c *Config) { c.Now = func() time.Time { return epoch.AddDate(200, 0, 0) } },
		"no TLS": func(c *Config) {
			c.Dial = func(context.Context) (net.Conn, error) {
				return f.loopback(func(conn net.Conn) {
					go io.Copy(io.Discard, conn)
					io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
				})
			}
		},
		"TLS 1.1": func(c *Config) {
			c.Dial = func(context.Context) (net.Conn, error) {
				return f.loopback(func(conn net.Conn) {
					tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{f.ca.cert}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}).Handshake()
				})
			}
		},
	} {
		_, err := f.client(change).Decrypt(t.Context(), creds, ciphertext(t, []byte("x")))
		var e *Error
		if !errors.Is(err, errTLS) || !errors.As(err, &e) || e.Temporary() {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(f.requests()) != 0 {
		t.Errorf("the man in the middle saw %d requests", len(f.requests()))
	}
}

func TestUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeKMS(t)
		dials := 0
		k := f.client(func(c *Config) {
			c.Dial = func(context.Context) (net.Conn, error) { dials++; return nil, errors.New("connection refused") }
		})
		_, err := k.Decrypt(t.Context(), creds, ciphertext(t, []byte("x")))
		if !errors.Is(err, errConnect) || dials != 3 || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("%v after %d dials", err, dials)
		}
	})
}

func TestNoCredentials(t *testing.T) {
	f := newFakeKMS(t)
	for name, c := range map[string]secret.AWS{
		"none":      {},
		"no secret": {AccessKeyID: "AKID"},
		"newline":   {AccessKeyID: "AKID\r\nx: y", SecretAccessKey: secret.New("x")},
		"token":     {AccessKeyID: "AKID", SecretAccessKey: secret.New("x"), SessionToken: secret.New("a\nb")},
	} {
		if _, err := f.client().Decrypt(t.Context(), c, []byte("x")); !errors.Is(err, errCredentials) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(f.requests()) != 0 {
		t.Error("called KMS without credentials")
	}
}

func TestAttestationFails(t *testing.T) {
	broken := errors.New("no module")
	k := newFakeKMS(t).client(func(c *Config) { c.Attest = func([]byte) ([]byte, error) { return nil, broken } })
	if _, err := k.Wrap(t.Context(), creds, testSecret()); !errors.Is(err, broken) {
		t.Error(err)
	}
}

// Wrong answers of something that has KMS's certificate.
func TestWrongAnswers(t *testing.T) {
	f := newFakeKMS(t)
	wrapped := goodWrapped(t, f)
	seal := func(n int) []byte {
		b, err := kmstest.Seal(recipient(t).PublicKey(), make([]byte, n))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, change := range map[string]func(string, map[string]any){
		"another key":         func(_ string, a map[string]any) { a["KeyId"] = strings.Replace(keyARN, "1234abcd", "00000000", 1) },
		"no key":              func(_ string, a map[string]any) { delete(a, "KeyId") },
		"key in clear":        func(_ string, a map[string]any) { a["Plaintext"] = make([]byte, 32) },
		"no envelope":         func(_ string, a map[string]any) { delete(a, "CiphertextForRecipient") },
		"envelope of rubbish": func(_ string, a map[string]any) { a["CiphertextForRecipient"] = make([]byte, 493) },
		"number":              func(_ string, a map[string]any) { a["CiphertextForRecipient"] = 5 },
	} {
		f.change = change
		if _, err := f.client().Unwrap(t.Context(), creds, wrapped); !errors.Is(err, errAnswer) {
			t.Errorf("%s to Decrypt: %v", name, err)
		}
		if _, err := f.client().Wrap(t.Context(), creds, testSecret()); !errors.Is(err, errAnswer) {
			t.Errorf("%s to GenerateDataKey: %v", name, err)
		}
	}
	for name, change := range map[string]func(string, map[string]any){
		"short key":       func(_ string, a map[string]any) { a["CiphertextForRecipient"] = seal(16) },
		"no ciphertext":   func(_ string, a map[string]any) { delete(a, "CiphertextBlob") },
		"long ciphertext": func(_ string, a map[string]any) { a["CiphertextBlob"] = make([]byte, maxCiphertext+1) },
	} {
		f.change = change
		if _, err := f.client().Wrap(t.Context(), creds, testSecret()); !errors.Is(err, errAnswer) {
			t.Errorf("%s to GenerateDataKey: %v", name, err)
		}
	}
	for name, n := range map[string]int{"short key": 16, "another key": 32} {
		f.change = func(_ string, a map[string]any) { a["CiphertextForRecipient"] = seal(n) }
		if _, err := f.client().Unwrap(t.Context(), creds, wrapped); !errors.Is(err, errWrapped) {
			t.Errorf("%s to Decrypt: %v", name, err)
		}
	}
	f.answer = func(string) string { return "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull" }
	if _, err := f.client().Unwrap(t.Context(), creds, wrapped); !errors.Is(err, errAnswer) {
		t.Errorf("null: %v", err)
	}
	f.answer = func(string) string { return "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello" }
	if _, err := f.client().Unwrap(t.Context(), creds, wrapped); !errors.Is(err, errAnswer) {
		t.Errorf("no JSON: %v", err)
	}
}

// Ciphertexts of `aws kms encrypt` and of tmkms-light, in the forms in which
// people have them.
func TestDecrypt(t *testing.T) {
	f := newFakeKMS(t)
	seed := bytes.Repeat([]byte{9}, 32)
	blob := ciphertext(t, seed)
	text := base64.StdEncoding.EncodeToString(blob)
	for name, file := range map[string][]byte{
		"raw":             blob,
		"base64":          []byte(text),
		"base64, newline": []byte(text + "\n"),
		"base64, lines":   []byte(text[:20] + "\r\n" + text[20:] + "\r\n"),
		"JSON":            []byte(`{"CiphertextBlob": "` + text + `", "KeyId": "` + keyARN + `", "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}` + "\n"),
	} {
		if got, err := f.client().Decrypt(t.Context(), creds, file); err != nil || !bytes.Equal(got, seed) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
	for name, file := range map[string][]byte{
		"nothing":       nil,
		"spaces":        []byte("  \n"),
		"other JSON":    []byte(`{"CiphertextBlob": 5}`),
		"empty JSON":    []byte(`{}`),
		"too long":      append([]byte{1}, make([]byte, maxCiphertext)...),
		"huge":          make([]byte, maxFile+1),
		"a wrapped key": goodWrapped(t, f),
	} {
		if got, err := f.client().Decrypt(t.Context(), creds, file); err == nil || !strings.HasPrefix(err.Error(), "cannot read the ciphertext: ") {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
}
