package vault

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"

	"privyseal/internal/strictjson"
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
	patience     time.Duration // in place of the timeout, where it is no vote
}

// answer is what came back, whatever its status.
type answer struct {
	status int
	body   []byte
}

// call makes a request with our token and decodes the data of its answer into out,
// which may be nil. It makes it once more where that may help: with a new token, or on
// a new connection.
func (c *Client) call(ctx context.Context, r request, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 2*max(c.c.Timeout, r.patience))
	defer cancel()
	s, err := c.current(ctx)
	if err != nil {
		return err
	}
	failed := c.exchange(ctx, s.token, r, out)
	switch {
	case failed == nil:
		return nil
	case r.patience == 0 && (failed.reason == slow || failed.reason == broken):
		// A connection that died in silence takes the others with it.
		c.http.CloseIdleConnections()
	case s.lost(failed.reason):
		if s, err = c.renewed(ctx, s); err != nil {
			return err
		}
		if s == nil {
			return failed
		}
	default:
		return failed
	}
	if again := c.exchange(ctx, s.token, r, out); again != nil {
		return again
	}
	return nil
}

// exchange makes one request.
func (c *Client) exchange(ctx context.Context, token string, r request, out any) *Error {
	a, failed := c.send(ctx, token, r)
	switch {
	case failed != nil:
		return failed
	case a.status != 200 && a.status != 204:
		return c.refusal(r, a, token)
	case out == nil:
		return nil
	}
	if err := decode(a.body, out); err != nil {
		return c.fail(r, malformed, "it is not the JSON that was expected")
	}
	return nil
}

// send makes one request and reads the answer.
func (c *Client) send(ctx context.Context, token string, r request) (answer, *Error) {
	ctx, cancel := context.WithTimeout(ctx, max(c.c.Timeout, r.patience))
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	req, err := c.newRequest(ctx, token, r)
	if err != nil {
		return answer{}, c.fail(r, refused, "it cannot be encoded")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, c.transportFailure(ctx, r, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return answer{}, c.transportFailure(ctx, r, err)
	}
	if len(body) > maxAnswer {
		return answer{}, c.fail(r, malformed, fmt.Sprintf("it has more than %d bytes", maxAnswer))
	}
	return answer{resp.StatusCode, body}, nil
}

func (c *Client) newRequest(ctx context.Context, token string, r request) (*http.Request, error) {
	var body io.Reader
	if r.body != nil {
		text, err := json.Marshal(r.body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, c.base.String()+"/v1/"+r.path, body)
	if err != nil {
		return nil, err
	}
	// What Vault wants of its agents, against requests that a page of a browser forges.
	req.Header.Set("X-Vault-Request", "true")
	if token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	if c.c.Namespace != "" && r.path != health {
		req.Header.Set("X-Vault-Namespace", c.c.Namespace)
	}
	return req, nil
}

// decode reads the data of an answer, or all of it where out is a *login or a
// *signAnswer. Fields that are not in out are ignored: each version adds some.
func decode(body []byte, out any) error {
	switch all := out.(type) {
	case *signAnswer:
		// Of two signatures in one answer either will do: it is verified. Looking for a
		// second one takes longer than anything else here.
		return json.Unmarshal(body, all)
	case *login:
		return strictjson.Unmarshal(body, all)
	}
	var whole struct {
		Data json.RawMessage `json:"data"`
	}
	if err := strictjson.Unmarshal(body, &whole); err != nil {
		return err
	}
	if len(whole.Data) == 0 || whole.Data[0] != '{' {
		return errors.New("no data")
	}
	return json.Unmarshal(whole.Data, out)
}
