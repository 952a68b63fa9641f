package vault

import (
	"cmp"
	"context"
	"fmt"
	"time"
)

// keepPause is how long a connection may be idle before it is used. What stands between
// us and the server forgets connections that are idle for a minute.
const keepPause = 20 * time.Second

// lost reports whether a new token may help. A role may get other policies, but a new
// login for each vote would flood the server.
func (s *session) lost(r reason) bool {
	return r == expired || r == forbidden && time.Since(s.made) > time.Minute
}

// current returns the session, after a login where there is none.
func (c *Client) current(ctx context.Context) (*session, error) {
	if err := c.takeTurn(ctx); err != nil {
		return nil, err
	}
	defer c.endTurn()
	if c.session == nil {
		s, err := c.logIn(ctx)
		if err != nil {
			return nil, err
		}
		c.keepNew(s)
	}
	return c.session, nil
}

// renewed returns another session than old, which the server refuses; nil where there
// is none: the token in the file is the same.
func (c *Client) renewed(ctx context.Context, old *session) (*session, error) {
	if err := c.takeTurn(ctx); err != nil {
		return nil, err
	}
	defer c.endTurn()
	if c.session != old && c.session != nil {
		return c.session, nil // another call was first
	}
	s, err := c.logIn(ctx)
	switch {
	case err != nil:
		return nil, err
	case s.token == old.token:
		return nil, nil
	}
	c.keepNew(s)
	return s, nil
}

// keepNew makes s the session. The caller has the turn.
func (c *Client) keepNew(s *session) {
	c.session = s
	select {
	case c.poke <- struct{}{}:
	default:
	}
}

func (c *Client) takeTurn(ctx context.Context) error {
	r := request{what: "session"}
	select {
	case <-c.turn:
		return nil
	case <-c.ctx.Done():
		return c.fail(r, closed, "")
	case <-ctx.Done():
		return c.fail(r, slow, "")
	}
}

func (c *Client) endTurn() { c.turn <- struct{}{} }

// secret reads what our login is by: a token, or a role's secret id.
func (c *Client) secret() (string, error) {
	text, err := readSecret(cmp.Or(c.c.TokenFile, c.c.AppRole.SecretIDFile), c.c.Credentials)
	if err != nil {
		return "", fmt.Errorf("cannot log in at %s: %w", c.base, err)
	}
	return text, nil
}

// logIn returns a new session.
func (c *Client) logIn(ctx context.Context) (*session, error) {
	secret, err := c.secret()
	if err != nil {
		return nil, err
	}
	if c.c.TokenFile != "" {
		return &session{token: secret, made: time.Now()}, nil
	}
	var l login
	r := request{what: "login", method: "POST", path: "auth/" + c.c.AppRole.Mount + "/login", login: true,
		body: map[string]string{"role_id": c.c.AppRole.RoleID, "secret_id": secret}}
	if failed := c.exchange(ctx, "", r, &l); failed != nil {
		failed.detail = hide(hide(failed.detail, secret), c.c.AppRole.RoleID)
		return nil, failed
	}
	if !isSecretText(l.Auth.ClientToken) || l.Auth.LeaseDuration < 0 {
		return nil, c.fail(r, malformed, "it holds no token")
	}
	now := time.Now()
	lease := time.Duration(l.Auth.LeaseDuration) * time.Second
	return &session{token: l.Auth.ClientToken, made: now, since: now, lease: lease, first: lease, known: true, renew: l.Auth.Renewable}, nil
}

// keep has a session and a connection ready, until Close.
func (c *Client) keep() {
	defer close(c.kept)
	for {
		pause := c.tend(c.ctx, time.Now())
		select {
		case <-c.ctx.Done():
			return
		case <-c.poke:
		case <-time.After(pause):
		}
	}
}

// tend does once what there is to do at the time now: log in, renew what has used up
// two thirds of its lease, use the connection. What fails is tried again after the
// returned pause, and by the call that needs it.
func (c *Client) tend(ctx context.Context, now time.Time) time.Duration {
	s, err := c.current(ctx)
	if err == nil && !s.known {
		err = c.lookUp(ctx, s, now)
	}
	if err == nil && s.isDue(now) {
		err = c.extend(ctx, s, now)
	}
	if err != nil && ctx.Err() == nil {
		c.c.Log.Warn("cannot keep the session with the Vault server", "error", err)
	}
	c.send(ctx, "", request{what: "health", method: "GET", path: health})
	if s == nil {
		return keepPause
	}
	return s.pause(now)
}

func (s *session) isDue(now time.Time) bool {
	return s.lease > 0 && now.Sub(s.since) >= s.lease*2/3
}

// pause returns how long the session can be left alone.
func (s *session) pause(now time.Time) time.Duration {
	if s.lease == 0 {
		return keepPause
	}
	left := s.since.Add(s.lease * 2 / 3).Sub(now)
	return min(keepPause, max(left, s.lease/10, time.Second))
}

// self is what the server says of our token.
type self struct {
	TTL              int64    `json:"ttl"` // seconds; 0: forever
	Renewable        bool     `json:"renewable"`
	Policies         []string `json:"policies"`
	IdentityPolicies []string `json:"identity_policies"`
}

// selfRequest asks for it. A token without the policy "default" may not ask.
var selfRequest = request{what: "token", method: "GET", path: "auth/token/lookup-self"}

// lookUp asks how long a token lives that came out of a file. One that may not ask counts
// as one that lives forever.
func (c *Client) lookUp(ctx context.Context, s *session, now time.Time) error {
	var t self
	if failed := c.exchange(ctx, s.token, selfRequest, &t); failed != nil && failed.reason != forbidden {
		return failed
	}
	lease := time.Duration(max(t.TTL, 0)) * time.Second
	s.known, s.since, s.lease, s.first, s.renew = true, now, lease, lease, t.Renewable
	return nil
}

// extend renews the session. Where the server does not let us, or the end that it set
// at the login comes near, a new session follows: another login, or what the token file
// holds by now.
func (c *Client) extend(ctx context.Context, s *session, now time.Time) error {
	var failed *Error
	if s.renew {
		var l login
		r := request{what: "token", method: "POST", path: "auth/token/renew-self", body: struct{}{}}
		failed = c.exchange(ctx, s.token, r, &l)
		lease := time.Duration(max(l.Auth.LeaseDuration, 0)) * time.Second
		switch {
		case failed == nil && lease >= s.first/2:
			s.since, s.lease = now, lease
			return nil
		case failed != nil && failed.reason != forbidden && failed.reason != expired:
			return failed
		}
	}
	next, err := c.renewed(ctx, s)
	switch {
	case err != nil:
		return err
	case next == nil && failed != nil:
		return failed
	case next == nil:
		return fmt.Errorf("the token in %s expires at %s, and the server does not renew it\nwrite a new token to the file; it is read without a restart", c.c.TokenFile, s.since.Add(s.lease).UTC().Format(time.RFC3339))
	}
	return nil
}
