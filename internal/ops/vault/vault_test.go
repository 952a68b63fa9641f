package vault

import (
	"crypto/ed25519"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"privyseal/internal/config"
	"privyseal/internal/key/soft"
	"privyseal/internal/key/vault"
	"privyseal/internal/key/vault/vaulttest"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
)

const policy = `path "transit/sign/*" { capabilities = ["update"] }
	path "transit/keys/*" { capabilities = ["read"] }
	path "sys/capabilities-self" { capabilities = ["update"] }
	path "auth/token/lookup-self" { capabilities = ["read"] }`

// world is a home folder beside a real server.
type world struct {
	*vaulttest.Server
	t      *testing.T
	home   string
	token  string // file
	admin  string // file
	config *config.Config
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Server: vaulttest.Start(t), t: t, home: t.TempDir()}
	w.Policy(t, "signer", policy)
	w.token = w.file("token", w.Token(t, time.Hour, "signer"))
	w.admin = w.file("admin", w.Root)
	return w
}

func (w *world) file(name, text string) string {
	w.t.Helper()
	path := filepath.Join(w.home, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// init parses flags as `privyseal init` does.
func (w *world) init(args ...string) *Init {
	w.t.Helper()
	f := &Init{}
	flags := pflag.NewFlagSet("init", pflag.ContinueOnError)
	f.flags(flags)
	if err := flags.Parse(args); err != nil {
		w.t.Fatal(err)
	}
	return f
}

func (w *world) flags(more ...string) []string {
	return append([]string{"--vault-address", w.URL, "--vault-ca-file", w.CAFile, "--vault-token-file", w.token, "--vault-admin-token-file", w.admin, "--vault-timeout", "2s"}, more...)
}

// hold makes a key as `init` does.
func (w *world) hold(secret *soft.Key, more ...string) (vault.Reference, []vault.Finding, error) {
	w.t.Helper()
	f := w.init(w.flags(more...)...)
	s, added, err := f.server.In(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if added[table]["main"] != s {
		w.t.Errorf("added %v", added)
	}
	return f.hold(w.t.Context(), s.client(func(p string) string { return p }), "chain-1", secret)
}

// load reads a config with a chain that r names the key of.
func (w *world) load(r vault.Reference, section string) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Join(w.home, "keys"), 0o700); err != nil {
		w.t.Fatal(err)
	}
	w.file("keys/chain-1.vault", string(r.Encode()))
	var err error
	text := head + "[vault.main]\naddress = \"" + w.URL + "\"\nca_file = \"" + w.CAFile + "\"\ntimeout = \"2s\"\n" + section
	if w.config, err = kinds.Parse(filepath.Join(w.home, config.FileName), []byte(text)); err != nil {
		w.t.Fatal(err)
	}
}

// A key that is made, taken or imported signs by what the config and the key's file say.
func TestHoldAndOpen(t *testing.T) {
	w := newWorld(t)
	imported, err := soft.Generate(pubkey.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		secret  *soft.Key
		more    []string
		version int
	}{
		{"made", nil, nil, 1},
		{"made under another name", nil, []string{"--vault-key", "val"}, 1},
		{"imported", imported, []string{"--vault-key", "old"}, 1},
		{"taken", nil, []string{"--vault-take", "--vault-key", "val"}, 2},
		{"an old version taken", nil, []string{"--vault-take", "--vault-key", "val", "--vault-key-version", "1"}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.version == 2 {
				w.Do(t, "POST", "transit/keys/val/rotate", nil)
			}
			r, findings, err := w.hold(tt.secret, tt.more...)
			if err != nil || r.Version != tt.version || slices.ContainsFunc(findings, func(f vault.Finding) bool { return f.Bad }) {
				t.Fatalf("%+v, %v, %v", r, findings, err)
			}
			if tt.secret != nil && !r.Public.Equal(tt.secret.PublicKey()) {
				t.Error("another key")
			}
			w.load(r, "token_file = \"token\"\n")
			public, err := Holder{}.Public(w.config, w.config.Chains[0])
			if err != nil || !public.Equal(r.Public) {
				t.Errorf("%v, %v", public, err)
			}
			key, err := Holder{}.Open(t.Context(), w.config, w.config.Chains[0])
			if err != nil {
				t.Fatal(err)
			}
			defer key.Close()
			signature, err := key.Sign(nil, []byte("a vote"), nil)
			if err != nil || !ed25519.Verify(r.Public.Bytes(), []byte("a vote"), signature) {
				t.Errorf("%x, %v", signature, err)
			}
		})
	}
}

