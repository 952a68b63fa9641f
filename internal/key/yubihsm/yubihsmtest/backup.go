package yubihsmtest

import (
	"encoding/binary"
	"slices"
	"strings"
)

// headerSize is the length of what a backup describes its object by: the wrap key's
// algorithm; capabilities, id, length and domains of the object; its type, algorithm,
// sequence, origin and label.
const headerSize = 59

// plain is what a backup has in it.
func (o *object) plain(wrapAlgorithm byte) []byte {
	body := o.secret
	if o.Type.hasDelegated() {
		body = append(binary.BigEndian.AppendUint64(nil, uint64(o.Delegated)), body...)
	}
	b := binary.BigEndian.AppendUint64([]byte{wrapAlgorithm}, uint64(o.Capabilities))
	for _, n := range []uint16{o.ID, uint16(len(body)), o.Domains} {
		b = binary.BigEndian.AppendUint16(b, n)
	}
	b = append(b, byte(o.Type), o.Algorithm, o.sequence, o.origin)
	return append(append(b, label(o.Label)...), body...)
}

// unplain reads what a backup has in it.
func unplain(b []byte, wrapAlgorithm byte) (*object, error) {
	if len(b) <= headerSize || b[0] != wrapAlgorithm || int(binary.BigEndian.Uint16(b[11:])) != len(b)-headerSize {
		return nil, InvalidData
	}
	o := &object{Object: Object{Capabilities: Capabilities(binary.BigEndian.Uint64(b[1:])), ID: binary.BigEndian.Uint16(b[9:]),
		Domains: binary.BigEndian.Uint16(b[13:]), Type: Type(b[15]), Algorithm: b[16],
		Label: strings.TrimRight(string(b[19:headerSize]), "\x00")}}
	o.origin = b[18]&^underWrap | underWrap
	body := slices.Clone(b[headerSize:])
	if o.Type.hasDelegated() {
		if len(body) < 8 {
			return nil, InvalidData
		}
		o.Delegated = Capabilities(binary.BigEndian.Uint64(body))
		body = body[8:]
	}
	if size := secretSize(o.Type, o.Algorithm); size == 0 || size > 0 && size != len(body) {
		return nil, InvalidData
	}
	o.secret = body
	return o, nil
}
