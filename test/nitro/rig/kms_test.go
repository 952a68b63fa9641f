package rig

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"crypto/tls"
	"io"
	"net/http"
	"privyseal/internal/claims"
	"privyseal/internal/key/nitrokms"
	"privyseal/internal/secret"
)

const (
	testKey    = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
	testServer = "kms.eu-central-1.amazonaws.com"
	testPolicy = `{"Statement": [{"Sid": "signer", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:role/validator"},
		"Action": ["kms:Decrypt", "kms:GenerateDataKey"], "Resource": "*",
		"Condition": {"StringEqualsIgnoreCase": {"kms:RecipientAttestation:PCR0": "%x"}}}]}`
)

var testCredentials = secret.AWS{AccessKeyID: "ASIATEST", SecretAccessKey: secret.New("secret/key+"), SessionToken: secret.New("token==")}

// kmsWorld is a KMS and an enclave's security module, without the enclave.
type kmsWorld struct {
	kms    *KMS
	module *nsmDevice
	client *nitrokms.Client
}

func newKMSWorld(t *testing.T) *kmsWorld {
	t.Helper()
	root := newRoot(t)
	k, err := NewKMS(root, testServer, "eu-central-1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	k.AddPrincipal(testCredentials, testRole)
	pcr0 := pcr{7}
	module, err := newNSM(root, "i-1-enc1", map[int]pcr{0: pcr0, 1: {1}, 2: {2}}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.AddKey(testKey, fmt.Appendf(nil, testPolicy, pcr0)); err != nil {
		t.Fatal(err)
	}
	w := &kmsWorld{kms: k, module: module}
	w.client = w.newClient(t, k.CA())
	return w
}

func (w *kmsWorld) newClient(t *testing.T, ca []byte) *nitrokms.Client {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	c, err := nitrokms.New(nitrokms.Config{
		KeyARN: testKey, ServerName: testServer, Roots: roots, Attest: w.attest,
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", w.kms.Addr())
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (w *kmsWorld) attest(publicKey []byte) ([]byte, error) {
	var answer struct {
		Attestation struct {
			Document []byte `cbor:"document"`
		}
	}
	err := cbor.Unmarshal(w.module.handle(encode(map[string]any{"Attestation": nsmAttestation{PublicKey: publicKey}})), &answer)
	return answer.Attestation.Document, err
}

// The client of the enclave takes this KMS for the real one.
func TestKMS(t *testing.T) {
	w := newKMSWorld(t)
	encryption := map[string]string{"a": "1", "b": "2"}
	blob, err := w.kms.Encrypt(testKey, nil, []byte("a seed"))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := w.client.Decrypt(t.Context(), testCredentials, blob)
	if err != nil || string(plain) != "a seed" {
		t.Fatalf("Decrypt: %q, %v", plain, err)
	}
	calls := w.kms.Calls()
	if len(calls) != 1 {
		t.Fatalf("calls: %+v", calls)
	}
	if c := calls[0]; c.Action != "Decrypt" || c.Principal != testRole || c.Key != testKey || !c.Attested || c.Refused != "" {
		t.Errorf("the call was %+v", c)
	}
	other, err := w.kms.Encrypt(testKey, encryption, []byte("a seed"))
	if err != nil {
		t.Fatal(err)
	}
	refuses(t, w, "with a context that is not there", "InvalidCiphertext", testCredentials, other)
}

// A key is wrapped under GenerateDataKey and comes back by Decrypt, both with the
// encryption context that the key policy can pin.
func TestKMSWraps(t *testing.T) {
	w := newKMSWorld(t)
	made := secret.Key{ChainID: "test-1", KeyType: "ed25519", Public: bytes.Repeat([]byte{5}, 32), Secret: secret.NewBytes(bytes.Repeat([]byte{6}, 32)), Origin: claims.Generated}
	wrapped, err := w.client.Wrap(t.Context(), testCredentials, made)
	if err != nil {
		t.Fatal(err)
	}
	got, err := w.client.Unwrap(t.Context(), testCredentials, wrapped)
	if err != nil || !got.Secret.Equal(made.Secret) {
		t.Fatalf("Unwrap: %v, %v", got, err)
	}
	calls := w.kms.Calls()
	if len(calls) != 2 || calls[0].Action != "GenerateDataKey" || calls[1].Action != "Decrypt" {
		t.Fatalf("calls: %+v", calls)
	}
	for _, c := range calls {
		if c.Context["privyseal-chain"] != "test-1" || !c.Attested || c.Key != testKey {
			t.Errorf("the call was %+v", c)
		}
	}
	pinned := strings.Replace(testPolicy, `"Condition": {"StringEqualsIgnoreCase": {`, `"Condition": {"StringEqualsIgnoreCase": {"kms:EncryptionContext:privyseal-chain": "test-2", `, 1)
	if err := w.kms.AddKey(testKey, fmt.Appendf(nil, pinned, pcr{7})); err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.Unwrap(t.Context(), testCredentials, wrapped); err == nil {
		t.Error("a policy that pins another chain let the key out")
	}
}

func refuses(t *testing.T, w *kmsWorld, what, want string, c secret.AWS, blob []byte) {
	t.Helper()
	before := len(w.kms.Calls())
	if _, err := w.client.Decrypt(t.Context(), c, blob); err == nil {
		t.Errorf("%s: granted", what)
	}
	calls := w.kms.Calls()
	if len(calls) == before || !strings.Contains(calls[len(calls)-1].Refused, want) {
		t.Errorf("%s: KMS says %+v, want %s", what, calls[before:], want)
	}
}

func TestKMSRefuses(t *testing.T) {
	w := newKMSWorld(t)
	blob, err := w.kms.Encrypt(testKey, nil, []byte("a seed"))
	if err != nil {
		t.Fatal(err)
	}
	bad := testCredentials
	bad.SecretAccessKey = secret.New("another")
	refuses(t, w, "a wrong secret", "InvalidSignatureException", bad, blob)
	bad = testCredentials
	bad.SessionToken = secret.New("")
	refuses(t, w, "a missing token", "UnrecognizedClientException", bad, blob)
	bad.AccessKeyID = "ASIAOTHER"
	refuses(t, w, "an unknown access key", "UnrecognizedClientException", bad, blob)
	refuses(t, w, "a changed ciphertext", "InvalidCiphertext", testCredentials, append(bytes.Clone(blob[:len(blob)-1]), 0))

	module := w.module
	other, err := newNSM(newRoot(t), "i-1-enc1", map[int]pcr{0: {7}}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	w.module = other
	refuses(t, w, "a document below another root", "ValidationException", testCredentials, blob)
	w.module = &nsmDevice{signer: module.signer, pcrs: module.pcrs, locked: module.locked, now: func() time.Time { return time.Now().Add(-10 * time.Minute) }}
	refuses(t, w, "a document of ten minutes ago", "ValidationException", testCredentials, blob)
	w.module = &nsmDevice{signer: module.signer, locked: module.locked, now: time.Now}
	refuses(t, w, "another image", "AccessDeniedException", testCredentials, blob)
	w.module = module

	if _, err := w.newClient(t, newKMSWorld(t).kms.CA()).Decrypt(t.Context(), testCredentials, blob); err == nil {
		t.Error("a client that pins another authority got an answer")
	}
}

func TestKMSMisbehaves(t *testing.T) {
	w := newKMSWorld(t)
	blob, err := w.kms.Encrypt(testKey, nil, []byte("a seed"))
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(KMSCall, *KMSAnswer){
		"drops":          func(_ KMSCall, a *KMSAnswer) { a.Drop = true },
		"talks nonsense": func(_ KMSCall, a *KMSAnswer) { a.Raw = []byte("{") },
		"names another":  func(_ KMSCall, a *KMSAnswer) { a.Body["KeyId"] = testKey + "2" },
		"shows it":       func(_ KMSCall, a *KMSAnswer) { a.Body["Plaintext"] = []byte("a seed") },
	} {
		w.kms.Change(change)
		if _, err := w.client.Decrypt(t.Context(), testCredentials, blob); err == nil {
			t.Errorf("a KMS that %s is believed", what)
		}
	}
	w.kms.Change(func(_ KMSCall, a *KMSAnswer) { a.Hang = true })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := w.client.Decrypt(ctx, testCredentials, blob); err == nil || errors.Is(ctx.Err(), context.Canceled) {
		t.Errorf("a KMS that hangs: %v", err)
	}
	w.kms.Change(nil)
	if _, err := w.client.Decrypt(t.Context(), testCredentials, blob); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A call in another form than AWS's JSON 1.1 is no call.
func TestContentType(t *testing.T) {
	w := newKMSWorld(t)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for kind, want := range map[string]string{"application/json": "UnknownOperationException", "": "UnknownOperationException", "application/x-amz-json-1.1": "UnrecognizedClientException"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+w.kms.Addr()+"/", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Amz-Target", "TrentService.Decrypt")
		r.Header.Set("Content-Type", kind)
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode != http.StatusBadRequest || !strings.Contains(string(text), want) {
			t.Errorf("%q: %d %s", kind, answer.StatusCode, text)
		}
	}
}
