// Package awsjson makes one call of a service of AWS that speaks its JSON protocol, over a
// connection that the caller has: a request to sign with Signature Version 4, and one
// strict reader of HTTP/1.1 answers. It is written by hand, because the SDK would make half
// of the measured program of an enclave, and net/http a tenth.
//
// It dials nothing, knows no service, and neither waits nor tries twice. What is in an
// answer is for the caller to decode; it is trusted as far as the caller's connection is.
package awsjson

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"privyseal/internal/secret"
)

// Request is one call: a POST to "/".
type Request struct {
	Service string // its name in the signature: "kms"
	Region  string
	Host    string // of the header of that name
	Type    string // content type: which JSON protocol it is
	Target  string // version and operation: "TrentService.Decrypt"
	Body    []byte
	// Keep says that the connection is used again, unless the answer is Last.
	Keep bool
}

// headers returns the headers of a request at a time, its signature last.
func (q *Request) headers(c secret.AWS, at time.Time) []header {
	list := []header{
		{"content-type", q.Type},
		{"host", q.Host},
		{"x-amz-date", at.UTC().Format(timeFormat)},
	}
	if token := c.SessionToken.Reveal(); token != "" {
		list = append(list, header{"x-amz-security-token", token})
	}
	list = append(list, header{"x-amz-target", q.Target})
	return append(list, header{"authorization", authorize(c, q.Region, q.Service, at, list, q.Body)})
}

// Do sends a request that is signed with credentials, [Usable] ones, at a time, and reads
// the answer, which is not success by its status alone. After an error, and after the last
// answer, the connection is of no use; after an error nobody knows what became of the request.
func (c *Conn) Do(q Request, credentials secret.AWS, at time.Time) (*Answer, error) {
	var b strings.Builder
	b.WriteString("POST / HTTP/1.1\r\n")
	for _, h := range q.headers(credentials, at) {
		b.WriteString(h.name + ": " + h.value + "\r\n")
	}
	if !q.Keep {
		b.WriteString("connection: close\r\n")
	}
	b.WriteString("content-length: " + strconv.Itoa(len(q.Body)) + "\r\n\r\n")
	if c.r.Buffered() > 0 {
		return nil, fmt.Errorf("%w: it came before the request", errHTTP)
	}
	if _, err := c.conn.Write(append([]byte(b.String()), q.Body...)); err != nil {
		return nil, err
	}
	return c.read()
}
