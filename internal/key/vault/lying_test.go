package vault

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"privyseal/internal/key/vault/vaulttest"
)

// says returns a server that answers every request with a status and a text.
func says(status int, text string) func(*fake, http.ResponseWriter, *http.Request) {
	return func(_ *fake, w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, text)
	}
}

// honest signs "a vote" and names its key.
func honest(f *fake, w http.ResponseWriter, r *http.Request) {
	if r.Method == "GET" {
		io.WriteString(w, keyData(f.public.Bytes()))
		return
	}
	io.WriteString(w, signature(f.secret, "a vote"))
}

const makesNoSense = "key transit/val at ADDRESS: the answer makes no sense "

// Nothing that a server says makes a signature leave that is not one, and each lie has
// its message.
func TestLies(t *testing.T) {
	notSigned := "(it is not a signature of version 1 of the key)"
	short := "(a signature has 64 bytes in base64, this one does not)"
	notJSON := "(it is not the JSON that was expected)"
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, 32))
	for name, tt := range map[string]struct {
		answer func(*fake, http.ResponseWriter, *http.Request)
		want   string
		next   string
	}{
		"another version": {says(200, strings.Replace(signature(other, "a vote"), "vault:v1", "vault:v2", 1)), makesNoSense + notSigned, ""},
		"a number that contradicts": {says(200, strings.Replace(signature(other, "a vote"), `"key_version":1`, `"key_version":2`, 1)),
			makesNoSense + notSigned, ""},
		"short":            {says(200, `{"data":{"signature":"vault:v1:AAAA"}}`), makesNoSense + short, ""},
		"not base64":       {says(200, `{"data":{"signature":"vault:v1:!"}}`), makesNoSense + short, ""},
		"base64 in lines":  {says(200, strings.Replace(signature(other, "a vote"), "==", `\n==`, 1)), makesNoSense + short, ""},
		"no signature":     {says(200, `{"data":{}}`), makesNoSense + notSigned, ""},
		"a number":         {says(200, `{"data":{"signature":1}}`), makesNoSense + notJSON, ""},
		"two signatures":   {says(200, `{"data":{"signature":"a","signature":"b"}}`), makesNoSense + notSigned, ""},
		"no data":          {says(200, `{}`), makesNoSense + notSigned, ""},
		"null":             {says(200, `{"data":null}`), makesNoSense + notSigned, ""},
		"a list":           {says(200, `[]`), makesNoSense + notJSON, ""},
		"garbage":          {says(200, "\x00\xff"), makesNoSense + notJSON, ""},
		"nothing":          {says(200, ""), makesNoSense + notJSON, ""},
		"more than enough": {says(200, signature(other, "a vote")+"x"), makesNoSense + notJSON, ""},
		"huge":             {says(200, `{"data":{"x":"`+strings.Repeat("x", maxAnswer)+`"}}`), makesNoSense + "(it has more than 65536 bytes)", ""},
		"endless": {func(f *fake, w http.ResponseWriter, _ *http.Request) {
			for range 1 << 10 { // more than lies on the way when the client goes away
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
			f.t.Error("64 MiB were read")
		}, makesNoSense + "(it has more than 65536 bytes)", ""},
		"huge headers": {func(f *fake, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Vault-Note", strings.Repeat("x", 2*maxHeaders))
			honest(f, w, r)
		}, makesNoSense + "(it is not HTTP)", ""},
		"not HTTP": {raw("SSH-2.0-OpenSSH_9.2\r\n"), makesNoSense + "(it is not HTTP)", ""},
		"switching": {raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"),
			makesNoSense + "(HTTP status 101)", ""},
		"no content": {says(204, ""), makesNoSense + notJSON, ""},
		"created":    {says(201, signature(other, "a vote")), "key transit/val at ADDRESS: the server sends us to another one, and redirects are not followed (HTTP status 201)", "give the address of the active server, or of one that forwards requests"},
		"wrong signature": {func(f *fake, w http.ResponseWriter, r *http.Request) {
			if r.Method == "GET" {
				honest(f, w, r)
				return
			}
			io.WriteString(w, signature(f.secret, "another vote"))
		}, "key transit/val at ADDRESS: the server made a signature that does not verify", ""},
		"a wrong signature, and nothing to compare": {func(f *fake, w http.ResponseWriter, r *http.Request) {
			if r.Method == "GET" {
				w.WriteHeader(500)
				return
			}
			io.WriteString(w, signature(f.secret, "another vote"))
		}, "key transit/val at ADDRESS: the server made a signature that does not verify", ""},
		"standby": {says(500, `{"errors":["local node not active but active cluster node not found"]}`),
			"key transit/val at ADDRESS: the server is a standby and finds no active one", "give the address of the active server, or of one that forwards requests"},
		"a proxy without server": {says(503, "<html>no backend</html>"), "key transit/val at ADDRESS: the server has an internal failure (HTTP status 503)", ""},
		"trouble":                {says(500, `{"errors":["disk\nis \u001b[31mfull"]}`), `key transit/val at ADDRESS: the server has an internal failure (HTTP status 500 disk is \x1b[31mfull)`, ""},
		"a bad request":          {says(400, `{"errors":["no"]}`), "key transit/val at ADDRESS: the server refuses the request (HTTP status 400 no)", ""},
		"many words":             {says(400, `{"errors":["`+strings.Repeat("no", 500)+`"]}`), "key transit/val at ADDRESS: the server refuses the request (HTTP status 400 " + strings.Repeat("no", 142) + "…)", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, tt.answer)
			signature, err := f.key().Sign(nil, []byte("a vote"), nil)
			if signature != nil {
				t.Errorf("%d bytes left", len(signature))
			}
			mustFail(t, err, f.server.URL, tt.want, tt.next)
		})
	}
}

