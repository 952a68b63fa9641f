package nitrokms

import (
	"bytes"
	"errors"
	"io"

	"privyseal/internal/secret"
)

// maxHeard is how many bytes of an answer are kept: its first ones.
const maxHeard = 32 << 10

// ear keeps what comes on a connection. A nil one keeps nothing.
type ear struct {
	io.ReadWriter
	heard []byte
}

// on returns the connection, listened to.
func (e *ear) on(conn io.ReadWriter) io.ReadWriter {
	if e == nil {
		return conn
	}
	e.ReadWriter, e.heard = conn, nil
	return e
}

func (e *ear) Read(p []byte) (int, error) {
	n, err := e.ReadWriter.Read(p)
	e.heard = append(e.heard, p[:min(n, maxHeard-len(e.heard))]...)
	return n, err
}

// forget is for an answer with a plaintext in it.
func (e *ear) forget() {
	if e != nil {
		e.heard = nil
	}
}

// harmless reports whether what was heard may be shown. A plaintext is in no answer to an
// attested call; but KMS quotes a request whose signature it does not like, with the session
// token in it.
func (e *ear) harmless(c secret.AWS, err error) bool {
	token := c.SessionToken.Reveal()
	return !errors.Is(err, errCredentials) && !bytes.Contains(bytes.ToLower(e.heard), []byte("plaintext")) &&
		(token == "" || !bytes.Contains(e.heard, []byte(token[:min(len(token), 16)])))
}
