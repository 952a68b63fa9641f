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

// add keeps an object, whose id is free.
func (d *Device) add(o *object) {
	r := o.ref()
	if n, was := d.sequences[r]; was {
		d.sequences[r] = n + 1
	} else {
		d.sequences[r] = 0
	}
	o.sequence = d.sequences[r]
	d.objects[r] = o
}

// lookup returns an object that the session may see.
func (c *call) lookup(typ Type, id uint16) (*object, error) {
	o := c.d.objects[ref{typ, id}]
	if o == nil || o.Domains&c.s.domains == 0 {
		return nil, ObjectNotFound
	}
	return o, nil
}

// use returns an object that the session may see and that has the capabilities.
func (c *call) use(typ Type, id uint16, can Capabilities) (*object, error) {
	o, err := c.lookup(typ, id)
	if err == nil && !o.Capabilities.has(can) {
		err = InsufficientPermissions
	}
	return o, err
}

// hasDelegated reports whether objects of the type have delegated capabilities.
func (t Type) hasDelegated() bool { return t == AuthenticationKey || t == WrapKey }

// described reads what every command starts with that makes an object, and leaves the
// rest in c.in.
func (c *call) described(typ Type) (*object, error) {
	size := 2 + labelSize + 2 + 8 + 1
	if typ.hasDelegated() {
		size += 8
	}
	if len(c.in) < size {
		return nil, WrongLength
	}
	o := &object{Object: Object{Type: typ}}
	o.ID = binary.BigEndian.Uint16(c.in)
	o.Label = strings.TrimRight(string(c.in[2:42]), "\x00")
	o.Domains = binary.BigEndian.Uint16(c.in[42:])
	o.Capabilities = Capabilities(binary.BigEndian.Uint64(c.in[44:]))
	o.Algorithm = c.in[52]
	if typ.hasDelegated() {
		o.Delegated = Capabilities(binary.BigEndian.Uint64(c.in[53:]))
	}
	c.in = c.in[size:]
	c.target = o.ID
	return o, c.mayMake(o)
}

// mayMake checks that a session gives away no more than it has.
func (c *call) mayMake(o *object) error {
	switch {
	case o.Domains == 0:
		return InvalidData
	case o.ID == 0xffff:
		return InvalidID
	case !c.s.delegate.has(o.Capabilities) || !c.s.delegate.has(o.Delegated), o.Domains&^c.s.domains != 0:
		return InsufficientPermissions
	}
	return nil
}

// store adds a new object and answers its id.
func (c *call) store(o *object) ([]byte, error) {
	if o.ID == 0 {
		o.ID = c.d.freeID(o.Type)
	}
	c.target = o.ID
	switch {
	case c.d.objects[o.ref()] != nil:
		return nil, ObjectExists
	case len(c.d.objects) == maxObjects:
		return nil, StorageFailed
	}
	c.d.add(o)
	return binary.BigEndian.AppendUint16(nil, o.ID), nil
}

// freeID chooses an id at random.
func (d *Device) freeID(typ Type) uint16 {
	for {
		id := binary.BigEndian.Uint16(random(2))
		if id != 0 && id != 0xffff && d.objects[ref{typ, id}] == nil {
			return id
		}
	}
}

// putOpaque, putAuthenticationKey, putWrapKey and putHMACKey store what they are given.
func (c *call) putOpaque() ([]byte, error) {
	o, err := c.described(Opaque)
	if err != nil {
		return nil, err
	}
	if o.Algorithm != OpaqueData && o.Algorithm != OpaqueX509 {
		return nil, InvalidData
	}
	return c.storeGiven(o, len(c.in))
}

func (c *call) putAuthenticationKey() ([]byte, error) {
	o, err := c.described(AuthenticationKey)
	if err != nil {
		return nil, err
	}
	if o.Algorithm != AES128Auth {
		return nil, InvalidData
	}
	return c.storeGiven(o, 32)
}

func (c *call) putWrapKey() ([]byte, error) {
	o, err := c.described(WrapKey)
	if err != nil {
		return nil, err
	}
	size := wrapKeySize(o.Algorithm)
	if size == 0 {
		return nil, InvalidData
	}
	return c.storeGiven(o, size)
}

func (c *call) generateWrapKey() ([]byte, error) {
	o, err := c.described(WrapKey)
	if err != nil {
		return nil, err
	}
	size := wrapKeySize(o.Algorithm)
	if size == 0 {
		return nil, InvalidData
	}
	return c.storeNew(o, random(size))
}

