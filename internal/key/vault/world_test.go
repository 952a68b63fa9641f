package vault

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"privyseal/internal/key/vault/vaulttest"
	"privyseal/internal/pubkey"
)

// shared is the server of all tests that do not seal or stop it.
var shared = sync.OnceValues(func() (*vaulttest.Server, error) {
	dir, err := os.MkdirTemp("", "vault")
	if err != nil {
		return nil, err
	}
	atEnd = append(atEnd, func() { os.RemoveAll(dir) })
	s, err := vaulttest.Launch(dir)
	if err == nil {
		atEnd = append(atEnd, s.Stop)
	}
	return s, err
})

var atEnd []func()

func TestMain(m *testing.M) {
	status := m.Run()
	for _, f := range atEnd {
		f()
	}
	os.Exit(status)
}

// world is a real server with a key, and what a client needs to use it.
type world struct {
	*vaulttest.Server
	t      testing.TB
	name   string
	public pubkey.Key
	config Config
	log    *bytes.Buffer
}

// newWorld makes a key of its own on the shared server.
func newWorld(t testing.TB) *world {
	t.Helper()
	s, err := shared()
	vaulttest.Need(t, err)
	return worldOn(t, s)
}

// signs is the policy that a signer needs, and looks is what `check` asks besides.
const (
	signs = `path "transit/sign/NAME" { capabilities = ["update"] }
		path "transit/keys/NAME" { capabilities = ["read"] }`
	looks = signs + `
		path "sys/capabilities-self" { capabilities = ["update"] }
		path "auth/token/lookup-self" { capabilities = ["read"] }
		path "auth/token/renew-self" { capabilities = ["update"] }`
)

func worldOn(t testing.TB, s *vaulttest.Server) *world {
	t.Helper()
	w := &world{Server: s, t: t, name: strings.ToLower(t.Name()), // as the server writes the names of policies
		log: &bytes.Buffer{}}
	w.Do(t, "POST", "transit/keys/"+w.name, map[string]any{"type": "ed25519"})
	w.Policy(t, w.name, strings.ReplaceAll(looks, "NAME", w.name))
	w.config = Config{Address: s.URL, CAFile: s.CAFile, TokenFile: secretFile(t, s.Token(t, time.Hour, w.name)),
		Timeout: maxTimeout, Log: slog.New(slog.NewTextHandler(w.log, nil))}
	w.public = w.publicKey()
	return w
}

// publicKey asks the server, as its administrator.
func (w *world) publicKey() pubkey.Key {
	w.t.Helper()
	config := w.config
	config.TokenFile = secretFile(w.t, w.Root)
	key, err := newTestClient(w.t, config).Public(w.t.Context(), w.name, 1)
	if err != nil {
		w.t.Fatal(err)
	}
	return key
}

func (w *world) client(change ...func(*Config)) *Client {
	w.t.Helper()
	c := w.config
	for _, f := range change {
		f(&c)
	}
	return newTestClient(w.t, c)
}

func (w *world) key(change ...func(*Config)) *Key {
	w.t.Helper()
	return w.client(change...).key(w.name, 1, w.public)
}

// newTestClient returns a client that is as patient as a busy machine needs, unless the
// test is about its patience.
func newTestClient(t testing.TB, c Config) *Client {
	t.Helper()
	k, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if c.Timeout == maxTimeout {
		k.c.Timeout = time.Hour
		k.http.Transport.(*http.Transport).TLSHandshakeTimeout = time.Hour
		k.http.Transport.(*http.Transport).DialContext = nil
	}
	t.Cleanup(func() { k.Close() })
	return k
}

func secretFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// rewrite puts another secret into a file, as an agent does.
func rewrite(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// mustSign fails the test if the key does not sign.
func mustSign(t testing.TB, k *Key, message string) []byte {
	t.Helper()
	signature, err := k.Sign(nil, []byte(message), nil)
	if err != nil {
		t.Fatal(err)
	}
	if !ed25519.Verify(k.public.Bytes(), []byte(message), signature) {
		t.Fatal("a signature left that does not verify")
	}
	return signature
}

// inTheEnd waits until a key signs whose patience is that of a vote, however busy the
// machine is.
func inTheEnd(t testing.TB, k *Key, message string) {
	t.Helper()
	for {
		_, err := k.Sign(nil, []byte(message), nil)
		var failed *Error
		if err == nil {
			return
		}
		if !errors.As(err, &failed) || failed.reason != slow {
			t.Fatal(err)
		}
	}
}

// mustFail demands an error that begins with the text, ADDRESS standing for the
// server's, and whose cure is next.
func mustFail(t testing.TB, err error, address, want, next string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error; want %q", want)
		return
	}
	failed, cure, _ := strings.Cut(err.Error(), "\n")
	if failed != strings.ReplaceAll(want, "ADDRESS", address) {
		t.Errorf("failed with\n  %s\nwant\n  %s", failed, want)
	}
	if cure != next {
		t.Errorf("the cure of %q is\n  %q\nwant\n  %q", failed, cure, next)
	}
}

// fakeToken is the only token that a fake knows.
const fakeToken = "s.fake-token-that-is-secret"

// fake is a server that does what a test says, to show what a client makes of it.
type fake struct {
	t      testing.TB
	server *httptest.Server
	config Config
	secret ed25519.PrivateKey
	public pubkey.Key

	mu   sync.Mutex
	seen []string // method and path of each request
}

// newFake returns a server that answers by handle. It knows the key "val".
func newFake(t testing.TB, handle func(f *fake, w http.ResponseWriter, r *http.Request)) *fake {
	t.Helper()
	f := &fake{t: t, secret: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))}
	var err error
	if f.public, err = pubkey.New(pubkey.Ed25519, f.secret[32:]); err != nil {
		t.Fatal(err)
	}
	f.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.seen = append(f.seen, r.Method+" "+r.URL.Path)
		f.mu.Unlock()
		handle(f, w, r)
	}))
	f.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	f.server.TLS = &tls.Config{}
	f.server.StartTLS()
	t.Cleanup(f.server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.server.Certificate().Raw})
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	f.config = Config{Address: f.server.URL, CAFile: ca, TokenFile: secretFile(t, fakeToken), Timeout: maxTimeout}
	return f
}

func (f *fake) client() *Client { f.t.Helper(); return newTestClient(f.t, f.config) }

func (f *fake) key() *Key { f.t.Helper(); return f.client().key("val", 1, f.public) }

// requests returns what was asked so far.
func (f *fake) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string{}, f.seen...)
}

// signature is what an honest server says when it signs message with secret.
func signature(secret ed25519.PrivateKey, message string) string {
	return fmt.Sprintf(`{"data":{"key_version":1,"signature":"vault:v1:%s"}}`, base64Of(ed25519.Sign(secret, []byte(message))))
}

// keyData is what an honest server says of a key.
func keyData(public []byte) string {
	return fmt.Sprintf(`{"data":{"type":"ed25519","latest_version":1,"min_decryption_version":1,"keys":{"1":{"public_key":"%s"}}}}`, base64Of(public))
}
