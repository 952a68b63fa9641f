package etcd

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/net/http2/hpack"
)

// maxHeaders bounds a block of headers, both as it is sent and as RFC 9113 counts the
// list: 32 bytes more for each.
const maxHeaders = 16 << 10

// headers are those of an answer, or its trailers: what we look at.
type headers struct {
	status     string // ":status", "" in trailers
	contents   string // "content-type"
	grpcStatus string
	message    string // "grpc-message", still percent-encoded
	size       int
	regular    bool // one without a colon was there
	err        error
}

// add is called with each header in turn.
func (h *headers) add(f hpack.HeaderField) {
	h.size += len(f.Name) + len(f.Value) + 32
	pseudo := strings.HasPrefix(f.Name, ":")
	var where *string
	switch f.Name {
	case ":status":
		where = &h.status
	case "content-type":
		where = &h.contents
	case "grpc-status":
		where = &h.grpcStatus
	case "grpc-message":
		where = &h.message
	}
	switch {
	case h.err != nil:
	case h.size > maxHeaders:
		h.err = errors.New("too many headers")
	case pseudo && (h.regular || where == nil):
		h.err = fmt.Errorf("the header %q, where there is none", clean(f.Name))
	case where != nil && *where != "":
		h.err = fmt.Errorf("the header %s twice", f.Name)
	case where != nil:
		*where = f.Value
	}
	h.regular = h.regular || !pseudo
}

// readHeaders decodes a whole block. The decoder has to see every block of a connection.
func readHeaders(d *hpack.Decoder, block []byte) (headers, error) {
	var h headers
	d.SetEmitFunc(h.add)
	if _, err := d.Write(block); err != nil {
		return h, fmt.Errorf("headers: %w", err)
	}
	if err := d.Close(); err != nil {
		return h, fmt.Errorf("headers: %w", err)
	}
	return h, h.err
}

// informational reports whether others follow: a status of 1xx.
func (h headers) informational() bool { return len(h.status) == 3 && h.status[0] == '1' }

// isGRPC checks that a gRPC server has answered.
func (h headers) isGRPC() error {
	rest, ok := strings.CutPrefix(h.contents, "application/grpc")
	if h.status != "200" || !ok || rest != "" && rest[0] != '+' && rest[0] != ';' {
		return fmt.Errorf("an answer with HTTP status %q and content type %q, as no etcd gives one", clean(h.status), clean(h.contents))
	}
	return nil
}

// result returns the gRPC status that the trailers have: nil for OK. Anything that is no
// *Error means that there is none.
func (h headers) result() error {
	code, err := strconv.ParseUint(h.grpcStatus, 10, 10)
	if err != nil || strconv.FormatUint(code, 10) != h.grpcStatus {
		return fmt.Errorf("an answer with the gRPC status %q", clean(h.grpcStatus))
	}
	if code == 0 {
		return nil
	}
	return &Error{int(code), clean(unpercent(h.message))}
}

// unpercent decodes the percent-encoding of grpc-message. What is no such code stays.
func unpercent(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(v))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// clean makes text of others fit for a line of a log.
func clean(s string) string {
	if len(s) > 1<<10 {
		s = s[:1<<10]
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			return r
		}
		return '?'
	}, s)
}

// appendHeader appends a header as a literal that no table keeps (RFC 7541, section
// 6.2.2), so that the encoding has no state.
func appendHeader(b []byte, name, value string) []byte {
	b = appendText(append(b, 0), name)
	return appendText(b, value)
}

// appendText appends a string literal without Huffman coding.
func appendText(b []byte, s string) []byte {
	n := len(s)
	if n < 127 {
		return append(append(b, byte(n)), s...)
	}
	b = append(b, 127)
	for n -= 127; n >= 128; n >>= 7 {
		b = append(b, byte(n)|128)
	}
	return append(append(b, byte(n)), s...)
}
