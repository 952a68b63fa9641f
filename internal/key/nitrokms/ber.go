package nitrokms

// maxDepth bounds elements within elements. The deepest of an envelope are in 10 others,
// and its octets, which are in 5, may be in pieces of pieces.
const maxDepth = 16

// element is one of BER (X.690, 8.1), whose form is no longer to be seen: how its length
// was written, and where its end was. Octets in pieces are still that.
type element struct {
	tag     byte
	content []byte    // if it is primitive
	parts   []element // if it is constructed
}

const (
	tagOctets   = 0x04 // OCTET STRING
	constructed = 0x20 // the bit of a tag
)

// parseElement reads an element: lengths of any form, tags of one byte.
func parseElement(b []byte, depth int) (e element, rest []byte, ok bool) {
	if len(b) < 2 || b[0] == 0 || b[0]&0x1f == 0x1f || depth > maxDepth {
		return element{}, nil, false
	}
	e.tag = b[0]
	n, indefinite, rest, ok := parseLength(b[1:])
	if !ok || indefinite && e.tag&constructed == 0 {
		return element{}, nil, false
	}
	content := rest
	if !indefinite {
		content, rest = rest[:n], rest[n:]
	}
	if e.tag&constructed == 0 {
		e.content = content
		return e, rest, true
	}
	for {
		if !indefinite && len(content) == 0 {
			return e, rest, true
		}
		if indefinite && len(content) >= 2 && content[0] == 0 && content[1] == 0 {
			return e, content[2:], true
		}
		var part element
		if part, content, ok = parseElement(content, depth+1); !ok {
			return element{}, nil, false
		}
		e.parts = append(e.parts, part)
	}
}

// parseLength reads a length that fits into what follows it. Leading zeros are allowed
// (8.1.3.5).
func parseLength(b []byte) (n int, indefinite bool, rest []byte, ok bool) {
	first, b := b[0], b[1:]
	switch {
	case first == 0x80:
		return 0, true, b, true
	case first < 0x80:
		n = int(first)
	case first == 0xff || int(first&0x7f) > len(b): // the first is reserved
		return 0, false, nil, false
	default:
		digits := b[:first&0x7f]
		b = b[len(digits):]
		for _, d := range digits {
			if n = n<<8 | int(d); n > len(b) {
				return 0, false, nil, false
			}
		}
	}
	return n, false, b, n <= len(b)
}

// reader reads elements one after the other. After the first that is not as expected
// all of an envelope's readers only fail.
type reader struct {
	parts []element
	bad   *bool
}

func (r *reader) require(ok bool) { *r.bad = *r.bad || !ok }

// next reports whether the next element has the tag.
func (r *reader) next(tag byte) bool { return len(r.parts) > 0 && r.parts[0].tag == tag }

func (r *reader) take() element {
	e := r.parts[0]
	r.parts = r.parts[1:]
	return e
}

// enter has what is in the next element read, all of it.
func (r *reader) enter(tag byte, read func(*reader)) {
	if r.require(r.next(tag)); *r.bad {
		return
	}
	within := &reader{parts: r.take().parts, bad: r.bad}
	read(within)
	r.require(len(within.parts) == 0)
}

// constant reads a primitive element that is always the same.
func (r *reader) constant(tag byte, content string) {
	if r.require(r.next(tag)); !*r.bad {
		r.require(string(r.take().content) == content)
	}
}

// octets reads an OCTET STRING, or what is one but for its tag: whole, or in pieces,
// which may be in pieces themselves (8.7). What it returns is a copy.
func (r *reader) octets(tag byte) []byte {
	if r.require(r.next(tag) || r.next(tag|constructed)); *r.bad {
		return nil
	}
	e := r.take()
	if e.tag == tag {
		return append([]byte{}, e.content...)
	}
	var all []byte
	for pieces := (&reader{parts: e.parts, bad: r.bad}); len(pieces.parts) > 0 && !*r.bad; {
		all = append(all, pieces.octets(tagOctets)...)
	}
	return all
}
