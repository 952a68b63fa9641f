// Package vault signs with an Ed25519 key that a HashiCorp Vault or OpenBao server
// keeps: the transit secrets engine (its HTTP API, /v1/MOUNT/sign/NAME). The secret
// never comes to this machine, but whoever has our token can have anything signed: what
// keeps the signer from signing twice is its mark alone.
//
// The server is not trusted with the outcome. Which key it has to be is known before
// the first call, and no signature leaves that this key does not verify. Answers are
// bounded and strictly decoded, redirects are not followed. Tokens, role ids and secret
// ids reach no error, log or print verb.
//
// It keeps no mark and judges no message: it has signed whatever it is handed.
package vault

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"regexp"
	"time"

	"privyseal/internal/dial"
)

// Config says which server, our login there, and how long a call may take.
type Config struct {
	// Address is https://HOST[:PORT]. http:// is accepted for loopback addresses only,
	// or where AllowPlain is set: anybody on the way can read the token.
	Address    string
	AllowPlain bool
	// CAFile is a file of PEM certificates, the only ones that the server's may lead
	// to; "" means the system's.
	CAFile string
	// ServerName is the name in the server's certificate; "" means Address's host.
	ServerName string
	// Namespace is sent with each call, "" for none.
	Namespace string
	// Mount is where the transit engine is mounted; "" means [DefaultMount].
	Mount string

	// One of the two is our login. TokenFile holds a token, and is read again when
	// the server no longer takes it: a new token needs no restart.
	TokenFile string
	AppRole   AppRole
	// Credentials is systemd's $CREDENTIALS_DIRECTORY, or "". Files of secrets below it
	// may have mode 0440; all others need 0600 or stricter.
	Credentials string

	// Timeout bounds one request, connection and answer; 0 means [DefaultTimeout]. A
	// signature takes at most two requests and a login, and twice this time.
	Timeout time.Duration

	// Log hears of a session that cannot be kept. It may be nil.
	Log *slog.Logger
}

// AppRole is the auth method for programs: a role, and a secret id that proves it.
type AppRole struct {
	Mount        string // "" means [DefaultAppRoleMount]
	RoleID       string
	SecretIDFile string
}

// The defaults of a Config. The timeout fits a vote: a node waits for it for seconds, its
// round for one or two.
const (
	DefaultMount        = "transit"
	DefaultAppRoleMount = "approle"
	DefaultTimeout      = time.Second
)

// maxTimeout is half of what a node waits for an answer (session.AnswerTimeout).
const maxTimeout = 2 * time.Second

// Paths and names as Vault takes them (framework.GenericNameRegex).
var (
	mountPath = regexp.MustCompile(`^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$`)
	dots      = regexp.MustCompile(`(^|/)\.\.?(/|$)`)
	keyName   = regexp.MustCompile(`^[A-Za-z0-9_](([A-Za-z0-9_.-]+)?[A-Za-z0-9_])?$`)
)

// fill puts the defaults in place of what is not set.
func (c *Config) fill() {
	c.Mount = cmp.Or(c.Mount, DefaultMount)
	c.AppRole.Mount = cmp.Or(c.AppRole.Mount, DefaultAppRoleMount)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// Check calls fail with each part that cannot be, by its name in privyseal.toml, and
// what is wrong with it. It looks at no file.
func (c Config) Check(fail func(key, wrong string)) {
	c.fill()
	c.checkAddress(fail)
	for key, path := range map[string]string{"mount": c.Mount, "approle_mount": c.AppRole.Mount} {
		if !isPath(path) {
			fail(key, "is not a path like transit or team/transit")
		}
	}
	if c.Namespace != "" && !isPath(c.Namespace) {
		fail("namespace", "is not a path like team or org/team")
	}
	if c.Timeout < 0 || c.Timeout > maxTimeout {
		fail("timeout", fmt.Sprintf("is not above 0 and at most %v: a node does not wait longer for its vote", maxTimeout))
	}
	byRole := c.AppRole.RoleID != "" || c.AppRole.SecretIDFile != ""
	switch {
	case (c.TokenFile != "") == byRole:
		fail("token_file", "or role_id and secret_id_file are needed, and not both: one of them is our login")
	case byRole && (c.AppRole.RoleID == "" || c.AppRole.SecretIDFile == ""):
		fail("role_id", "and secret_id_file go together")
	case byRole && !isSecretText(c.AppRole.RoleID):
		fail("role_id", "has characters that no role id has")
	}
}

// checkAddress does not quote the address: there may be a password in it.
func (c Config) checkAddress(fail func(key, wrong string)) {
	u, err := c.base()
	switch {
	case err != nil:
		fail("address", err.Error())
	case u.Scheme == "https":
	case !dial.IsLoopback(u.Hostname()) && !c.AllowPlain:
		fail("address", "has no TLS, so that anybody on the way can read the token and sign with the key; http:// is accepted for loopback addresses only, or with allow_plain_http = true")
	case c.CAFile != "":
		fail("ca_file", "has no effect with http://")
	case c.ServerName != "":
		fail("server_name", "has no effect with http://")
	}
}

// base returns the address.
func (c Config) base() (*url.URL, error) {
	u, err := url.Parse(c.Address)
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("is not https://HOST or https://HOST:PORT, and nothing more")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("does not begin with https://")
	}
	u.Path = ""
	return u, nil
}

// isPath reports whether s is a path without empty parts and without dots that lead
// elsewhere.
func isPath(s string) bool {
	return len(s) <= 250 && mountPath.MatchString(s) && !dots.MatchString(s)
}

// tlsConfig returns what connections to the server are secured with.
func (c *Config) tlsConfig() (*tls.Config, error) {
	t := &tls.Config{ServerName: c.ServerName, MinVersion: tls.VersionTLS12}
	if c.CAFile == "" {
		return t, nil
	}
	text, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("cannot read the CA file: %w", err)
	}
	t.RootCAs = x509.NewCertPool()
	if !t.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("the CA file %s holds no PEM certificate", c.CAFile)
	}
	return t, nil
}
