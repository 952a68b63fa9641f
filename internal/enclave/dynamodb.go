package enclave

import (
	"context"
	"net"
	"sync"
	"time"

	"privyseal/internal/hostlink"
	"privyseal/internal/secret"
	"privyseal/internal/sharedmark"
	"privyseal/internal/watermark"
)

// table is how the DynamoDB of the policy is reached. The host gives credentials; which table
// it is, TLS and the TableId decide in here.
type table struct {
	try  time.Duration
	role role
}

// takeTable takes over what a boot says of DynamoDB.
func (e *enclave) takeTable(b *hostlink.BootDynamoDB) {
	now := e.openTable(b)
	if old, ok := e.database.(*table); ok {
		if old.try != now.try {
			e.log.Warn("another try of DynamoDB counts when the enclave is restarted: " + e.c.Cures.Restart)
		}
		return
	}
	e.database = now
}

func (e *enclave) openTable(b *hostlink.BootDynamoDB) *table {
	return &table{try: tryOf(b.Try, hostlink.MinTableTry, hostlink.MaxTableTry), role: role{dial: e.c.Dial}}
}

// engine implements [database].
func (t *table) engine(e *enclave, id watermark.ID) (sharedmark.Engine, error) {
	return e.c.DynamoDB(Table{
		Policy: e.c.Policy, Try: t.try, ID: id,
		Dial: func(ctx context.Context) (net.Conn, error) { return e.c.Dial(ctx, hostlink.TablePort) },
		Role: &t.role,
	})
}

// role is a [Role] that the host plays.
type role struct {
	dial func(ctx context.Context, port uint32) (net.Conn, error)

	mu      sync.Mutex
	found   secret.AWS // without an id: none
	refused string     // the id of those that AWS has refused last
}

// renewAhead is how long before their end others are asked for: the host has them by then.
// lastMoment is when the old ones are not used any more: a call with them may come too late.
const (
	renewAhead = 4 * time.Minute
	lastMoment = 15 * time.Second
)

// Credentials implements [Role]: those that it has, while they are good, or those that the host
// gives. Several may ask at once: nobody waits for another one.
func (r *role) Credentials(ctx context.Context) (secret.AWS, error) {
	r.mu.Lock()
	have, hello := r.found, hostlink.RoleHello{Refused: r.refused}
	r.mu.Unlock()
	left := renewAhead + 1
	if !have.Expires.IsZero() {
		left = time.Until(have.Expires)
	}
	if have.AccessKeyID != "" && left > renewAhead {
		return have, nil
	}
	c, err := r.ask(ctx, hello)
	switch {
	case err == nil:
		r.mu.Lock()
		defer r.mu.Unlock()
		r.found, r.refused = c, ""
	case have.AccessKeyID != "" && left > lastMoment:
		return have, nil
	}
	return c, err
}

// ask asks the host.
func (r *role) ask(ctx context.Context, hello hostlink.RoleHello) (secret.AWS, error) {
	conn, err := r.dial(ctx, hostlink.RolePort)
	if err != nil {
		return secret.AWS{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	return hostlink.AskRole(conn, hello)
}

// Refused implements [Role].
func (r *role) Refused(c secret.AWS) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.found.AccessKeyID == c.AccessKeyID && r.found.SessionToken.Reveal() == c.SessionToken.Reveal() {
		r.found, r.refused = secret.AWS{}, c.AccessKeyID
	}
}