// raw returns a server that writes a text on the connection.
func raw(text string) func(*fake, http.ResponseWriter, *http.Request) {
	return func(f *fake, w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			f.t.Error(err)
			return
		}
		io.WriteString(conn, text)
		conn.Close()
	}
}

// Lies about a key are found when it is read, too.
func TestLiesAboutKeys(t *testing.T) {
	for name, tt := range map[string]struct{ answer, want string }{
		"no keys":        {`{"data":{"type":"ed25519","latest_version":1}}`, makesNoSense + "(it has no public key of version 1)"},
		"another number": {`{"data":{"type":"ed25519","latest_version":2,"keys":{"2":{}}}}`, makesNoSense + "(it has no public key of version 1)"},
		"a short key":    {`{"data":{"type":"ed25519","latest_version":1,"keys":{"1":{"public_key":"AAAA"}}}}`, makesNoSense + "(a public key of type ed25519 has 32 bytes, not 3)"},
		"no point": {keyData(append([]byte{2}, make([]byte, 31)...)),
			makesNoSense + "(the public key is not a point on the curve of ed25519)"},
		"a type that is none": {`{"data":{"type":"` + strings.Repeat("x", 60) + `"}}`,
			`key transit/val at ADDRESS: it is not a key that signs for a validator (its type is "` + strings.Repeat("x", 40) + `", not ed25519)`},
		"two types": {`{"data":{"type":"ed25519","type":"ecdsa"}}`, makesNoSense + "(it is not the JSON that was expected)"},
		"no data":   {`{}`, makesNoSense + "(it is not the JSON that was expected)"},
		"null":      {`{"data":null}`, makesNoSense + "(it is not the JSON that was expected)"},
		"a list":    {`{"data":[]}`, makesNoSense + "(it is not the JSON that was expected)"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, says(200, tt.answer))
			_, err := f.client().Public(t.Context(), "val", 1)
			mustFail(t, err, f.server.URL, tt.want, "")
		})
	}
}

// A server that sends us elsewhere is not followed, and the token goes nowhere.
func TestRedirect(t *testing.T) {
	elsewhere := newFake(t, honest)
	for _, status := range []int{301, 302, 303, 307, 308} {
		f := newFake(t, func(f *fake, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.server.URL+r.URL.Path, status)
		})
		_, err := f.key().Sign(nil, []byte("a vote"), nil)
		mustFail(t, err, f.server.URL, fmt.Sprintf("key transit/val at ADDRESS: the server sends us to another one, and redirects are not followed (HTTP status %d)", status),
			"give the address of the active server, or of one that forwards requests")
	}
	if seen := elsewhere.requests(); len(seen) > 0 {
		t.Errorf("followed: %q", seen)
	}
}

