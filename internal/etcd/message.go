package etcd

import (
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// shape says which fields of a message we read: bit n for field n.
type shape struct{ numbers, bytes, repeated uint64 }

// bits sets the bits of fields.
func bits(fields ...int) (b uint64) {
	for _, n := range fields {
		b |= 1 << n
	}
	return b
}

// walk calls visit for each field of a message that the shape has, strictly: of the type
// that it should have, and once, if it is not repeated. Fields of other numbers, as later
// versions of etcd add them, are skipped. what names the message in errors.
func walk(what string, b []byte, s shape, visit func(field int, n uint64, data []byte) error) error {
	var seen uint64
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("%s: a field without a tag", what)
		}
		b = b[n:]
		var bit, value uint64
		var data []byte
		if num < 64 {
			bit = 1 << num
		}
		switch kind {
		case protowire.VarintType:
			value, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			data, n = protowire.ConsumeBytes(b)
		case protowire.Fixed32Type, protowire.Fixed64Type:
			n = protowire.ConsumeFieldValue(num, kind, b)
		default:
			n = -1 // groups, which proto3 does not have
		}
		b = b[max(n, 0):]
		known := s.numbers | s.bytes
		switch {
		case n < 0:
			return fmt.Errorf("%s: field %d is cut off", what, num)
		case bit&known == 0:
			continue
		case bit&s.numbers != 0 && kind != protowire.VarintType, bit&s.bytes != 0 && kind != protowire.BytesType:
			return fmt.Errorf("%s: field %d is of another type", what, num)
		case bit&seen&^s.repeated != 0:
			return fmt.Errorf("%s: field %d twice", what, num)
		}
		seen |= bit
		if err := visit(int(num), value, data); err != nil {
			return err
		}
	}
	return nil
}

var errNegative = errors.New("a number that is below zero")

// set puts a number where it belongs: one of int64 must not be negative.
func set(to *uint64, n uint64) error {
	if n > math.MaxInt64 {
		return errNegative
	}
	*to = n
	return nil
}

// setBool puts a bool where it belongs.
func setBool(to *bool, n uint64) error {
	if n > 1 {
		return fmt.Errorf("a bool of %d", n)
	}
	*to = n == 1
	return nil
}

// Header is what a member says about itself in each answer.
type Header struct {
	Cluster, Member uint64
	Revision        uint64 // of all keys together
	Term            uint64
}

func (h *Header) decode(b []byte) error {
	return walk("header", b, shape{numbers: bits(1, 2, 3, 4)}, func(field int, n uint64, _ []byte) error {
		switch field {
		case 1:
			h.Cluster = n
		case 2:
			h.Member = n
		case 3:
			return set(&h.Revision, n)
		case 4:
			h.Term = n
		}
		return nil
	})
}

// check refuses an answer without what every member fills in.
func (h *Header) check() error {
	if h.Cluster == 0 || h.Member == 0 {
		return errors.New("an answer without the cluster's and the member's id")
	}
	return nil
}

// Value is a key's value. If there is none, all of it is zero.
type Value struct {
	Bytes    []byte
	Created  uint64 // the revision at which it last came into being
	Modified uint64 // and that of the last change, 0 if there is no value
}

