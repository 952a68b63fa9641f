package vault

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"privyseal/internal/pubkey"
)

func TestConfig(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(*Config)
		want   string // "" for a good one
	}{
		"good":                  {func(*Config) {}, ""},
		"a slash":               {func(c *Config) { c.Address += "/" }, ""},
		"a port":                {func(c *Config) { c.Address += ":8200" }, ""},
		"no address":            {func(c *Config) { c.Address = "" }, "address is not https://HOST"},
		"no scheme":             {func(c *Config) { c.Address = "vault.test:8200" }, "address is not https://HOST"},
		"another scheme":        {func(c *Config) { c.Address = "unix://vault.test" }, "address does not begin with https://"},
		"a path":                {func(c *Config) { c.Address += "/v1" }, "address is not https://HOST"},
		"a query":               {func(c *Config) { c.Address += "?x=1" }, "address is not https://HOST"},
		"a fragment":            {func(c *Config) { c.Address += "#x" }, "address is not https://HOST"},
		"a password":            {func(c *Config) { c.Address = "https://user:hunter2@vault.test" }, "address is not https://HOST"},
		"a port alone":          {func(c *Config) { c.Address = "https://:8200" }, "address is not https://HOST"},
		"control characters":    {func(c *Config) { c.Address = "https://vault.test\n" }, "address is not https://HOST"},
		"plain":                 {func(c *Config) { c.Address = "http://vault.test:8200" }, "http:// is accepted for loopback addresses only"},
		"plain, in words":       {func(c *Config) { c.Address, c.AllowPlain = "http://vault.test:8200", true }, ""},
		"plain here":            {func(c *Config) { c.Address = "http://127.0.0.1:8200" }, ""},
		"plain here by name":    {func(c *Config) { c.Address = "http://localhost:8200" }, ""},
		"plain here, version 6": {func(c *Config) { c.Address = "http://[::1]:8200" }, ""},
		"plain, all addresses":  {func(c *Config) { c.Address = "http://0.0.0.0:8200" }, "http:// is accepted for loopback addresses only"},
		"plain, like here":      {func(c *Config) { c.Address = "http://127.0.0.1.example.com" }, "http:// is accepted for loopback addresses only"},
		"plain and a CA":        {func(c *Config) { c.Address, c.CAFile = "http://127.0.0.1", empty }, "has no effect with http://"},
		"plain and a name":      {func(c *Config) { c.Address, c.ServerName = "http://127.0.0.1", "x" }, "has no effect with http://"},
		"no CA file":            {func(c *Config) { c.CAFile = empty + "x" }, "cannot read the CA file"},
		"an empty CA file":      {func(c *Config) { c.CAFile = empty }, "holds no PEM certificate"},
		"a mount":               {func(c *Config) { c.Mount = "team/transit-2" }, ""},
		"a mount that leads up": {func(c *Config) { c.Mount = "transit/../sys" }, "mount is not a path"},
		"a mount of dots":       {func(c *Config) { c.Mount = ".." }, "mount is not a path"},
		"a mount with a query":  {func(c *Config) { c.Mount = "transit?x" }, "mount is not a path"},
		"a mount with slashes":  {func(c *Config) { c.Mount = "/transit/" }, "mount is not a path"},
		"a role's mount":        {func(c *Config) { c.AppRole.Mount = "a//b" }, "mount is not a path"},
		"a namespace":           {func(c *Config) { c.Namespace = "a/b" }, ""},
		"a namespace in two":    {func(c *Config) { c.Namespace = "a\r\nX: y" }, "namespace is not a path"},
		"the longest timeout":   {func(c *Config) { c.Timeout = maxTimeout }, ""},
		"a long timeout":        {func(c *Config) { c.Timeout = maxTimeout + 1 }, "at most 2s"},
		"a negative timeout":    {func(c *Config) { c.Timeout = -1 }, "above 0"},
		"nobody":                {func(c *Config) { c.TokenFile = "" }, "token_file or role_id and secret_id_file are needed"},
		"both":                  {func(c *Config) { c.AppRole.RoleID, c.AppRole.SecretIDFile = "x", "y" }, "token_file or role_id and secret_id_file are needed"},
		"a token and a role id": {func(c *Config) { c.AppRole.RoleID = "x" }, "token_file or role_id and secret_id_file are needed"},
		"a role":                {func(c *Config) { c.TokenFile, c.AppRole.RoleID, c.AppRole.SecretIDFile = "", "x", "y" }, ""},
		"half a role":           {func(c *Config) { c.TokenFile, c.AppRole.RoleID = "", "x" }, "role_id and secret_id_file go together"},
		"the other half":        {func(c *Config) { c.TokenFile, c.AppRole.SecretIDFile = "", "x" }, "role_id and secret_id_file go together"},
		"a role id in two":      {func(c *Config) { c.TokenFile, c.AppRole.RoleID, c.AppRole.SecretIDFile = "", "x\n", "y" }, "role_id has characters"},
	} {
		t.Run(name, func(t *testing.T) {
			c := Config{Address: "https://vault.test", TokenFile: "token"}
			tt.change(&c)
			k, err := New(c)
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want == "" && strings.HasSuffix(k.base.String(), "/"):
				t.Errorf("base %s", k.base)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2")):
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	var c Config
	c.fill()
	if c.Timeout != time.Second || c.Mount != "transit" || c.AppRole.Mount != "approle" {
		t.Errorf("%+v", c)
	}
}

func TestOpenRefuses(t *testing.T) {
	good := Config{Address: "https://127.0.0.1:1", TokenFile: secretFile(t, "s.token")}
	public, err := pubkey.New(pubkey.Ed25519, newFake(t, honest).public.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func() (*Key, error){
		"a name that leads elsewhere": func() (*Key, error) { return Open(good, Reference{"../sys/seal", 1, public}) },
		"a name with a slash":         func() (*Key, error) { return Open(good, Reference{"val/sha2-256", 1, public}) },
		"no name":                     func() (*Key, error) { return Open(good, Reference{"", 1, public}) },
		"a dot at the end":            func() (*Key, error) { return Open(good, Reference{"val.", 1, public}) },
		"no version":                  func() (*Key, error) { return Open(good, Reference{"val", 0, public}) },
		"no public key":               func() (*Key, error) { return Open(good, Reference{"val", 1, pubkey.Key{}}) },
		"no token file": func() (*Key, error) {
			return Open(Config{Address: "https://127.0.0.1:1", TokenFile: t.TempDir() + "/x"}, Reference{"val", 1, public})
		},
		"no address": func() (*Key, error) { return Open(Config{TokenFile: "token"}, Reference{"val", 1, public}) },
	} {
		if k, err := open(); err == nil {
			k.Close()
			t.Errorf("%s: opened", name)
		}
	}
	for _, name := range []string{"v", "val-1.b_c", "_"} {
		k, err := Open(good, Reference{name, 1, public})
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		k.Close()
	}
}

// The examples of RFC 5649, section 6.
func TestWrapPadded(t *testing.T) {
	key := "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8"
	for plain, want := range map[string]string{
		"c37b7e6492584340bed12207808941155068f738": "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a",
		"466f7250617369": "afbeb0f07dfbf5419200f2ccb50bb24f",
	} {
		got, err := wrapPadded(unhex(t, key), unhex(t, plain))
		if err != nil || !bytes.Equal(got, unhex(t, want)) {
			t.Errorf("%s: %x, %v", plain, got, err)
		}
	}
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Whatever a server answers: nothing panics, no secret comes out, and what counts as a
// signature has the right form.
func FuzzAnswer(f *testing.F) {
	f.Add(200, []byte(`{"data":{"key_version":1,"signature":"vault:v1:8Ctzp0vPjCrTUSpAFpvgjR91vsATawVDVBmK44GOcVihX8kxnRpz4nNEPRSK2k/ZSr5VR9JheK9A4B3y2e1pDg=="}}`))
	f.Add(200, []byte(`{"data":{"type":"ed25519","latest_version":1,"keys":{"1":{"public_key":"r+7l8EaTvp/yqHH61/7eg6So/I/Se1QnKWX30hNk7Wk="}}}}`))
	f.Add(200, []byte(`{"auth":{"client_token":"s.x","lease_duration":3600,"renewable":true}}`))
	f.Add(403, []byte(`{"errors":["permission denied"]}`))
	f.Add(503, []byte(`{"errors":["Vault is sealed"]}`))
	c, err := New(Config{Address: "https://vault.test", TokenFile: "token"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		r := c.keyRequest("val", "POST", "sign/val")
		text := c.refusal(r, answer{status, body}, fakeToken).Error()
		if strings.Contains(text, fakeToken) || strings.Count(text, "\n") > 1 || len(text) > 4000 {
			t.Errorf("an error of %q", text)
		}
		var l login
		decode(body, &l)
		var info Info
		if decode(body, &info) == nil {
			if key, err := c.publicOf(info, "val", 1); err == nil && len(key.Bytes()) != 32 {
				t.Error("a key of another size")
			}
		}
		var a signAnswer
		if decode(body, &a) == nil {
			if signature, err := a.signature(1); err == nil && len(signature) != 64 {
				t.Error("a signature of another size")
			}
		}
	})
}
