package dynamostore

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/url"
	"time"

	"privyseal/internal/awsjson"
	"privyseal/internal/secret"
	"privyseal/internal/strictjson"
)

// way is a connection to DynamoDB.
type way struct {
	raw  net.Conn // below TLS
	http *awsjson.Conn
}

// Not the TLS connection's Close, which waits to say goodbye.
func (w *way) close() { w.raw.Close() }

// alive reports whether the server has left the connection open. What came while nobody
// asked is its goodbye.
func (w *way) alive() bool { return quiet(w.raw) }

// client calls DynamoDB.
type client struct {
	c     Config
	url   *url.URL
	way   *way      // nil: none
	since time.Time // of the last look at the table; zero: never on this way
}

// drop ends the way. On the next one the table has to be looked at.
func (e *client) drop() {
	if e.way != nil {
		e.way.close()
	}
	e.way, e.since = nil, time.Time{}
}

// connect returns a new way.
func (e *client) connect(ctx context.Context) (*way, error) {
	port := e.url.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[e.url.Scheme]
	}
	raw, err := e.c.Dial(ctx, net.JoinHostPort(e.url.Hostname(), port))
	if err != nil {
		return nil, err
	}
	if e.url.Scheme == "http" {
		return &way{raw: raw, http: awsjson.NewConn(raw)}, nil
	}
	conn := tls.Client(raw, &tls.Config{ServerName: e.url.Hostname(), RootCAs: e.c.Roots, MinVersion: tls.VersionTLS12, Time: e.c.Now})
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	return &way{raw: raw, http: awsjson.NewConn(conn)}, nil
}

// call makes one call, on the way that there is or on a new one, and reads its answer into
// answer. The error is an *[Error], or a *lostError.
func (e *client) call(ctx context.Context, op string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return &Error{Op: op, Reason: ErrRequest, Detail: err.Error(), notSent: true, final: true}
	}
	c, err := e.c.Credentials.Credentials(ctx)
	if err == nil && !awsjson.Usable(c) {
		err = errors.New("they are malformed")
	}
	if err != nil {
		return &Error{Op: op, Reason: ErrCredentials, Detail: err.Error(), notSent: true}
	}
	if e.way == nil {
		w, err := e.connect(ctx)
		if err != nil {
			return failure(ctx, op, err, false)
		}
		e.way = w
	}
	a, failed := e.exchange(ctx, op, c, body)
	if failed != nil {
		e.drop()
		return failed
	}
	if a.Last {
		e.way.close()
		e.way = nil // but the look at the table holds
	}
	if a.Status != 200 {
		return e.refused(a, op, c)
	}
	if err := strictjson.Unmarshal(a.Body, answer); err != nil {
		e.drop()
		return &Error{Op: op, Reason: ErrAnswer, Detail: "it is not the JSON that was expected"}
	}
	return nil
}

// exchange sends a request on the way, and reads the answer.
func (e *client) exchange(ctx context.Context, op string, c secret.AWS, body []byte) (*awsjson.Answer, error) {
	if err := ctx.Err(); err != nil {
		return nil, failure(ctx, op, err, false)
	}
	w := e.way
	defer context.AfterFunc(ctx, w.close)()
	a, err := w.http.Do(awsjson.Request{Service: "dynamodb", Region: e.c.Region, Host: e.url.Host, Type: "application/x-amz-json-1.0",
		Target: "DynamoDB_20120810." + op, Body: body, Keep: true}, c, e.c.Now())
	if err != nil {
		return nil, failure(ctx, op, err, true)
	}
	return a, nil
}

// refused makes an error of an answer that is not 200, and of what follows from it for the
// next call.
func (e *client) refused(a *awsjson.Answer, op string, c secret.AWS) error {
	err := refusal(a, op, c, e.c.Now())
	if errors.Is(err, ErrCredentials) || errors.Is(err, ErrExpired) {
		e.c.Credentials.Refused(c)
	}
	if errors.Is(err, ErrUnavailable) || errors.Is(err, ErrOther) || errors.Is(err, ErrNoTable) {
		e.drop() // another server may know better; and the table may be another one
	}
	return err
}
