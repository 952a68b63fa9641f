package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// health is answered without a token, and the same for all namespaces.
const health = "sys/health"

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
	// What Vault requires of its agents, against requests that a page of a browser forges.
	req.Header.Set("X-Vault-Request", "true")
	if token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	if c.c.Namespace != "" && r.path != health {
		req.Header.Set("X-Vault-Namespace", c.c.Namespace)
	}
	return req, nil
}
