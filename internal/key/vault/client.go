package vault

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Limits in bytes of an answer.
const (
	maxAnswer  = 64 << 10
	maxHeaders = 16 << 10
)

// Client calls one server. It is safe for concurrent use.
type Client struct {
	c    Config
	base *url.URL
	http *http.Client

	ctx   context.Context // until Close
	close context.CancelFunc
	kept  chan struct{} // closed when nothing is kept any more; nil: nothing is
	poke  chan struct{} // there is something new to keep

	// turn holds one token. Who took it owns session.
	turn    chan struct{}
	session *session // nil: log in
}

// New returns a client. It calls nobody before it is asked for something.
func New(c Config) (*Client, error) {
	c.fill()
	var err error
	c.Check(func(key, wrong string) {
		err = cmp.Or(err, fmt.Errorf("cannot use the Vault server: %s %s", key, wrong))
	})
	if err != nil {
		return nil, err
	}
	base, err := c.base()
	if err != nil {
		return nil, err
	}
	secured, err := c.tlsConfig()
	if err != nil {
		return nil, fmt.Errorf("cannot use the Vault server: %w", err)
	}
	k := &Client{c: c, base: base, poke: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
	k.http = &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			// No proxy of the environment, and no HTTP/2: there a dead connection would outlive
			// the request that timed out on it.
			DialContext:            (&net.Dialer{Timeout: c.Timeout}).DialContext,
			TLSClientConfig:        secured,
			TLSHandshakeTimeout:    c.Timeout,
			MaxIdleConnsPerHost:    2, // a vote and its extension
			MaxResponseHeaderBytes: maxHeaders,
			DisableCompression:     true,
		},
	}
	k.ctx, k.close = context.WithCancel(context.Background())
	k.turn <- struct{}{}
	return k, nil
}

// session is a token and how long it lives.
type session struct {
	token string
	made  time.Time
	lease time.Duration // from the last renewal; 0: forever, or unknown
	since time.Time     // of that renewal
	first time.Duration // the lease when it was made
	known bool          // the lease is known, or the server does not say
	renew bool          // the server lets us renew it
}

// Close ends all calls and connections. The token lives until it expires.
func (c *Client) Close() error {
	c.close()
	if c.kept != nil {
		<-c.kept
	}
	c.http.CloseIdleConnections()
	return nil
}

// String returns the address.
func (c *Client) String() string { return "Vault server " + c.base.String() }

// Format prints what String returns, whatever the verb: there is a token inside.
func (c *Client) Format(f fmt.State, _ rune) { io.WriteString(f, c.String()) }

// LogValue is what slog logs: what String returns.
func (c *Client) LogValue() slog.Value { return slog.StringValue(c.String()) }

// request is one call.
type request struct {
	what         string // for messages: "key transit/val"
	key          string // its name, or ""
	method, path string // path below /v1/
	body         any
	login        bool          // it has no token and brings one
	patience     time.Duration // in place of the timeout, where it is not a vote
}
