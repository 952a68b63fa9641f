package yubihsmtest

import (
	"encoding/binary"
	"slices"
	"strings"
)

// call is a command that the device works on.
type call struct {
	d       *Device
	s       *session // nil outside of a session
	command byte
	length  int // of the data, for the log
	in      []byte
	message []byte // outside of a session: all of it

	target, second uint16 // of the log
}

func (c *call) sessionKey() uint16 {
	if c.s == nil {
		return 0xffff
	}
	return c.s.authKey
}

// note logs the command with its result.
func (c *call) note(result byte) {
	c.d.log.note(LogEntry{Command: c.command, Length: uint16(c.length), SessionKey: c.sessionKey(), Target: c.target, Second: c.second,
		Result: result, Tick: uint32(c.d.now().Sub(c.d.started).Milliseconds())})
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