// drops returns a server that breaks the first n connections that a request came on.
func drops(n int) func(*fake, http.ResponseWriter, *http.Request) {
	return func(f *fake, w http.ResponseWriter, r *http.Request) {
		if len(f.requests()) > n {
			honest(f, w, r)
			return
		}
		raw("")(f, w, r)
	}
}

// A connection that broke is made once more, and no more than once. Other failures are
// not tried again.
func TestRetries(t *testing.T) {
	for n, want := range []int{1, 2, 2} {
		f := newFake(t, drops(n))
		_, err := f.key().Sign(nil, []byte("a vote"), nil)
		if n < 2 && err != nil {
			t.Errorf("%d dropped: %v", n, err)
		}
		if n == 2 {
			mustFail(t, err, f.server.URL, "key transit/val at ADDRESS: the connection broke", "")
		}
		if seen := f.requests(); len(seen) != want {
			t.Errorf("%d dropped: %q", n, seen)
		}
	}
	for _, status := range []int{400, 403, 404, 429, 500, 503} {
		f := newFake(t, says(status, `{"errors":["sealed"]}`))
		f.key().Sign(nil, []byte("a vote"), nil)
		if seen := f.requests(); !slices.Equal(seen, []string{"POST /v1/transit/sign/val"}) {
			t.Errorf("status %d: %q", status, seen)
		}
	}
}

// What makes a key is not sent twice: the second answer would say that the key exists.
func TestImportIsSentOnce(t *testing.T) {
	f := newFake(t, func(f *fake, w http.ResponseWriter, r *http.Request) {
		if r.Method == "GET" {
			w.WriteHeader(404)
			return
		}
		raw("")(f, w, r)
	})
	_, err := f.client().Generate(t.Context(), "val")
	mustFail(t, err, f.server.URL, "key transit/val at ADDRESS: the connection broke", "")
	if seen := f.requests(); !slices.Equal(seen, []string{"GET /v1/transit/keys/val", "POST /v1/transit/keys/val"}) {
		t.Errorf("%q", seen)
	}
}

// A server that never answers is given up, after two tries at most.
func TestSlow(t *testing.T) {
	done := make(chan struct{})
	f := newFake(t, func(*fake, http.ResponseWriter, *http.Request) { <-done })
	t.Cleanup(func() { close(done) })
	f.config.Timeout = 50 * time.Millisecond
	_, err := f.key().Sign(nil, []byte("a vote"), nil)
	mustFail(t, err, f.server.URL, "key transit/val at ADDRESS: there was no answer in time", "")
	if seen := f.requests(); len(seen) > 2 {
		t.Errorf("%q", seen)
	}
}

// Close ends a call that waits.
func TestCloseEndsCalls(t *testing.T) {
	asked, done := make(chan struct{}), make(chan struct{})
	f := newFake(t, func(*fake, http.ResponseWriter, *http.Request) { close(asked); <-done })
	t.Cleanup(func() { close(done) })
	k := f.key()
	go func() { <-asked; k.Close() }()
	_, err := k.Sign(nil, []byte("a vote"), nil)
	mustFail(t, err, f.server.URL, "key transit/val at ADDRESS: it was closed", "")
	if _, err := k.Sign(nil, []byte("a vote"), nil); err == nil {
		t.Error("it signs after its end")
	}
}

