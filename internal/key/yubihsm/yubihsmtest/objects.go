package yubihsmtest

import (
	"encoding/binary"
	"slices"
)

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
