package awsjson

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"strconv"
	"strings"
	"time"
)

// Limits in bytes of an answer.
const (
	maxHeaders = 16 << 10
	maxBody    = 64 << 10
)

// dateHeader is the form of the header Date (RFC 9110, 5.6.7).
const dateHeader = "Mon, 02 Jan 2006 15:04:05 GMT"

// Conn is a connection to a service. It is for one call at a time.
type Conn struct {
	conn    io.ReadWriter
	limited io.LimitedReader
	r       *bufio.Reader
	tp      *textproto.Reader // on r
}

// NewConn returns a Conn on a connection that nothing was read from.
func NewConn(conn io.ReadWriter) *Conn {
	c := &Conn{conn: conn, limited: io.LimitedReader{R: conn}}
	c.r = bufio.NewReader(&c.limited)
	c.tp = textproto.NewReader(c.r)
	return c
}

// Answer is an answer of a service.
type Answer struct {
	Status int // from 200 to 599
	Body   []byte
	// Last says that the server ends the connection after it.
	Last bool
	// Date is when it was made by the server's clock, in whole seconds; zero if the server does
	// not say.
	Date time.Time

	header textproto.MIMEHeader
}

// errHTTP says that what came was no answer, or broke off.
var errHTTP = errors.New("it is not an HTTP/1.1 response")

// read reads one answer (RFC 9112).
func (c *Conn) read() (*Answer, error) {
	c.limited.N = maxHeaders
	line, err := c.tp.ReadLine()
	if err != nil {
		return nil, malformed(err)
	}
	a := &Answer{}
	if a.Status, err = parseStatus(line); err != nil {
		return nil, err
	}
	if a.header, err = c.tp.ReadMIMEHeader(); err != nil {
		return nil, malformed(err)
	}
	a.Last = strings.EqualFold(a.header.Get("Connection"), "close")
	a.Date, _ = time.Parse(dateHeader, a.header.Get("Date"))
	c.limited.N = 2 * maxBody // what chunks may cost in all
	length, encoding := a.header.Values("Content-Length"), a.header.Values("Transfer-Encoding")
	switch {
	case len(length) == 1 && len(encoding) == 0:
		a.Body, err = readBody(c.r, length[0], 10)
	case len(length) == 0 && len(encoding) == 1 && strings.EqualFold(encoding[0], "chunked"):
		a.Body, err = readChunks(c.r)
	default:
		err = fmt.Errorf("%w: it does not give its length", errHTTP)
	}
	if err != nil {
		return nil, malformed(err)
	}
	return a, nil
}

// parseStatus reads "HTTP/1.1 200 OK".
func parseStatus(line string) (int, error) {
	version, rest, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(rest, " ")
	status, err := strconv.ParseUint(code, 10, 16)
	if version != "HTTP/1.1" || len(code) != 3 || err != nil || status < 200 || status > 599 {
		return 0, fmt.Errorf("%w: it begins with %.40q", errHTTP, line)
	}
	return int(status), nil
}

// readBody reads as many bytes as a number says.
func readBody(r io.Reader, number string, base int) ([]byte, error) {
	n, err := strconv.ParseUint(number, base, 32)
	if err != nil || n > maxBody {
		return nil, fmt.Errorf("%w: a length of %.40q", errHTTP, number)
	}
	body := make([]byte, n)
	_, err = io.ReadFull(r, body)
	return body, err
}

// readChunks reads a chunked body without extensions and trailers (7.1).
func readChunks(r *bufio.Reader) ([]byte, error) {
	var body []byte
	for {
		line, err := readLine(r)
		if err != nil {
			return nil, err
		}
		chunk, err := readBody(r, line, 16)
		if err != nil {
			return nil, err
		}
		if body = append(body, chunk...); len(body) > maxBody {
			return nil, fmt.Errorf("%w: it is too long", errHTTP)
		}
		if line, err = readLine(r); err != nil {
			return nil, err
		}
		if line != "" {
			return nil, fmt.Errorf("%w: a chunk does not end", errHTTP)
		}
		if len(chunk) == 0 {
			return body, nil
		}
	}
}

func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(string(line[:len(line)-1]), "\r"), nil
}

// malformed makes errHTTP of what a reader says of the bytes that came, and
// leaves what the connection says.
func malformed(err error) error {
	var protocol textproto.ProtocolError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, bufio.ErrBufferFull):
		return fmt.Errorf("%w: it is cut off, or too long", errHTTP)
	case errors.As(err, &protocol):
		return fmt.Errorf("%w: a header is malformed", errHTTP)
	}
	return err
}