// One connection serves all calls, and is made before the first vote needs it.
func TestKeepsConnection(t *testing.T) {
	var remotes []string
	f := newFake(t, func(f *fake, w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		remotes = append(remotes, r.RemoteAddr)
		f.mu.Unlock()
		honest(f, w, r)
	})
	k := f.key()
	k.client.tend(t.Context(), time.Now())
	for range 3 {
		if _, err := k.Sign(nil, []byte("a vote"), nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(remotes) != 5 || len(slices.Compact(remotes)) != 1 {
		t.Errorf("connections from %q", remotes)
	}
	if seen := f.requests(); seen[0] != "GET /v1/auth/token/lookup-self" || seen[1] != "GET /v1/sys/health" {
		t.Errorf("%q", seen)
	}
}

// roles is a server that gives tokens by AppRole: one after the other, with leases as
// the test says.
type roles struct {
	login, renew string // of the answers, in JSON; a renewal that is "" is forbidden
	logins       int
}

func (s *roles) serve(_ *fake, w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/v1/auth/approle/login":
		s.logins++
		fmt.Fprintf(w, `{"auth":{"client_token":"token-%d",%s}}`, s.logins, s.login)
	case "/v1/auth/token/renew-self":
		if s.renew == "" {
			w.WriteHeader(403)
			io.WriteString(w, `{"errors":["1 error occurred:\n\t* permission denied\n\n"]}`)
			return
		}
		fmt.Fprintf(w, `{"auth":{"client_token":"x",%s}}`, s.renew)
	default:
		w.WriteHeader(403)
		io.WriteString(w, `{"errors":["permission denied"]}`)
	}
}

// Where the server renews no longer, or only for a moment, another login comes before
// the end of the first.
func TestLogsInBeforeTheEnd(t *testing.T) {
	for name, tt := range map[string]struct {
		roles
		want int // logins
	}{
		"renewed":       {roles{login: `"lease_duration":3600,"renewable":true`, renew: `"lease_duration":3600`}, 1},
		"last moments":  {roles{login: `"lease_duration":3600,"renewable":true`, renew: `"lease_duration":60`}, 2},
		"forbidden":     {roles{login: `"lease_duration":3600,"renewable":true`}, 2},
		"not renewable": {roles{login: `"lease_duration":3600,"renewable":false`}, 2},
		"forever":       {roles{login: `"lease_duration":0,"renewable":false`}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, tt.serve)
			f.config.TokenFile, f.config.AppRole = "", AppRole{RoleID: "role", SecretIDFile: secretFile(t, "secret")}
			c := f.client()
			now := time.Now()
			c.tend(t.Context(), now)
			c.tend(t.Context(), now.Add(41*time.Minute))
			if tt.logins != tt.want || c.session.token != fmt.Sprintf("token-%d", tt.want) {
				t.Errorf("%d logins, session %q", tt.logins, c.session.token)
			}
		})
	}
}

// A server that takes no token costs one login a call, not more.
func TestNoStormOfLogins(t *testing.T) {
	s := &roles{login: `"lease_duration":3600,"renewable":true`}
	f := newFake(t, s.serve)
	f.config.TokenFile, f.config.AppRole = "", AppRole{RoleID: "role", SecretIDFile: secretFile(t, "secret")}
	k := f.key()
	_, err := k.Sign(nil, []byte("a vote"), nil)
	mustFail(t, err, f.server.URL, "key transit/val at ADDRESS: the token is not valid: it has expired, or was revoked",
		"look at the role's token_ttl and token_num_uses: the login succeeded, but its token is refused")
	if want := []string{"POST /v1/auth/approle/login", "POST /v1/transit/sign/val", "POST /v1/auth/approle/login", "POST /v1/transit/sign/val"}; !slices.Equal(f.requests(), want) {
		t.Errorf("%q", f.requests())
	}
}

// What policies hold up costs no login, until the session is a minute old: the role may
// have other policies by then.
func TestForbiddenLogsInSeldom(t *testing.T) {
	s := &session{made: time.Now()}
	old := &session{made: time.Now().Add(-2 * time.Minute)}
	if s.lost(forbidden) || !old.lost(forbidden) || !s.lost(expired) || old.lost(sealed) {
		t.Error("a session is lost in other cases")
	}
}

// A token file whose token ends soon, and cannot be renewed, is logged.
func TestWarnsOfTheEnd(t *testing.T) {
	f := newFake(t, says(200, `{"data":{"ttl":3600,"renewable":false}}`))
	var log bytes.Buffer
	f.config.Log = slog.New(slog.NewTextHandler(&log, nil))
	c := f.client()
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	if c.tend(t.Context(), now); log.Len() > 0 {
		t.Errorf("too early: %s", &log)
	}
	if c.tend(t.Context(), now.Add(41*time.Minute)); !strings.Contains(log.String(), "expires at 2026-01-02T04:00:00Z") {
		t.Errorf("%s", &log)
	}
}