// decode reads a KeyValue, of a key.
func (v *Value) decode(key string, b []byte) error {
	var got string
	err := walk("value", b, shape{numbers: bits(2, 3), bytes: bits(1, 5)}, func(field int, n uint64, data []byte) error {
		switch field {
		case 1:
			got = string(data)
		case 2:
			return set(&v.Created, n)
		case 3:
			return set(&v.Modified, n)
		case 5:
			v.Bytes = append([]byte{}, data...)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case got != key:
		return errors.New("the value of another key")
	case v.Created == 0 || v.Created > v.Modified:
		return fmt.Errorf("a value made at revision %d and changed at %d", v.Created, v.Modified)
	}
	if v.Bytes == nil {
		v.Bytes = []byte{}
	}
	return nil
}

// Range is the answer to a question for one key.
type Range struct {
	Header Header
	Value  Value
}

// appendRange appends a RangeRequest for one key; revision 0: as it is now.
func appendRange(b []byte, key string, revision uint64) []byte {
	b = appendBytes(b, 1, []byte(key))
	return appendNumber(b, 4, revision)
}

// decode reads a RangeResponse. That within a transaction has no header.
func (r *Range) decode(key string, b []byte) error {
	found, count, more := 0, uint64(0), false
	err := walk("range", b, shape{numbers: bits(3, 4), bytes: bits(1, 2), repeated: bits(2)}, func(field int, n uint64, data []byte) error {
		switch field {
		case 1:
			return r.Header.decode(data)
		case 2:
			if found++; found > 1 {
				return errors.New("two values of one key")
			}
			return r.Value.decode(key, data)
		case 3:
			return setBool(&more, n)
		case 4:
			return set(&count, n)
		}
		return nil
	})
	if err == nil && (more || count != uint64(found)) {
		err = errors.New("more values than there are keys")
	}
	return err
}

// Txn is a compare-and-swap of one key.
type Txn struct {
	Key      string
	Old      []byte // what has to be there,
	Revision uint64 // last changed at this revision; 0: nothing
	New      []byte
}

// append appends a TxnRequest: if the key is as we know it, then put, else read it.
func (t Txn) append(b []byte) []byte {
	if t.Revision == 0 {
		b = appendBytes(b, 1, t.compare(targetCreated, 5, nil))
	} else {
		b = appendBytes(b, 1, t.compare(targetModified, 6, nil))
		b = appendBytes(b, 1, t.compare(targetValue, 7, t.Old))
	}
	put := appendBytes(appendBytes(nil, 1, []byte(t.Key)), 2, t.New)
	b = appendBytes(b, 2, appendBytes(nil, 2, put))
	return appendBytes(b, 3, appendBytes(nil, 1, appendRange(nil, t.Key, 0)))
}

// What a Compare looks at.
const (
	targetCreated  = 1
	targetModified = 2
	targetValue    = 3
)

// compare returns a Compare for equality with the revision, or with bytes.
func (t Txn) compare(target uint64, field protowire.Number, value []byte) []byte {
	b := appendBytes(appendNumber(nil, 2, target), 3, []byte(t.Key))
	if target == targetValue {
		return appendField(b, field, value)
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), t.Revision)
}

// TxnResult is the answer to a Txn.
type TxnResult struct {
	Header Header
	Won    bool  // the new value is there, changed at the header's revision
	Now    Value // what is there, if not
}

// decode reads a TxnResponse.
func (r *TxnResult) decode(key string, b []byte) error {
	var responses [][]byte
	err := walk("transaction", b, shape{numbers: bits(2), bytes: bits(1, 3), repeated: bits(3)}, func(field int, n uint64, data []byte) error {
		switch field {
		case 1:
			return r.Header.decode(data)
		case 2:
			return setBool(&r.Won, n)
		case 3:
			responses = append(responses, data)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case len(responses) != 1:
		return fmt.Errorf("a transaction with %d results", len(responses))
	case r.Header.Revision == 0:
		return errors.New("a transaction at no revision")
	}
	return r.result(key, responses[0])
}

// result reads the one ResponseOp of a transaction: of the put if it was won, else of the
// range.
func (r *TxnResult) result(key string, b []byte) error {
	done := 0
	var now Range
	err := walk("result", b, shape{bytes: bits(1, 2, 3, 4)}, func(field int, _ uint64, data []byte) error {
		done |= 1 << field
		if field == 1 {
			return now.decode(key, data)
		}
		return nil
	})
	if err == nil && (r.Won && done != 1<<2 || !r.Won && done != 1<<1) {
		err = errors.New("a transaction whose result is another")
	}
	r.Now = now.Value
	if err == nil && r.Now.Modified > r.Header.Revision {
		err = errors.New("a value of the future")
	}
	return err
}

// Status is how a member is.
type Status struct {
	Header               Header
	Version              string // as 3.7.0
	Leader               uint64 // 0: it knows none
	Index, Applied, Term uint64 // of raft: committed, applied
	Size, InUse, Quota   uint64 // of the database; the quota is 0 before etcd 3.6
	Learner              bool
	Errors               []string // no leader, and alarms
}

func (s *Status) decode(b []byte) error {
	return walk("status", b, shape{numbers: bits(3, 4, 5, 6, 7, 9, 10, 12), bytes: bits(1, 2, 8), repeated: bits(8)}, func(field int, n uint64, data []byte) error {
		switch field {
		case 1:
			return s.Header.decode(data)
		case 2:
			s.Version = clean(string(data))
		case 3:
			return set(&s.Size, n)
		case 4:
			s.Leader = n
		case 5:
			s.Index = n
		case 6:
			s.Term = n
		case 7:
			s.Applied = n
		case 8:
			s.Errors = append(s.Errors, clean(string(data)))
		case 9:
			return set(&s.InUse, n)
		case 10:
			return setBool(&s.Learner, n)
		case 12:
			return set(&s.Quota, n)
		}
		return nil
	})
}

// appendBytes appends a field of bytes, which proto3 leaves out if it is empty.
func appendBytes(b []byte, field protowire.Number, value []byte) []byte {
	if len(value) == 0 {
		return b
	}
	return appendField(b, field, value)
}

// appendField appends a field of bytes, empty or not.
func appendField(b []byte, field protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), value)
}

// appendNumber appends a number, which proto3 leaves out if it is 0.
func appendNumber(b []byte, field protowire.Number, value uint64) []byte {
	if value == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), value)
}
