package yubihsmtest

import (
	"encoding/binary"
	"slices"
	"strings"
)

// Object is what is known of an object of the device.
type Object struct {
	Type         Type
	ID           uint16
	Algorithm    byte
	Label        string
	Domains      uint16 // bit 0 is domain 1
	Capabilities Capabilities
	Delegated    Capabilities // of authentication and wrap keys
}

// Where an object comes from.
const (
	generated = 0x01
	imported  = 0x02
	underWrap = 0x10
)

const (
	maxObjects = 256
	labelSize  = 40
)

type ref struct {
	typ Type
	id  uint16
}

type object struct {
	Object
	sequence byte
	origin   byte
	secret   []byte // of a key, in the form of a backup; the data of an opaque object
}

func (o *object) ref() ref { return ref{o.Type, o.ID} }

// length is the size that the device reports, of what it keeps.
func (o *object) length() uint16 {
	n := len(o.secret)
	switch {
	case o.Algorithm == Ed25519:
		n = 128
	case o.Type.hasDelegated():
		n += 8
	}
	return uint16(n)
}

func label(text string) []byte {
	b := make([]byte, labelSize)
	copy(b, text)
	return b
}

// readFilters reads the filters of a listing, a byte and a value each.
func readFilters(in []byte) (filters []func(*object) bool, err error) {
	sizes := map[byte]int{1: 2, 2: 1, 3: 2, 4: 8, 5: 1, 6: labelSize}
	for len(in) > 0 {
		kind, size := in[0], sizes[in[0]]
		if size == 0 {
			return nil, InvalidData
		}
		if kind == 6 && len(in) < 1+size { // the last one may come without its zeros
			in = append(slices.Clone(in), make([]byte, 1+size-len(in))...)
		}
		if len(in) < 1+size {
			return nil, WrongLength
		}
		filters = append(filters, filter(kind, in[1:1+size]))
		in = in[1+size:]
	}
	return filters, nil
}

func filter(kind byte, value []byte) func(*object) bool {
	number := binary.BigEndian.Uint64(append(make([]byte, max(0, 8-len(value))), value...)[:8])
	switch kind {
	case 1:
		return func(o *object) bool { return uint64(o.ID) == number }
	case 2:
		return func(o *object) bool { return uint64(o.Type) == number }
	case 3:
		return func(o *object) bool { return uint64(o.Domains)&number != 0 }
	case 4:
		return func(o *object) bool { return uint64(o.Capabilities)&number != 0 }
	case 5:
		return func(o *object) bool { return uint64(o.Algorithm) == number }
	}
	return func(o *object) bool { return o.Label == strings.TrimRight(string(value), "\x00") }
}