// How long a session is left alone.
func TestPause(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct{ lease, age, want time.Duration }{
		{0, time.Hour, keepPause},
		{time.Hour, 0, keepPause},
		{time.Hour, 40*time.Minute - 5*time.Second, keepPause}, // 1/10 of the lease is more
		{15 * time.Second, 0, 10 * time.Second},
		{15 * time.Second, 9 * time.Second, 1500 * time.Millisecond},
		{3 * time.Second, 3 * time.Second, time.Second},
	} {
		s := &session{lease: tt.lease, since: now.Add(-tt.age)}
		if got := s.pause(now); got != tt.want {
			t.Errorf("%v after %v: %v, want %v", tt.lease, tt.age, got, tt.want)
		}
	}
}

// No secret is in an error, a log line or what a print verb shows, also if the server
// sends it back.
func TestSecretsStayInside(t *testing.T) {
	const secretID, roleID = "secret-id-of-the-role", "role-id-of-the-role"
	echo := func(f *fake, w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		text, _ := json.Marshal(map[string][]string{"errors": {r.Header.Get("X-Vault-Token") + string(body)}})
		w.WriteHeader(500)
		w.Write(text)
	}
	f := newFake(t, echo)
	var log bytes.Buffer
	f.config.Log = slog.New(slog.NewTextHandler(&log, nil))
	var shown []string
	for _, byRole := range []bool{false, true} {
		if byRole {
			f.config.TokenFile, f.config.AppRole = "", AppRole{RoleID: roleID, SecretIDFile: secretFile(t, secretID)}
		}
		k := f.key()
		_, err := k.Sign(nil, []byte("a vote"), nil)
		if !strings.Contains(err.Error(), "(hidden)") {
			t.Errorf("the server sent nothing back: %v", err)
		}
		k.client.tend(t.Context(), time.Now())
		k.client.session = &session{token: fakeToken}
		f.config.Log.Info("all", "key", k, "client", k.client)
		shown = append(shown, err.Error(), fmt.Sprintf("%v %+v %#v %s %v %+v %#v", k, k, k, k, k.client, k.client, k.client))
	}
	for _, text := range append(shown, log.String()) {
		for _, secret := range []string{fakeToken, secretID, roleID} {
			if strings.Contains(text, secret) {
				t.Errorf("%q is in %s", secret, text)
			}
		}
	}
}

// The token goes to the server with each call but the login, and nothing of the
// environment has a say: no proxy.
func TestHeaders(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	var seen http.Header
	f := newFake(t, func(f *fake, w http.ResponseWriter, r *http.Request) { seen = r.Header.Clone(); honest(f, w, r) })
	f.config.Namespace = "team/a"
	if _, err := f.key().Sign(nil, []byte("a vote"), nil); err != nil {
		t.Fatal(err)
	}
	if seen.Get("X-Vault-Token") != fakeToken || seen.Get("X-Vault-Namespace") != "team/a" || seen.Get("X-Vault-Request") != "true" {
		t.Errorf("%v", seen)
	}
}

// A wrapping key that is not one is refused before the key is encrypted under it.
func TestWrappingKey(t *testing.T) {
	for name, text := range map[string]string{
		"none":       "",
		"not PEM":    "x",
		"not a key":  string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")})),
		"another":    publicPEM(t, ed25519.NewKeyFromSeed(make([]byte, 32)).Public()),
		"a weak one": weakKey(t),
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, func(f *fake, w http.ResponseWriter, r *http.Request) {
				if !strings.HasSuffix(r.URL.Path, "/wrapping_key") {
					w.WriteHeader(404)
					return
				}
				json.NewEncoder(w).Encode(map[string]any{"data": map[string]string{"public_key": text}})
			})
			err := f.client().Import(t.Context(), "val", f.secret)
			if err == nil || !strings.HasPrefix(err.Error(), "wrapping key of transit at "+f.server.URL+": the answer makes no sense (") {
				t.Error(err)
			}
			if seen := f.requests(); len(seen) != 2 {
				t.Errorf("%q", seen)
			}
		})
	}
}

