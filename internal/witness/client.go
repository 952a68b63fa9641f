package witness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Limits of one request.
const (
	requestTimeout = 5 * time.Second
	maxStatus      = 256 << 10 // bytes; a status has 2 KiB
	maxCommit      = 4 << 20   // 10,000 validators have 2.5 MiB
)

// errWrongChain says that a witness is a node of another chain.
var errWrongChain = errors.New("it is a node of another chain")

// Client asks one node. It is not safe for concurrent use: a witness has one
// request of ours at a time.
type Client struct {
	base    *url.URL
	address string // of our validator, hex
	http    http.Client
}

// NewClient returns a client of the node at addr; see [CheckAddr]. address is that
// of our validator.
func NewClient(addr string, address [20]byte) (*Client, error) {
	u, err := parse(addr)
	if err != nil {
		return nil, err
	}
	return &Client{
		base: u, address: fmt.Sprintf("%X", address[:]),
		http: http.Client{
			Timeout: requestTimeout,
			Transport: &http.Transport{
				MaxConnsPerHost: 1, MaxIdleConns: 1, IdleConnTimeout: time.Minute, DisableCompression: true,
				TLSHandshakeTimeout: requestTimeout, ResponseHeaderTimeout: requestTimeout, MaxResponseHeaderBytes: 16 << 10,
			},
			// Where a node would send us, nobody has checked.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Close ends the connection.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status asks for what the node says about itself, which has to be a node of chainID.
func (c *Client) Status(ctx context.Context, chainID string) (Status, error) {
	body, err := c.get(ctx, "status", nil, maxStatus)
	if err != nil {
		return Status{}, err
	}
	s, err := decodeStatus(body)
	switch {
	case err != nil:
		return Status{}, fmt.Errorf("cannot use the witness %s: %w", c.base, err)
	case s.Network != chainID:
		return Status{}, fmt.Errorf("cannot use the witness %s: %w, %q, not of %q", c.base, errWrongChain, s.Network, chainID)
	}
	return s, nil
}

// Commit asks for the commit of a height. An *rpcError says that the node has none.
func (c *Client) Commit(ctx context.Context, chainID string, height int64) (Commit, error) {
	body, err := c.get(ctx, "commit", url.Values{"height": {strconv.FormatInt(height, 10)}}, maxCommit)
	if err != nil {
		return Commit{}, err
	}
	commit, err := decodeCommit(body, c.address)
	switch {
	case err != nil:
		return Commit{}, fmt.Errorf("cannot use the witness %s: %w", c.base, err)
	case commit.ChainID != chainID || commit.Height != height:
		return Commit{}, fmt.Errorf("cannot use the witness %s: asked for the commit of %s at height %d, it gives that of %q at %d",
			c.base, chainID, height, printable(commit.ChainID), commit.Height)
	}
	return commit, nil
}

// get returns the body of an answer of at most limit bytes. What is longer is not
// read to its end.
func (c *Client) get(ctx context.Context, path string, query url.Values, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	u := c.base.JoinPath(path)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("cannot ask the witness %s: %w", c.base, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if outer, ok := errors.AsType[*url.Error](err); ok {
			err = outer.Err // without the address, which is there already
		}
		return nil, fmt.Errorf("cannot ask the witness %s: %w", c.base, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot read the answer of the witness %s: %w", c.base, err)
	case int64(len(body)) > limit:
		return nil, fmt.Errorf("cannot use the witness %s: %w: more than %d bytes", c.base, errShape, limit)
	case resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusInternalServerError || !looksJSON(body):
		// A node says no with status 500 and a JSON body.
		return nil, fmt.Errorf("cannot use the witness %s: %w (HTTP %d); is it a metrics port, or a proxy?", c.base, errShape, resp.StatusCode)
	}
	return body, nil
}

func looksJSON(body []byte) bool {
	return strings.HasPrefix(strings.TrimLeft(string(body[:min(len(body), 64)]), " \t\r\n"), "{")
}