// A server is the one device of its keys: what it does is known without asking it.
func TestDevices(t *testing.T) {
	w := newWorld(t)
	r, _, err := w.hold(nil)
	if err != nil {
		t.Fatal(err)
	}
	w.load(r, "token_file = \"token\"\n")
	key, err := Holder{}.Open(t.Context(), w.config, w.config.Chains[0])
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	last := key.(provider.Watched).Devices()[0]
	if last.Address != w.URL || last.Failed != "" || last.Signatures != 0 || last.Since.IsZero() {
		t.Errorf("%+v", last)
	}
	for _, step := range []struct {
		before func(testing.TB)
		failed string
		turns  bool // it says when that was
		signed uint64
	}{
		{func(testing.TB) {}, "", false, 1},
		{func(t testing.TB) { w.Seal(t) }, "the server is sealed", true, 1},
		{func(testing.TB) {}, "the server is sealed", false, 1},
		{func(t testing.TB) { w.Unseal(t) }, "", true, 2},
	} {
		step.before(t)
		key.Sign(nil, []byte("a vote"), nil)
		d := key.(provider.Watched).Devices()[0]
		if !strings.Contains(d.Failed, step.failed) || (d.Failed == "") != (step.failed == "") || d.Since.After(last.Since) != step.turns || d.Signatures != step.signed || d.Took < d.LastTook || d.LastTook <= 0 {
			t.Errorf("%+v after %+v", d, last)
		}
		last = d
	}
}

