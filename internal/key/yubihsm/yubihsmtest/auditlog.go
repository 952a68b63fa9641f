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

// newLog returns a new log. Devices of today log no command unless set to.
func newLog(audit byte) auditLog {
	l := auditLog{audited: map[byte]byte{}}
	for _, c := range commands {
		l.audited[c] = audit
		if slices.Contains(unaudited, c) {
			l.audited[c] = auditOff
		}
	}
	l.last.Digest = [16]byte(random(16))
	l.append(LogEntry{Command: 0xff, Length: 0xffff, SessionKey: 0xffff, Target: 0xffff, Second: 0xffff, Result: 0xff, Tick: 0xffffffff})
	return l
}

func (l *auditLog) full() bool { return len(l.entries) == LogSize }

// append adds an entry; a full log loses its oldest one.
func (l *auditLog) append(e LogEntry) {
	e.Number = l.last.Number + 1
	digest := sha256.Sum256(append(e.data(), l.last.Digest[:]...))
	e.Digest = [16]byte(digest[:16])
	if l.full() {
		l.entries = slices.Delete(l.entries, 0, 1)
	}
	l.entries, l.last = append(l.entries, e), e
}

func (l *auditLog) boot() {
	if l.force != auditOff && l.full() {
		l.lostBoots++
		return
	}
	l.append(LogEntry{SessionKey: 0xffff})
}

// refuses reports whether the log has no room for a command that has to be in it.
// Sessions are always opened: it takes one to empty the log.
func (l *auditLog) refuses(command byte) bool {
	return l.force != auditOff && l.full() && l.audited[command] != auditOff &&
		!slices.Contains([]byte{CreateSession, AuthenticateSession, CloseSession, SessionMessage, GetLogEntries, SetLogIndex}, command)
}

// note logs a command that was executed, if it is one that is logged.
func (l *auditLog) note(e LogEntry) {
	switch {
	case l.audited[e.Command] == auditOff:
	case l.force != auditOff && l.full():
		if e.Command == AuthenticateSession {
			l.lostSessions++
		}
	default:
		l.append(e)
	}
}

// forget forgets the entries up to a number; false if there is none with it.
func (l *auditLog) forget(number uint16) bool {
	i := slices.IndexFunc(l.entries, func(e LogEntry) bool { return e.Number == number })
	if i < 0 {
		return false
	}
	l.entries = slices.Delete(l.entries, 0, i+1)
	l.lostBoots, l.lostSessions = 0, 0
	return true
}

// setAudited sets the option of commands, all of them or none.
func (l *auditLog) setAudited(pairs []byte) error {
	if len(pairs)%2 != 0 {
		return WrongLength
	}
	for pair := range slices.Chunk(pairs, 2) {
		old, known := l.audited[pair[0]]
		if !known || pair[1] > auditFixed || old == auditFixed && pair[1] != auditFixed || pair[0] == SessionMessage && pair[1] != auditOff {
			return InvalidData
		}
	}
	for pair := range slices.Chunk(pairs, 2) {
		l.audited[pair[0]] = pair[1]
	}
	return nil
}
