package nitrokms

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"strconv"
	"strings"
)

// Limits in bytes of an answer.
const (
	maxHeaders = 16 << 10
	maxBody    = 64 << 10
)

// answer is an HTTP answer.
type answer struct {
	status int
	header textproto.MIMEHeader
	body   []byte
}

var errHTTP = errors.New("it is not an HTTP/1.1 response")

// exchange sends one POST to "/" and reads the answer (RFC 9112). The
// connection is of no use afterwards.
func exchange(conn io.ReadWriter, headers []header, body []byte) (*answer, error) {
	var b strings.Builder
	b.WriteString("POST / HTTP/1.1\r\n")
	for _, h := range headers {
		b.WriteString(h.name + ": " + h.value + "\r\n")
	}
	b.WriteString("connection: close\r\ncontent-length: " + strconv.Itoa(len(body)) + "\r\n\r\n")
	if _, err := conn.Write(append([]byte(b.String()), body...)); err != nil {
		return nil, err
	}
	return readAnswer(conn)
}

func readAnswer(conn io.Reader) (*answer, error) {
	limited := &io.LimitedReader{R: conn, N: maxHeaders}
	r := bufio.NewReader(limited)
	tp := textproto.NewReader(r)
	line, err := tp.ReadLine()
	if err != nil {
		return nil, malformed(err)
	}
	a := &answer{}
	if a.status, err = parseStatus(line); err != nil {
		return nil, err
	}
	if a.header, err = tp.ReadMIMEHeader(); err != nil {
		return nil, malformed(err)
	}
	limited.N = 2 * maxBody // what chunks may cost in all
	length, encoding := a.header.Values("Content-Length"), a.header.Values("Transfer-Encoding")
	switch {
	case len(length) == 1 && len(encoding) == 0:
		a.body, err = readBody(r, length[0], 10)
	case len(length) == 0 && len(encoding) == 1 && strings.EqualFold(encoding[0], "chunked"):
		a.body, err = readChunks(r)
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
