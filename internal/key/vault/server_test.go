package vault

import (
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"privyseal/internal/key/vault/vaulttest"
	"privyseal/internal/pubkey"
)

func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// What the server signs is the message itself, of any length, and each verifies.
func TestSign(t *testing.T) {
	w := newWorld(t)
	opened, err := Open(w.config, Reference{w.name, 1, w.public})
	if err != nil {
		t.Fatal(err)
	}
	inTheEnd(t, opened, "a vote")
	if err := opened.Close(); err != nil {
		t.Error(err)
	}
	k := w.key()
	for _, n := range []int{0, 1, 121, 5000, 1 << 20} {
		mustSign(t, k, strings.Repeat("x", n))
	}
	if again := mustSign(t, k, "a vote"); string(again) != string(mustSign(t, k, "a vote")) {
		t.Error("two signatures of one message differ")
	}
	if _, err := k.Sign(nil, []byte("x"), crypto.Hash(0)); err != nil {
		t.Error(err)
	}
	if _, err := k.Sign(nil, make([]byte, 32), crypto.SHA256); err == nil {
		t.Error("it signed a digest")
	}
	if !k.PublicKey().Equal(w.public) || k.Public().(pubkey.Key) != k.PublicKey() {
		t.Error("another public key")
	}
}

// A node's votes and their extensions come at once.
func TestSignConcurrently(t *testing.T) {
	w := newWorld(t)
	role, secret := w.AppRole(t, w.name, map[string]any{"token_policies": w.name})
	k := w.key(func(c *Config) {
		c.TokenFile, c.AppRole = "", AppRole{RoleID: role, SecretIDFile: secretFile(t, secret)}
	})
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			if _, err := k.Sign(nil, fmt.Append(nil, i), nil); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

// Without TLS the server on this machine's loopback is used, with a warning to nobody.
func TestPlainOnLoopback(t *testing.T) {
	w := newWorld(t)
	mustSign(t, w.key(func(c *Config) { c.Address, c.CAFile = w.Plain, "" }), "a vote")
}

// A mount and a namespace of their own are used in every call.
func TestMountAndNamespace(t *testing.T) {
	w := newWorld(t)
	w.Do(t, "POST", "sys/namespaces/team", nil)
	w.Do(t, "POST", "team/sys/mounts/keys/transit", map[string]any{"type": "transit"})
	w.Do(t, "POST", "team/sys/auth/machines", map[string]any{"type": "approle"})
	w.Do(t, "POST", "team/keys/transit/keys/val", map[string]any{"type": "ed25519"})
	w.Do(t, "POST", "team/sys/policies/acl/p", map[string]any{"policy": `path "keys/transit/*" { capabilities = ["read", "update"] }`})
	w.Do(t, "POST", "team/auth/machines/role/r", map[string]any{"token_policies": "p"})
	role := w.Do(t, "GET", "team/auth/machines/role/r/role-id", nil)["role_id"].(string)
	secret := w.Do(t, "POST", "team/auth/machines/role/r/secret-id", nil)["secret_id"].(string)
	c := w.client(func(c *Config) {
		c.TokenFile, c.Namespace, c.Mount = "", "team", "keys/transit"
		c.AppRole = AppRole{Mount: "machines", RoleID: role, SecretIDFile: secretFile(t, secret)}
	})
	public, err := c.Public(t.Context(), "val", 1)
	if err != nil {
		t.Fatal(err)
	}
	mustSign(t, c.key("val", 1, public), "a vote")
	_, err = w.client(func(c *Config) { c.Namespace = "nobody" }).Public(t.Context(), "val", 1)
	mustFail(t, err, w.URL, "key transit/val at ADDRESS: nothing is mounted there, or there is no such namespace (HTTP status 404 namespace not found)", "")
}

// Each way in which a real server refuses has one message.
func TestRefusals(t *testing.T) {
	w := newWorld(t)
	policy := fmt.Sprintf(`give the token a policy with: path "transit/sign/%[1]s" { capabilities = ["update"] } path "transit/keys/%[1]s" { capabilities = ["read"] }`, w.name)
	token := func(text string) func(*Config) {
		path := secretFile(t, text)
		return func(c *Config) { c.TokenFile = path }
	}
	sign := func(k *Key) error { _, err := k.Sign(nil, []byte("a vote"), nil); return err }
	at := "key transit/" + w.name + " at ADDRESS: "

	w.Policy(t, "nothing", `path "x" { capabilities = ["read"] }`)
	mustFail(t, sign(w.key(token(w.Token(t, time.Hour, "nothing")))), w.URL, at+"the policies of our token do not allow it", policy)

	k := w.key(token("s.unknown"))
	mustFail(t, sign(k), w.URL, at+"the token is not valid: it has expired, or was revoked", "write a new token to "+k.client.c.TokenFile+"; it is read without a restart")

	root := w.client(token(w.Root))
	mustFail(t, sign(root.key("nobody", 1, w.public)), w.URL, "key transit/nobody at ADDRESS: there is no such key", "")
	_, err := root.Public(t.Context(), "nobody", 1)
	mustFail(t, err, w.URL, "key transit/nobody at ADDRESS: there is no such key", "")
	mustFail(t, sign(root.key(w.name, 2, w.public)), w.URL, at+"the key has no such version", "")
	_, err = root.Public(t.Context(), w.name, 2)
	mustFail(t, err, w.URL, at+"the key has no such version (the latest version is 1, and 2 is pinned)", "")

	elsewhere := w.client(token(w.Root), func(c *Config) { c.Mount = "nowhere" })
	mustFail(t, sign(elsewhere.key("val", 1, w.public)), w.URL,
		`key nowhere/val at ADDRESS: nothing is mounted there, or there is no such namespace (HTTP status 404 no handler for route "nowhere/sign/val". route entry not found.)`, "")

	w.Do(t, "POST", "transit/keys/elliptic", map[string]any{"type": "ecdsa-p256"})
	_, err = root.Public(t.Context(), "elliptic", 1)
	mustFail(t, err, w.URL, `key transit/elliptic at ADDRESS: it is not a key that signs for a validator (its type is "ecdsa-p256", not ed25519)`, "")
	mustFail(t, sign(root.key("elliptic", 1, w.public)), w.URL, "key transit/elliptic at ADDRESS: the answer makes no sense (a signature has 64 bytes in base64, this one does not)", "")
	w.Do(t, "POST", "transit/keys/derived", map[string]any{"type": "ed25519", "derived": true})
	_, err = root.Public(t.Context(), "derived", 1)
	mustFail(t, err, w.URL, "key transit/derived at ADDRESS: it is not a key that signs for a validator (it is derived, so that it has no public key)", "")

	mustFail(t, sign(w.key(func(c *Config) { c.CAFile = "" })), w.URL, at+"what answers is not this server, or does not use TLS (x509: certificate signed by unknown authority)",
		"compare address, CA file and server name with the server's certificate")
	mustFail(t, sign(w.key(func(c *Config) { c.ServerName = "other.test" })), w.URL,
		at+"what answers is not this server, or does not use TLS (x509: certificate is valid for vault.test, not other.test)", "compare address, CA file and server name with the server's certificate")
	mustSign(t, w.key(func(c *Config) { c.ServerName = "vault.test" }), "a vote")
	plain := strings.Replace(w.Plain, "http:", "https:", 1)
	mustFail(t, sign(w.key(func(c *Config) { c.Address = plain })), plain,
		at+"what answers is not this server, or does not use TLS (http: server gave HTTP response to HTTPS client)", "compare address, CA file and server name with the server's certificate")
}

// The pinned version signs after a rotation, until it may no longer.
func TestRotated(t *testing.T) {
	w := newWorld(t)
	k := w.key()
	w.Do(t, "POST", "transit/keys/"+w.name+"/rotate", nil)
	mustSign(t, k, "a vote")
	config := "transit/keys/" + w.name + "/config"
	lower := "lower it: `bao write " + config + " min_encryption_version=0`"
	at := "key transit/" + w.name + " at ADDRESS: "
	for _, setting := range []string{"min_encryption_version", "min_decryption_version"} {
		w.Do(t, "POST", config, map[string]any{setting: 2})
		for name, f := range map[string]func() error{
			"sign": func() error { _, err := k.Sign(nil, []byte("a vote"), nil); return err },
			"read": func() error { _, err := k.client.Public(t.Context(), w.name, 1); return err },
		} {
			t.Run(setting+" "+name, func(t *testing.T) {
				mustFail(t, f(), w.URL, at+"the pinned version of the key may no longer sign: min_encryption_version or min_decryption_version was raised above it", lower)
			})
		}
	}
}

// A key that is deleted and made again under its name is refused: no signature of it
// leaves.
func TestExchanged(t *testing.T) {
	w := newWorld(t)
	k := w.key()
	mustSign(t, k, "a vote")
	path := "transit/keys/" + w.name
	w.Do(t, "POST", path+"/config", map[string]any{"deletion_allowed": true})
	w.Do(t, "DELETE", path, nil)
	w.Do(t, "POST", path, map[string]any{"type": "ed25519"})
	now := w.publicKey()
	_, err := k.Sign(nil, []byte("a vote"), nil)
	want := fmt.Sprintf("key transit/%s at ADDRESS: the key there is not the one that was expected: it was replaced (version 1 is %v, not %v)", w.name, now, w.public)
	mustFail(t, err, w.URL, want, "find out who replaced it; put the old one back from a backup of the server")
	_, err = k.client.Inspect(t.Context(), w.name, 1, w.public)
	mustFail(t, err, w.URL, want, "find out who replaced it; put the old one back from a backup of the server")
}

// A sealed server fails each call, and signs again when it is unsealed, with the same
// token, without a restart.
func TestSealed(t *testing.T) {
	w := worldOn(t, vaulttest.Start(t))
	role, secret := w.AppRole(t, w.name, map[string]any{"token_policies": w.name})
	byRole := func(c *Config) {
		c.TokenFile, c.AppRole = "", AppRole{RoleID: role, SecretIDFile: secretFile(t, secret)}
	}
	k, late := w.key(), w.key(byRole)
	mustSign(t, k, "a vote")
	w.Seal(t)
	const unseal = "unseal it: `bao operator unseal`; signing goes on by itself"
	_, err := k.Sign(nil, []byte("a vote"), nil)
	mustFail(t, err, w.URL, "key transit/"+w.name+" at ADDRESS: the server is sealed", unseal)
	_, err = late.Sign(nil, []byte("a vote"), nil)
	mustFail(t, err, w.URL, "login at ADDRESS: the server is sealed", unseal)
	opened, err := Open(w.config, Reference{w.name, 1, w.public})
	if err != nil {
		t.Fatal(err) // a machine that boots before its server is unsealed
	}
	defer opened.Close()
	w.Unseal(t)
	mustSign(t, k, "a vote")
	mustSign(t, late, "a vote")
	inTheEnd(t, opened, "a vote")
}

// A server that stands still is given up in time; one that is gone, at once. Both sign
// again when they are back.
func TestFrozen(t *testing.T) {
	w := worldOn(t, vaulttest.Start(t))
	k := w.key(func(c *Config) { c.Timeout = 200 * time.Millisecond })
	inTheEnd(t, k, "a vote")
	w.Freeze(t)
	var err error
	for err == nil { // until the signal has reached all its threads
		_, err = k.Sign(nil, []byte("a vote"), nil)
	}
	mustFail(t, err, w.URL, "key transit/"+w.name+" at ADDRESS: there was no answer in time", "")
	w.Thaw(t)
	mustSign(t, w.key(), "a vote")
	w.Stop()
	_, err = w.key().Sign(nil, []byte("a vote"), nil)
	mustFail(t, err, w.URL, "key transit/"+w.name+" at ADDRESS: the server cannot be reached (connect: connection refused)", "")
}

// expire waits until the server no longer knows a token.
func expire(t *testing.T, w *world, token string) {
	t.Helper()
	for {
		k := w.client(func(c *Config) { c.TokenFile = secretFile(t, token) })
		_, err := k.Read(t.Context(), w.name)
		k.Close()
		var failed *Error
		if errors.As(err, &failed) && failed.reason == expired {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A login that has expired is made again within the call that notices.
func TestLogsInAgain(t *testing.T) {
	w := newWorld(t)
	role, secret := w.AppRole(t, w.name, map[string]any{"token_policies": w.name, "token_ttl": "3s", "token_max_ttl": "3s"})
	file := secretFile(t, secret)
	k := w.key(func(c *Config) { c.TokenFile, c.AppRole = "", AppRole{RoleID: role, SecretIDFile: file} })
	mustSign(t, k, "a vote")
	first := k.client.session.token
	expire(t, w, first)
	mustSign(t, k, "a vote")
	if k.client.session.token == first {
		t.Error("it signed with a token that has expired")
	}
	expire(t, w, k.client.session.token)
	rewrite(t, file, "wrong")
	_, err := k.Sign(nil, []byte("a vote"), nil)
	mustFail(t, err, w.URL, "login at ADDRESS: the server does not accept role id and secret id", "write a new secret id to "+file+"; it is read without a restart")
	rewrite(t, file, w.SecretID(t, w.name))
	mustSign(t, k, "a vote")
}

// A token file is read again when its token has expired.
func TestReadsTokenAgain(t *testing.T) {
	w := newWorld(t)
	short := w.Token(t, time.Second, w.name)
	file := secretFile(t, short)
	k := w.key(func(c *Config) { c.TokenFile = file })
	expire(t, w, short)
	_, err := k.Sign(nil, []byte("a vote"), nil)
	mustFail(t, err, w.URL, "key transit/"+w.name+" at ADDRESS: the token is not valid: it has expired, or was revoked", "write a new token to "+file+"; it is read without a restart")
	rewrite(t, file, w.Token(t, time.Hour, w.name))
	mustSign(t, k, "a vote")
}

// A session is renewed before it ends, in the background.
func TestRenews(t *testing.T) {
	w := newWorld(t)
	role, secret := w.AppRole(t, w.name, map[string]any{"token_policies": w.name, "token_ttl": "1h"})
	for name, change := range map[string]func(*Config){
		"token": func(*Config) {},
		"AppRole": func(c *Config) {
			c.TokenFile, c.AppRole = "", AppRole{RoleID: role, SecretIDFile: secretFile(t, secret)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := w.client(change)
			begin := time.Now()
			renewed := func() bool {
				return w.Do(t, "POST", "auth/token/lookup", map[string]any{"token": c.session.token})["last_renewal"] != nil
			}
			if pause := c.tend(t.Context(), begin); pause != keepPause || c.session.lease < 59*time.Minute {
				t.Errorf("a pause of %v, a lease of %v", pause, c.session.lease)
			}
			if c.tend(t.Context(), begin.Add(39*time.Minute)); renewed() {
				t.Error("renewed too early")
			}
			token, at := c.session.token, begin.Add(41*time.Minute)
			if c.tend(t.Context(), at); !renewed() || c.session.token != token || !c.session.since.Equal(at) {
				t.Error("not renewed in time")
			}
			if w.log.Len() > 0 {
				t.Error(w.log)
			}
		})
	}
}

// A key that was made elsewhere signs on the server as it did before, and cannot leave
// it.
func TestImport(t *testing.T) {
	w := newWorld(t)
	public, secret, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	root := w.client(func(c *Config) { c.TokenFile = secretFile(t, w.Root) })
	if err := root.Import(t.Context(), "imported", secret); err != nil {
		t.Fatal(err)
	}
	want, err := pubkey.New(pubkey.Ed25519, public)
	if err != nil {
		t.Fatal(err)
	}
	if got := mustSign(t, root.key("imported", 1, want), "a vote"); string(got) != string(ed25519.Sign(secret, []byte("a vote"))) {
		t.Error("it signs in another way")
	}
	info, err := root.Read(t.Context(), "imported")
	if err != nil || !info.Imported || info.Exportable || info.AllowPlaintextBackup || info.DeletionAllowed {
		t.Errorf("%+v, %v", info, err)
	}
	mustFail(t, root.Import(t.Context(), "imported", secret), w.URL, "key transit/imported at ADDRESS: there is a key of that name, and keys are never overwritten", "")
	mustFail(t, root.Import(t.Context(), w.name, secret), w.URL, "key transit/"+w.name+" at ADDRESS: there is a key of that name, and keys are never overwritten", "")
	err = w.client().Import(t.Context(), "other", secret)
	if err == nil || !strings.HasPrefix(err.Error(), "key transit/other at "+w.URL+": the policies of our token do not allow it") {
		t.Error(err)
	}
}

func TestGenerate(t *testing.T) {
	w := newWorld(t)
	root := w.client(func(c *Config) { c.TokenFile = secretFile(t, w.Root) })
	public, err := root.Generate(t.Context(), "made")
	if err != nil {
		t.Fatal(err)
	}
	mustSign(t, root.key("made", 1, public), "a vote")
	_, err = root.Generate(t.Context(), "made")
	mustFail(t, err, w.URL, "key transit/made at ADDRESS: there is a key of that name, and keys are never overwritten", "")
	if _, err := root.Generate(t.Context(), "a/b"); err == nil {
		t.Error("a name that leads elsewhere")
	}
}

// A token that signs and reads, and nothing else, gives no finding.
func TestInspectFindsNothing(t *testing.T) {
	w := newWorld(t)
	in, err := w.client().Inspect(t.Context(), w.name, 1, w.public)
	if err != nil {
		t.Fatal(err)
	}
	if len(in.Findings) > 0 || in.Latency <= 0 || in.LatestVersion != 1 {
		t.Errorf("%+v", in)
	}
}

// Each path on which a token may do more is named, with what it may do there.
func TestInspectNamesPolicies(t *testing.T) {
	w := newWorld(t)
	const all = `"create", "read", "update", "delete", "list"`
	for _, p := range w.client().powers(w.name, []string{w.name}) {
		t.Run(p.path, func(t *testing.T) {
			w.Policy(t, w.name, strings.ReplaceAll(looks, "NAME", w.name)+fmt.Sprintf("\npath %q { capabilities = [%s] }", p.path, all))
			in, err := w.client().Inspect(t.Context(), w.name, 1, w.public)
			if err != nil {
				t.Fatal(err)
			}
			if len(in.Findings) != 1 || !strings.HasPrefix(in.Findings[0].What, "the token may ") ||
				!strings.HasSuffix(in.Findings[0].What, " "+p.path+": "+p.means) {
				t.Fatalf("%+v", in.Findings)
			}
			named, _, _ := strings.Cut(strings.TrimPrefix(in.Findings[0].What, "the token may "), " "+p.path)
			want := slices.DeleteFunc([]string{"create", "delete", "read", "update"}, func(c string) bool {
				return c == p.needed || c == "read" && !strings.Contains(p.path, "export/") && !strings.Contains(p.path, "/backup/")
			})
			if got := strings.Split(named, ", "); !slices.Equal(got, want) {
				t.Errorf("named %q, want %q", got, want)
			}
		})
	}
}

func TestInspectFindings(t *testing.T) {
	w := newWorld(t)
	bad := []string{
		"the key is exportable: whoever may read export/ can take it",
		"the key has allow_plaintext_backup: whoever may read backup/ can take it",
		"the key has deletion_allowed",
		"the token is a root token: it may do anything with the server",
	}
	root := func(c *Config) { c.TokenFile = secretFile(t, w.Root) }
	find := func(name string, c *Client) (list []string) {
		t.Helper()
		public, err := c.Public(t.Context(), name, 1)
		if err != nil {
			t.Fatal(err)
		}
		in, err := c.Inspect(t.Context(), name, 1, public)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range in.Findings {
			list = append(list, f.What)
			if f.Bad != strings.Contains(strings.Join(bad, ""), f.What) {
				t.Errorf("bad: %v: %q", f.Bad, f.What)
			}
		}
		return list
	}
	w.Do(t, "POST", "transit/keys/open", map[string]any{"type": "ed25519", "exportable": true, "allow_plaintext_backup": true, "auto_rotate_period": "1h"})
	w.Do(t, "POST", "transit/keys/open/config", map[string]any{"deletion_allowed": true})
	w.Do(t, "POST", "transit/keys/open/rotate", nil)
	want := []string{
		"the key is exportable: whoever may read export/ can take it",
		"the key has allow_plaintext_backup: whoever may read backup/ can take it",
		"the key has deletion_allowed",
		"the key rotates by itself: a validator has one key, and other versions are of no use",
		"the key was rotated: the latest version is 2, and 1 is pinned, which still signs",
		"the token is a root token: it may do anything with the server",
	}
	if got := find("open", w.client(root)); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	w.Do(t, "POST", "auth/token/roles/ending", map[string]any{"renewable": false, "orphan": true})
	auth := w.Do(t, "POST", "auth/token/create/ending", map[string]any{"policies": []string{w.name}, "ttl": "1h", "no_default_policy": true})
	ending := find(w.name, w.client(func(c *Config) { c.TokenFile = secretFile(t, auth["client_token"].(string)) }))
	if len(ending) != 1 || !strings.HasPrefix(ending[0], "the token expires in ") || !strings.HasSuffix(ending[0], ", and cannot be renewed") {
		t.Errorf("found %q", ending)
	}
	w.Policy(t, "blind", strings.ReplaceAll(signs, "NAME", w.name))
	blind := secretFile(t, w.Token(t, time.Hour, "blind"))
	got := find(w.name, w.client(func(c *Config) { c.TokenFile = blind }))
	if want := []string{"what the token may do cannot be checked: token at " + w.URL + ": the policies of our token do not allow it"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}

// A limit of the server on calls has its message.
func TestRateLimit(t *testing.T) {
	w := newWorld(t)
	w.Do(t, "POST", "sys/mounts/limited", map[string]any{"type": "transit"})
	w.Do(t, "POST", "limited/keys/val", map[string]any{"type": "ed25519"})
	w.Do(t, "POST", "sys/quotas/rate-limit/few", map[string]any{"rate": 1, "interval": "1h", "path": "limited"})
	c := w.client(func(c *Config) { c.TokenFile, c.Mount = secretFile(t, w.Root), "limited" })
	if _, err := c.Read(t.Context(), "val"); err != nil {
		t.Fatal(err)
	}
	_, err := c.Read(t.Context(), "val")
	mustFail(t, err, w.URL, `key limited/val at ADDRESS: a rate limit of the server delays requests (HTTP status 429 request path "limited/keys/val": rate limit quota exceeded)`, "")
}

// A token file that others may read is not used.
func TestSecretFile(t *testing.T) {
	w := newWorld(t)
	k := w.key()
	path := k.client.c.TokenFile
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	_, err := k.Sign(nil, []byte("a vote"), nil)
	mustFail(t, err, w.URL, "cannot log in at ADDRESS: the secret file "+path+" has mode 0640, so that others may have read it", "`chmod 600 "+path+"`")
}
