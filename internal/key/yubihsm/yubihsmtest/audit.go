package yubihsmtest

import "encoding/binary"

func (c *call) logEntries() ([]byte, error) {
	l := &c.d.log
	out := binary.BigEndian.AppendUint16(nil, l.lostBoots)
	out = append(binary.BigEndian.AppendUint16(out, l.lostSessions), byte(len(l.entries)))
	for _, e := range l.entries {
		out = append(append(out, e.data()...), e.Digest[:]...)
	}
	return out, nil
}

// setLogIndex forgets the entries up to a number.
func (c *call) setLogIndex() ([]byte, error) {
	if len(c.in) != 2 {
		return nil, WrongLength
	}
	if !c.d.log.forget(binary.BigEndian.Uint16(c.in)) {
		return nil, InvalidData
	}
	return nil, nil
}

func (c *call) getOption() ([]byte, error) {
	if len(c.in) != 1 {
		return nil, WrongLength
	}
	switch c.in[0] {
	case forceAudit:
		return []byte{c.d.log.force}, nil
	case commandAudit:
		var out []byte
		for _, command := range commands {
			out = append(out, command, c.d.log.audited[command])
		}
		return out, nil
	case algorithmToggle:
		if !c.d.atLeast(2, 2, 0) {
			return nil, InvalidData
		}
		var out []byte
		for _, a := range c.d.algorithms() {
			out = append(out, a, 1)
		}
		return out, nil
	}
	return nil, InvalidData
}

func (c *call) setOption() ([]byte, error) {
	if len(c.in) < 3 || int(binary.BigEndian.Uint16(c.in[1:])) != len(c.in)-3 {
		return nil, WrongLength
	}
	value := c.in[3:]
	switch c.in[0] {
	case forceAudit:
		if len(value) != 1 || value[0] > auditFixed || c.d.log.force == auditFixed {
			return nil, InvalidData
		}
		c.d.log.force = value[0]
		return nil, nil
	case commandAudit:
		return nil, c.d.log.setAudited(value)
	}
	return nil, InvalidData
}