// What cannot be is said before anything is made on the server.
func TestHoldRefuses(t *testing.T) {
	w := newWorld(t)
	for name, tt := range map[string]struct {
		more []string
		want string
	}{
		"a token that does not log in": {[]string{"--vault-token-file", w.file("wrong", "s.wrong")}, "the token is not valid"},
		"a token without rights":       {[]string{"--vault-token-file", w.file("none", w.Token(t, time.Hour, "nothing"))}, "the policies of our token do not allow it"},
		"an administrator without":     {[]string{"--vault-admin-token-file", w.token}, "the policies of our token do not allow it"},
		"nothing to take":              {[]string{"--vault-take"}, "there is no such key"},
		"a mount that is not there":    {[]string{"--vault-mount", "nowhere"}, "the policies of our token do not allow it"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := w.hold(nil, tt.more...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if root, _ := vault.New(vault.Config{Address: w.URL, CAFile: w.CAFile, TokenFile: w.admin}); root.Absent(t.Context(), "chain-1") != nil {
				t.Error("a key was made")
			}
		})
	}
	if _, _, err := w.hold(nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.hold(nil); err == nil || !strings.Contains(err.Error(), "there is a key of that name") {
		t.Error(err)
	}
	other, err := soft.Generate(pubkey.Secp256k1)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.hold(other, "--vault-key", "other"); err == nil || !strings.Contains(err.Error(), "takes ed25519 keys that have their seed") {
		t.Error(err)
	}
}

func TestFlags(t *testing.T) {
	w := &world{t: t}
	for want, args := range map[string][]string{
		"--vault-take is for a key that is on the server": {"--vault-take", "import"},
		"--vault-key-version goes with --vault-take":      {"--vault-key-version", "2"},
		"--vault-key-version -1: the first version is 1":  {"--vault-take", "--vault-key-version", "-1"},
	} {
		f := w.init(args...)
		source := ""
		if args[len(args)-1] == "import" {
			source = "key.json"
		}
		if err := f.check(source); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
	c, err := kinds.Parse("privyseal.toml", []byte(head+least))
	if err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"--vault-address is missing: there is no [vault.two]":                               {"--vault", "two"},
		"--vault-mount: there is a [vault.main] in privyseal.toml already":                  {"--vault-mount", "x"},
		"--vault-address is not https://HOST":                                               {"--vault", "two", "--vault-address", "vault.test"},
		"http:// is accepted for loopback addresses only, or with --vault-allow-plain-http": {"--vault", "two", "--vault-address", "http://vault.test", "--vault-token-file", "x"},
		"--vault-token-file or --vault-role-id and --vault-secret-id-file are needed":       {"--vault", "two", "--vault-address", "https://vault.test"},
	} {
		if _, _, err := w.init(args...).server.In(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
	if s, added, err := w.init().server.In(c); err != nil || s.Address != "https://vault.test:8200" || added != nil {
		t.Errorf("%v, %v, %v", s, added, err)
	}
	s, _, err := w.init("--vault-address", "https://vault.test", "--vault-token-file", "token").server.In(nil)
	if err != nil || !filepath.IsAbs(s.TokenFile) || s.CAFile != "" {
		t.Errorf("%+v, %v", s, err)
	}
}

// lines is a log that can be read while it is written.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	select {
	case l <- string(b):
	default:
	}
	return len(b), nil
}

// A token that comes to its end is in the log of the program before it does.
func TestLogsTheEndOfToken(t *testing.T) {
	w := newWorld(t)
	r, _, err := w.hold(nil)
	if err != nil {
		t.Fatal(err)
	}
	w.Do(t, "POST", "auth/token/roles/ending", map[string]any{"renewable": false, "orphan": true})
	w.file("token", w.Do(t, "POST", "auth/token/create/ending", map[string]any{"policies": []string{"signer"}, "ttl": "6s"})["client_token"].(string))
	w.load(r, "token_file = \"token\"\n")
	log := make(lines, 100)
	old := slog.Default()
	t.Cleanup(func() { slog.SetDefault(old) })
	slog.SetDefault(slog.New(slog.NewTextHandler(log, nil)))
	key, err := Holder{}.Open(t.Context(), w.config, w.config.Chains[0])
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	if line := <-log; !strings.Contains(line, "level=WARN") || !strings.Contains(line, "chain=chain-1") {
		t.Errorf("%s", line)
	}
}

// rows returns what check says, as "verdict text -> cure".
func (w *world) rows() (list []string) {
	r := &provider.Report{Config: w.config}
	Holder{}.Check(w.t.Context(), r)
	for _, row := range r.Rows {
		if row.Chain != "chain-1" || row.Check != "vault" || row.Line == 0 {
			w.t.Errorf("a row of %+v", row)
		}
		list = append(list, string(row.Verdict)+" "+row.Text+" -> "+row.Cure)
	}
	return list
}

func TestCheck(t *testing.T) {
	w := newWorld(t)
	r, _, err := w.hold(nil)
	if err != nil {
		t.Fatal(err)
	}
	w.load(r, "token_file = \"token\"\n")
	rows := w.rows()
	if len(rows) == 0 || !strings.HasPrefix(rows[0], "ok "+w.URL+" signs with version 1 of key transit/chain-1, in ") && !strings.HasPrefix(rows[0], "-- "+w.URL+" signs") {
		t.Errorf("%q", rows)
	}
	w.Policy(t, "signer", policy+"\npath \"transit/keys/chain-1/rotate\" { capabilities = [\"update\"] }")
	rows = w.rows()
	if want := "FAIL the token may update transit/keys/chain-1/rotate: it could rotate the key -> take it out of the token's policies"; !slices.Contains(rows, want) {
		t.Errorf("%q", rows)
	}
	w.Seal(t)
	want := "FAIL key transit/chain-1 at " + w.URL + ": the server is sealed -> unseal it: `bao operator unseal`; signing goes on by itself"
	if rows := w.rows(); !slices.Equal(rows, []string{want}) {
		t.Errorf("%q", rows)
	}
	os.Remove(filepath.Join(w.home, "keys/chain-1.vault"))
	if rows := w.rows(); len(rows) > 0 {
		t.Errorf("the row of the key says so: %q", rows)
	}
	if _, err := (Holder{}).Open(t.Context(), w.config, w.config.Chains[0]); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
