package yubihsmtest

import "encoding/binary"

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
