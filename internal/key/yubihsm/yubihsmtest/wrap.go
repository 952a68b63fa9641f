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

// secretSize is the length of what the device keeps of an object: -1 if any will do, 0 of
// what it does not know.
func secretSize(typ Type, algorithm byte) int {
	switch {
	case typ == Opaque && (algorithm == OpaqueData || algorithm == OpaqueX509):
		return -1
	case typ == AuthenticationKey && algorithm == AES128Auth:
		return 32
	case typ == AsymmetricKey && (algorithm == Ed25519 || algorithm == P256 || algorithm == K256):
		return 96
	case typ == WrapKey:
		return wrapKeySize(algorithm)
	case typ == HMACKey:
		return 2 * blockSize(algorithm)
	}
	return 0
}

// exportWrapped answers a backup of an object.
func (c *call) exportWrapped() ([]byte, error) {
	if len(c.in) == 6 && c.in[5] == 0 {
		c.in = c.in[:5]
	}
	if len(c.in) != 5 {
		return nil, WrongLength
	}
	typ, id := Type(c.in[2]), binary.BigEndian.Uint16(c.in[3:])
	key, err := c.first(WrapKey, CanExportWrapped)
	if err != nil {
		return nil, err
	}
	c.second = id
	o, err := c.use(typ, id, ExportableUnderWrap)
	if err != nil {
		return nil, err
	}
	if !key.Delegated.has(o.Capabilities) {
		return nil, InsufficientPermissions
	}
	return ccmSeal(key.secret, o.plain(key.Algorithm)), nil
}

// importWrapped makes an object of a backup.
func (c *call) importWrapped() ([]byte, error) {
	key, err := c.first(WrapKey, CanImportWrapped)
	if err != nil {
		return nil, err
	}
	plain, err := ccmOpen(key.secret, c.in)
	if err != nil {
		return nil, InvalidData
	}
	o, err := unplain(plain, key.Algorithm)
	if err != nil {
		return nil, err
	}
	if !key.Delegated.has(o.Capabilities) || !key.Delegated.has(o.Delegated) {
		return nil, InsufficientPermissions
	}
	wrapKey := c.target
	id, err := c.store(o)
	c.target, c.second = wrapKey, o.ID
	if err != nil {
		return nil, err
	}
	return append([]byte{byte(o.Type)}, id...), nil
}

// wrapKey returns the wrap key that a command on data names.
func (c *call) wrapKey(can Capabilities) (*object, error) {
	key, err := c.first(WrapKey, can)
	if err == InsufficientPermissions && !c.d.atLeast(2, 5, 0) {
		err = InvalidData
	}
	return key, err
}

func (c *call) wrapData() ([]byte, error) {
	key, err := c.wrapKey(CanWrapData)
	if err != nil {
		return nil, err
	}
	return ccmSeal(key.secret, c.in), nil
}

func (c *call) unwrapData() ([]byte, error) {
	key, err := c.wrapKey(CanUnwrapData)
	if err != nil {
		return nil, err
	}
	plain, err := ccmOpen(key.secret, c.in)
	if err != nil {
		return nil, InvalidData
	}
	return plain, nil
}
