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
	"net"
	"net/url"
	"os"
	"regexp"
	"time"
)

// Config says which server, who we are there, and how long a call may take.
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
	// Mount is where the transit engine is mounted; "" means transit.
	Mount string

	// One of the two says who we are. TokenFile holds a token, and is read again when
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
	Mount        string // "" means approle
	RoleID       string
	SecretIDFile string
}

// DefaultTimeout fits a vote: a node waits for it for seconds, its round for one or two.
const DefaultTimeout = time.Second

// maxTimeout is half of what a node waits for an answer (session.AnswerTimeout).
const maxTimeout = 2 * time.Second

// Paths and names as Vault takes them (framework.GenericNameRegex).
var (
	mountPath = regexp.MustCompile(`^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$`)
	keyName   = regexp.MustCompile(`^[A-Za-z0-9_](([A-Za-z0-9_.-]+)?[A-Za-z0-9_])?$`)
)

// complete fills in the defaults and checks the rest.
func (c *Config) complete() (*url.URL, error) {
	c.Mount = cmp.Or(c.Mount, "transit")
	c.AppRole.Mount = cmp.Or(c.AppRole.Mount, "approle")
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case !isPath(c.Mount) || !isPath(c.AppRole.Mount):
		return nil, errors.New("a mount is a path like transit or team/transit")
	case c.Namespace != "" && !isPath(c.Namespace):
		return nil, errors.New("a namespace is a path like team or org/team")
	case c.Timeout < 0 || c.Timeout > maxTimeout:
		return nil, fmt.Errorf("a timeout is above 0 and at most %v: a node waits no longer for its vote", maxTimeout)
	case (c.TokenFile == "") == (c.AppRole.RoleID == "" && c.AppRole.SecretIDFile == ""):
		return nil, errors.New("it takes either a token file or an AppRole")
	case c.TokenFile == "" && (c.AppRole.RoleID == "" || c.AppRole.SecretIDFile == ""):
		return nil, errors.New("an AppRole has a role id and a file with a secret id")
	case c.AppRole.RoleID != "" && !isSecretText(c.AppRole.RoleID):
		return nil, errors.New("the role id has characters that none has")
	}
	return c.parseAddress()
}

// isPath reports whether s is a path without empty parts and without dots that lead
// elsewhere.
func isPath(s string) bool {
	return len(s) <= 250 && mountPath.MatchString(s) && !regexp.MustCompile(`(^|/)\.\.?(/|$)`).MatchString(s)
}

func (c *Config) parseAddress() (*url.URL, error) {
	u, err := url.Parse(c.Address)
	// Not the address in the error: there may be a password in it.
	if err != nil || u.Host == "" || u.Hostname() == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("an address is https://HOST or https://HOST:PORT, and nothing more")
	}
	u.Path = ""
	switch {
	case u.Scheme == "https":
		return u, nil
	case u.Scheme != "http":
		return nil, errors.New("an address begins with https://")
	case !isLoopback(u.Hostname()) && !c.AllowPlain:
		return nil, fmt.Errorf("the address %s has no TLS, so that anybody on the way can read the token and sign with the key; http:// is accepted for loopback addresses only", u)
	case c.CAFile != "" || c.ServerName != "":
		return nil, errors.New("a CA file and a server name are of no use with http://")
	}
	return u, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
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