// wrapKeySize is the length of a wrap key in bytes; 0 of an algorithm that is none.
func wrapKeySize(algorithm byte) int {
	return map[byte]int{AES128CCM: 16, AES192CCM: 24, AES256CCM: 32}[algorithm]
}

// storeGiven stores an object whose secret of a known size the message ends with.
func (c *call) storeGiven(o *object, size int) ([]byte, error) {
	if len(c.in) != size || size == 0 {
		return nil, WrongLength
	}
	o.secret, o.origin = slices.Clone(c.in), imported
	return c.store(o)
}

// storeNew stores an object that the device has made.
func (c *call) storeNew(o *object, secret []byte) ([]byte, error) {
	if len(c.in) != 0 {
		return nil, WrongLength
	}
	o.secret, o.origin = secret, generated
	return c.store(o)
}

// getOpaque answers the data of an opaque object. Number 0, which is in no list, is the
// device's own certificate.
func (c *call) getOpaque() ([]byte, error) {
	if len(c.in) == 2 && c.in[0] == 0 && c.in[1] == 0 {
		return c.d.attester.device.Raw, nil
	}
	o, err := c.first(Opaque, 0)
	if err != nil {
		return nil, err
	}
	return o.secret, nil
}

// first returns the object whose id the message begins with, and leaves the rest in c.in.
func (c *call) first(typ Type, can Capabilities) (*object, error) {
	if len(c.in) < 2 {
		return nil, WrongLength
	}
	c.target = binary.BigEndian.Uint16(c.in)
	c.in = c.in[2:]
	return c.use(typ, c.target, can)
}

// named returns the object whose id and type are the message.
func (c *call) named() (*object, error) {
	if len(c.in) != 3 {
		return nil, WrongLength
	}
	c.target = binary.BigEndian.Uint16(c.in)
	return c.lookup(Type(c.in[2]), c.target)
}

func (c *call) deleteObject() ([]byte, error) {
	if len(c.in) != 3 {
		return nil, WrongLength
	}
	need, known := map[Type]Capabilities{Opaque: CanDeleteOpaque, AuthenticationKey: CanDeleteAuthentication,
		AsymmetricKey: CanDeleteAsymmetric, WrapKey: CanDeleteWrapKey, HMACKey: CanDeleteHMAC}[Type(c.in[2])]
	o, err := c.named()
	switch {
	case !known:
		return nil, InvalidData
	case err != nil:
		return nil, err
	case !c.s.can.has(need):
		return nil, InsufficientPermissions
	}
	delete(c.d.objects, o.ref())
	return nil, nil
}

func (c *call) objectInfo() ([]byte, error) {
	o, err := c.named()
	if err != nil {
		return nil, err
	}
	out := binary.BigEndian.AppendUint64(nil, uint64(o.Capabilities))
	for _, n := range []uint16{o.ID, o.length(), o.Domains} {
		out = binary.BigEndian.AppendUint16(out, n)
	}
	out = append(out, byte(o.Type), o.Algorithm, o.sequence, o.origin)
	out = append(out, label(o.Label)...)
	return binary.BigEndian.AppendUint64(out, uint64(o.Delegated)), nil
}

func label(text string) []byte {
	b := make([]byte, labelSize)
	copy(b, text)
	return b
}

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

// listObjects answers id, type and sequence of all objects that the filters let through.
func (c *call) listObjects() ([]byte, error) {
	filters, err := readFilters(c.in)
	if err != nil {
		return nil, err
	}
	var out []byte
	for _, r := range c.d.refs() {
		o := c.d.objects[r]
		if o.Domains&c.s.domains == 0 || slices.ContainsFunc(filters, func(f func(*object) bool) bool { return !f(o) }) {
			continue
		}
		out = append(binary.BigEndian.AppendUint16(out, o.ID), byte(o.Type), o.sequence)
	}
	return out, nil
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

// changeAuthKey gives the session's own key another password.
func (c *call) changeAuthKey() ([]byte, error) {
	if len(c.in) != 2+1+32 {
		return nil, WrongLength
	}
	c.target = binary.BigEndian.Uint16(c.in)
	switch {
	case c.target != c.s.authKey:
		return nil, InvalidID
	case c.in[2] != AES128Auth:
		return nil, InvalidData
	}
	o, err := c.lookup(AuthenticationKey, c.target)
	if err != nil {
		return nil, err
	}
	o.secret = slices.Clone(c.in[3:])
	return binary.BigEndian.AppendUint16(nil, o.ID), nil
}
