package nsm

import (
	"encoding/binary"
	"math"
	"unicode/utf8"
)

// The kinds of CBOR items (RFC 8949, 3.1) that requests and answers are made of.
const (
	number  = 0 // not negative
	octets  = 2
	text    = 3
	array   = 4
	mapping = 5
	simple  = 7
)

// Simple values (RFC 8949, 3.3), and the byte that ends an array or a map of open
// length.
const (
	isFalse  = 20
	isTrue   = 21
	null     = 0xf6
	breakOff = 0xff
)

// Limits of an answer, in items.
const (
	maxFields   = 16
	maxElements = 64
	maxDepth    = 4
)

// appendHead appends the beginning of an item in its shortest form: its kind, and its
// number, length in bytes, or count of elements.
func appendHead(b []byte, kind byte, n uint16) []byte {
	switch {
	case n < 24:
		return append(b, kind<<5|byte(n))
	case n <= math.MaxUint8:
		return append(b, kind<<5|24, byte(n))
	}
	return binary.BigEndian.AppendUint16(append(b, kind<<5|25), n)
}

func appendText(b []byte, s string) []byte { return append(appendHead(b, text, uint16(len(s))), s...) }

// appendOctets appends null for a field that is left out.
func appendOctets(b, field []byte) []byte {
	if field == nil {
		return append(b, null)
	}
	return append(appendHead(b, octets, uint16(len(field))), field...)
}

// A reader takes an answer apart: numbers, texts, bytes, true and false, arrays, maps of
// texts. Arrays and maps may be of open length, which the hypervisor writes since 2026;
// strings may not, nor are there tags and fractions. After the first wrong byte it is
// bad, has nothing more to read, and what it returns means nothing.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) fail() { r.rest, r.bad = nil, true }

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.fail()
		return nil
	}
	out := r.rest[:n:n]
	r.rest = r.rest[n:]
	return out
}

// head reads what appendHead appends, in any width. open: there is no count, but a break
// after the last element.
func (r *reader) head() (kind byte, n uint64, open bool) {
	first := r.take(1)
	if r.bad {
		return simple, 0, false
	}
	kind, info := first[0]>>5, first[0]&31
	switch {
	case info < 24:
		return kind, uint64(info), false
	case info <= 27 && kind != simple:
		for _, b := range r.take(1 << (info - 24)) {
			n = n<<8 | uint64(b)
		}
		return kind, n, false
	case info == 31 && (kind == array || kind == mapping):
		return kind, 0, true
	}
	r.fail()
	return simple, 0, false
}

// string reads the length and the bytes of one of the two kinds of strings.
func (r *reader) string(want byte) []byte {
	kind, n, _ := r.head()
	if kind != want {
		r.fail()
		return nil
	}
	return r.take(n)
}

func (r *reader) octets() []byte { return r.string(octets) }

func (r *reader) text() string {
	s := r.string(text)
	if !utf8.Valid(s) {
		r.fail()
	}
	return string(s)
}

func (r *reader) uint16() uint16 {
	kind, n, _ := r.head()
	if kind != number || n > math.MaxUint16 {
		r.fail()
	}
	return uint16(n)
}

func (r *reader) bool() bool {
	kind, n, _ := r.head()
	if kind != simple || n != isFalse && n != isTrue {
		r.fail()
	}
	return n == isTrue
}

// each calls read for every element of an array, or entry of a map.
func (r *reader) each(want byte, limit uint64, read func()) {
	kind, n, open := r.head()
	if kind != want || n > limit {
		r.fail()
	}
	for i := uint64(0); !r.bad; i++ {
		if !open && i == n || open && len(r.rest) > 0 && r.rest[0] == breakOff {
			break
		}
		if i == limit {
			r.fail()
			return
		}
		read()
	}
	if open {
		r.take(1)
	}
}

// entries reads a map. field reads the value of the field with this name, and returns
// false for a name that is unknown. A name that comes twice is an error.
func (r *reader) entries(field func(name string) bool) {
	seen := map[string]bool{}
	r.each(mapping, maxFields, func() {
		name := r.text()
		if seen[name] || !field(name) {
			r.fail()
		}
		seen[name] = true
	})
}

// skip reads one item of any kind, with at most depth items around it.
func (r *reader) skip(depth int) {
	if depth > maxDepth {
		r.fail()
		return
	}
	item := *r
	switch kind, _, _ := item.head(); kind {
	case number, simple:
		r.head()
	case octets, text:
		r.string(kind)
	case array:
		r.each(array, maxElements, func() { r.skip(depth + 1) })
	case mapping:
		r.each(mapping, maxFields, func() { r.text(); r.skip(depth + 1) })
	default:
		r.fail()
	}
}