func publicPEM(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func weakKey(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return publicPEM(t, key.Public())
}

// A server that imports another key than the one that it was handed is found out.
func TestImportOfAnotherKey(t *testing.T) {
	s, err := shared()
	vaulttest.Need(t, err)
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, 32))
	wrapping := s.Do(t, "GET", "transit/wrapping_key", nil)
	imported := false
	f := newFake(t, func(f *fake, w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/wrapping_key"):
			json.NewEncoder(w).Encode(map[string]any{"data": wrapping})
		case r.Method == "POST":
			imported = true
			w.WriteHeader(204)
		case !imported:
			w.WriteHeader(404)
		default:
			io.WriteString(w, keyData(other[32:]))
		}
	})
	err = f.client().Import(t.Context(), "val", f.secret)
	if err == nil || !strings.HasPrefix(err.Error(), "key transit/val at "+f.server.URL+": the key there is not the one that was expected") {
		t.Error(err)
	}
}

// A capability that the server does not report is not taken as absent.
func TestInspectOfSilence(t *testing.T) {
	f := newFake(t, func(f *fake, w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v1/sys/capabilities-self":
			io.WriteString(w, `{"data":{"transit/sign/val":["update"]}}`)
		case r.Method == "POST":
			io.WriteString(w, signature(f.secret, "privyseal: does this key sign?"))
		default:
			honest(f, w, r)
		}
	})
	in, err := f.client().Inspect(t.Context(), "val", 1, f.public)
	if err != nil {
		t.Fatal(err)
	}
	want := "what the token may do cannot be checked: token at " + f.server.URL + ": the answer makes no sense (it does not name transit/keys/val)"
	if len(in.Findings) != 1 || in.Findings[0].What != want {
		t.Errorf("%+v", in.Findings)
	}
}

// A file with a secret is the owner's alone, or root's, and holds one line.
func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/secret"
	for name, tt := range map[string]struct {
		text        string
		mode        os.FileMode
		credentials string
		want        string // "" for a good one
	}{
		"good":                   {"s.abc\n", 0o600, "", ""},
		"without its line feed":  {"s.abc", 0o400, "", ""},
		"of Windows":             {"s.abc\r\n", 0o600, "", ""},
		"of systemd":             {"s.abc", 0o440, dir, ""},
		"of systemd, world":      {"s.abc", 0o444, dir, "has mode 0444"},
		"read by a group":        {"s.abc", 0o440, "", "has mode 0440"},
		"of another credentials": {"s.abc", 0o440, t.TempDir(), "has mode 0440"},
		"empty":                  {"", 0o600, "", "holds no token"},
		"an empty line":          {"\n", 0o600, "", "holds no token"},
		"two lines":              {"s.abc\ns.def\n", 0o600, "", "holds no token"},
		"a header more":          {"s.abc\r\nX-Y: z", 0o600, "", "holds no token"},
		"a space":                {"s.a bc", 0o600, "", "holds no token"},
		"long":                   {strings.Repeat("x", maxSecret), 0o600, "", ""},
		"too long":               {strings.Repeat("x", maxSecret+1), 0o600, "", "holds no token"},
	} {
		t.Run(name, func(t *testing.T) {
			os.Remove(path)
			if err := os.WriteFile(path, []byte(tt.text), tt.mode); err != nil {
				t.Fatal(err)
			}
			got, err := readSecret(path, tt.credentials)
			switch {
			case tt.want == "" && (err != nil || got != strings.TrimSpace(tt.text)):
				t.Errorf("%q, %v", got, err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "abc")):
				t.Errorf("%q, %v, want %q", got, err, tt.want)
			}
		})
	}
	if err := os.Chmod(path, 0o440); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	if _, err := readSecret("secret", ""); err == nil || !strings.Contains(err.Error(), "has mode 0440") {
		t.Errorf("read by a group, without credentials: %v", err)
	}
	if _, err := readSecret(dir, ""); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a folder: %v", err)
	}
	if _, err := readSecret(dir+"/nothing", ""); err == nil || !os.IsNotExist(unwrapURL(err)) {
		t.Errorf("no file: %v", err)
	}
}
