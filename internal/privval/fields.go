package privval

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// fields walks the fields of one message, strictly: ascending numbers, each
// once, shortest varints, no scalar that is zero. The first fault is kept in
// err, and every read after it returns zero.
//
// That holds for the fields that we know. One of another number is a fault where
// skipped is nil, and counted there otherwise: it may stand anywhere, often, and
// hold whatever protobuf can read over.
type fields struct {
	b       []byte
	last    protowire.Number // the last known one
	num     protowire.Number
	typ     protowire.Type
	skipped *int
	err     error
}

var (
	errOrder   = errors.New("a field out of order or twice")
	errVarint  = errors.New("a number that is cut off or not in its shortest form")
	errZero    = errors.New("a zero value written out")
	errRange   = errors.New("a number out of its range")
	errCut     = errors.New("a field that is cut off")
	errMissing = errors.New("a field is missing")
)

// next moves to the next field and reports whether there is one.
func (f *fields) next() bool {
	if f.err != nil || len(f.b) == 0 {
		return false
	}
	tag := f.uvarint()
	if f.err != nil {
		return false
	}
	f.num, f.typ = protowire.DecodeTag(tag)
	if f.num <= f.last && f.skipped == nil || !f.num.IsValid() {
		f.err = errOrder
		return false
	}
	return true
}

// unknown faults the current field: its number or its type is unknown.
func (f *fields) unknown() {
	if f.err == nil {
		f.err = fmt.Errorf("field %d of wire type %d is unknown here", f.num, f.typ)
	}
}

// foreign passes over the current field, whose number is unknown, or faults
// it where nothing may be passed over.
func (f *fields) foreign() {
	if f.skipped == nil {
		f.unknown()
	}
	if f.err != nil {
		return
	}
	n := protowire.ConsumeFieldValue(f.num, f.typ, f.b)
	if n < 0 {
		f.err = errCut
		return
	}
	f.b = f.b[n:]
	*f.skipped++
}

// want checks the type of the current field, which we know, and that it is in
// its place.
func (f *fields) want(t protowire.Type) bool {
	switch {
	case f.err != nil:
	case f.num <= f.last:
		f.err = errOrder
	case f.typ != t:
		f.unknown()
	}
	f.last = f.num
	return f.err == nil
}

func (f *fields) uvarint() uint64 {
	v, n := protowire.ConsumeVarint(f.b)
	if n < 0 || n != protowire.SizeVarint(v) {
		f.err = errVarint
		return 0
	}
	f.b = f.b[n:]
	return v
}

func (f *fields) varint() uint64 {
	if !f.want(protowire.VarintType) {
		return 0
	}
	v := f.uvarint()
	if v == 0 && f.err == nil {
		f.err = errZero
	}
	return v
}

func (f *fields) int64() int64 { return int64(f.varint()) }

// int32 reads an int32, which protobuf writes sign-extended to 64 bits.
func (f *fields) int32() int32 {
	v := f.int64()
	if v != int64(int32(v)) {
		f.err = errRange
		return 0
	}
	return int32(v)
}

func (f *fields) uint32() uint32 {
	v := f.varint()
	if v != uint64(uint32(v)) {
		f.err = errRange
		return 0
	}
	return uint32(v)
}

func (f *fields) bool() bool {
	if f.varint() > 1 {
		f.err = errRange
		return false
	}
	return f.err == nil
}

// sfixed64 reads a little-endian int64.
func (f *fields) sfixed64() int64 {
	if !f.want(protowire.Fixed64Type) {
		return 0
	}
	v, n := protowire.ConsumeFixed64(f.b)
	switch {
	case n < 0:
		f.err = errCut
		return 0
	case v == 0:
		f.err = errZero
		return 0
	}
	f.b = f.b[n:]
	return int64(v)
}

// message reads an embedded message, which unlike a scalar may be empty.
func (f *fields) message() fields {
	if !f.want(protowire.BytesType) {
		return fields{err: f.err}
	}
	size := f.uvarint()
	if f.err == nil && size > uint64(len(f.b)) {
		f.err = errCut
	}
	if f.err != nil {
		return fields{err: f.err}
	}
	m := fields{b: f.b[:size:size], skipped: f.skipped}
	f.b = f.b[size:]
	return m
}

// bytes reads a byte string. The result shares the message's memory.
func (f *fields) bytes() []byte {
	m := f.message()
	if f.err == nil && len(m.b) == 0 {
		f.err = errZero
	}
	return m.b
}

// done ends the walk: in, the walk of an embedded message, has to have ended
// without a fault.
func (f *fields) done(in *fields) {
	if f.err == nil {
		f.err = in.err
	}
}
