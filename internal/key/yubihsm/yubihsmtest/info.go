package yubihsmtest

import (
	"encoding/binary"
	"slices"
)

// info answers the request for the device's description, page 0 or 1.
func (c *call) info() ([]byte, error) {
	d := c.d
	if len(c.in) == 1 && c.in[0] == 1 && d.atLeast(2, 4, 0) {
		return []byte("SIMULATOR"), nil
	}
	if len(c.in) > 1 || len(c.in) == 1 && c.in[0] != 0 {
		return nil, InvalidData
	}
	out := binary.BigEndian.AppendUint32(slices.Clone(d.options.Firmware[:]), d.options.Serial)
	out = append(out, LogSize, byte(len(d.log.entries)))
	return append(out, d.algorithms()...), nil
}

// storage answers the request for the free storage.
func (c *call) storage() ([]byte, error) {
	used := uint16(len(c.d.objects))
	var out []byte
	for _, n := range []uint16{maxObjects, maxObjects - used, 1024, 1024 - 2*used, 126} {
		out = binary.BigEndian.AppendUint16(out, n)
	}
	return out, nil
}

func (c *call) echo() ([]byte, error) { return c.in, nil }

func (c *call) blink() ([]byte, error) {
	if len(c.in) != 1 {
		return nil, WrongLength
	}
	return nil, nil
}

func (c *call) pseudoRandom() ([]byte, error) {
	if len(c.in) != 2 {
		return nil, WrongLength
	}
	n := int(binary.BigEndian.Uint16(c.in))
	if n > c.d.bufferSize()-32 {
		return nil, InvalidData
	}
	return random(n), nil
}

// resetDevice answers, and then the device starts again.
func (c *call) resetDevice() ([]byte, error) {
	c.d.reset()
	return nil, nil
}
