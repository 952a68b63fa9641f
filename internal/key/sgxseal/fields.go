package sgxseal

import (
	"bytes"
	"encoding/binary"
)

// All files of this package are a first line and fields, each with its length in two bytes
// before it, big-endian.

func appendField[T string | []byte](b []byte, field T) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(field))), field...)
}

// fields takes the fields off a file.
type fields struct {
	rest []byte
	bad  bool
}

// next returns a copy of the next field, nil if it is not there or has another length.
func (f *fields) next(least, most int) []byte {
	if f.bad || len(f.rest) < 2 {
		f.bad = true
		return nil
	}
	n := int(binary.BigEndian.Uint16(f.rest))
	if n < least || n > most || n > len(f.rest)-2 {
		f.bad = true
		return nil
	}
	field := bytes.Clone(f.rest[2 : 2+n])
	f.rest = f.rest[2+n:]
	return field
}

// done reports whether all fields were there, and nothing else is.
func (f *fields) done() bool { return !f.bad && len(f.rest) == 0 }
