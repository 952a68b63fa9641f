package yubihsmtest

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// LogSize is how many entries the audit log has room for.
const LogSize = 62

// LogEntry is an entry of the audit log.
type LogEntry struct {
	Number     uint16
	Command    byte
	Length     uint16 // of the command's data
	SessionKey uint16 // ffff outside of a session
	Target     uint16 // ffff if there is none
	Second     uint16
	Result     byte // the answer's command, or an error code
	Tick       uint32
	Digest     [16]byte // of this entry and the digest before
}

// data is what the digest is of, less the digest before.
func (e LogEntry) data() []byte {
	b := append(binary.BigEndian.AppendUint16(nil, e.Number), e.Command)
	for _, n := range []uint16{e.Length, e.SessionKey, e.Target, e.Second} {
		b = binary.BigEndian.AppendUint16(b, n)
	}
	return binary.BigEndian.AppendUint32(append(b, e.Result), e.Tick)
}

type auditLog struct {
	entries []LogEntry
	last    LogEntry
	force   byte
	audited map[byte]byte // of each command, auditOff, auditOn or auditFixed

	lostBoots, lostSessions uint16
}

func (d *Device) resetLog() {
	audit := byte(auditOn)
	if d.atLeast(2, 3, 1) {
		audit = auditOff
	}
	d.log = auditLog{audited: map[byte]byte{}}
	for _, c := range commands {
		d.log.audited[c] = audit
		if slices.Contains(unaudited, c) {
			d.log.audited[c] = auditOff
		}
	}
	d.log.last.Digest = [16]byte(random(16))
	d.append(LogEntry{Command: 0xff, Length: 0xffff, SessionKey: 0xffff, Target: 0xffff, Second: 0xffff, Result: 0xff, Tick: 0xffffffff})
}

func (l *auditLog) full() bool { return len(l.entries) == LogSize }

// append adds an entry; a full log loses its oldest one.
func (d *Device) append(e LogEntry) {
	l := &d.log
	e.Number = l.last.Number + 1
	digest := sha256.Sum256(append(e.data(), l.last.Digest[:]...))
	e.Digest = [16]byte(digest[:16])
	if l.full() {
		l.entries = slices.Delete(l.entries, 0, 1)
	}
	l.entries, l.last = append(l.entries, e), e
}

func (d *Device) logBoot() {
	if d.log.force != auditOff && d.log.full() {
		d.log.lostBoots++
		return
	}
	d.append(LogEntry{SessionKey: 0xffff})
}

// refuses reports whether the log has no room for a command that has to be in it.
// Sessions are always opened: it takes one to empty the log.
func (d *Device) refuses(command byte) bool {
	return d.log.force != auditOff && d.log.full() && d.log.audited[command] != auditOff &&
		!slices.Contains([]byte{CreateSession, AuthenticateSession, CloseSession, SessionMessage, GetLogEntries, SetLogIndex}, command)
}

// note logs a command that was executed, if it is one that is logged.
func (d *Device) note(c *call, result byte) {
	switch {
	case d.log.audited[c.command] == auditOff:
	case d.log.force != auditOff && d.log.full():
		if c.command == AuthenticateSession {
			d.log.lostSessions++
		}
	default:
		d.append(LogEntry{Command: c.command, Length: uint16(c.length), SessionKey: c.sessionKey(), Target: c.target, Second: c.second,
			Result: result, Tick: uint32(d.now().Sub(d.started).Milliseconds())})
	}
}

func (c *call) sessionKey() uint16 {
	if c.s == nil {
		return 0xffff
	}
	return c.s.authKey
}

// Log returns the entries that are in the device.
func (d *Device) Log() []LogEntry {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.log.entries)
}

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
	l := &c.d.log
	number := binary.BigEndian.Uint16(c.in)
	i := slices.IndexFunc(l.entries, func(e LogEntry) bool { return e.Number == number })
	if i < 0 {
		return nil, InvalidData
	}
	l.entries = slices.Delete(l.entries, 0, i+1)
	l.lostBoots, l.lostSessions = 0, 0
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
		return nil, c.d.setAudited(value)
	}
	return nil, InvalidData
}

// setAudited sets the option of commands, all of them or none.
func (d *Device) setAudited(pairs []byte) error {
	if len(pairs)%2 != 0 {
		return WrongLength
	}
	for pair := range slices.Chunk(pairs, 2) {
		old, known := d.log.audited[pair[0]]
		if !known || pair[1] > auditFixed || old == auditFixed && pair[1] != auditFixed || pair[0] == SessionMessage && pair[1] != auditOff {
			return InvalidData
		}
	}
	for pair := range slices.Chunk(pairs, 2) {
		d.log.audited[pair[0]] = pair[1]
	}
	return nil
}
