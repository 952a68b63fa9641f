package yubihsm

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
)

// LogEntry is one command in the log of a device.
type LogEntry struct {
	// Number counts entries since the last reset, modulo 65536. The first is 1.
	Number uint16
	// Command is what was done, 0 for a start of the device, 0xff for its initialisation,
	// whose other fields are all ones.
	Command Command
	// Length is how many bytes of data the command had.
	Length uint16
	// Session is the authentication key that opened the session, or 0xffff.
	Session uint16
	// Target and Second are the objects that the command worked with, or 0xffff.
	Target, Second uint16
	// Result is the first byte of the answer: the command and 0x80.
	Result byte
	// Tick is the device's clock, which starts with the device.
	Tick uint32
	// Digest chains the log: the first half of the SHA-256 of the 16 bytes above and of the
	// previous entry's digest.
	Digest [16]byte
}

const entrySize = 32 // bytes

// bytes returns the entry as its digest covers it.
func (e LogEntry) bytes() []byte {
	b := binary.BigEndian.AppendUint16(nil, e.Number)
	b = append(b, byte(e.Command))
	for _, n := range []uint16{e.Length, e.Session, e.Target, e.Second} {
		b = binary.BigEndian.AppendUint16(b, n)
	}
	return binary.BigEndian.AppendUint32(append(b, e.Result), e.Tick)
}

// Follows reports whether e is the entry right after another one: the next number, and a
// digest over both.
func (e LogEntry) Follows(previous LogEntry) bool {
	digest := sha256.Sum256(append(e.bytes(), previous.Digest[:]...))
	return e.Number == previous.Number+1 && e.Digest == [16]byte(digest[:16])
}

// Log is what a device has logged since [Session.SetLogIndex].
type Log struct {
	// UnloggedBoots and UnloggedAuthentications count what the device let happen although
	// its log was full and force-audit on.
	UnloggedBoots, UnloggedAuthentications int
	// Entries are in the order in which they were made.
	Entries []LogEntry
}

func parseLog(answer []byte) (l Log, err error) {
	f := fields{rest: answer}
	l.UnloggedBoots, l.UnloggedAuthentications = int(f.uint16()), int(f.uint16())
	if n := int(f.byte()); n*entrySize != len(f.rest) {
		return Log{}, malformed("a log of %d entries in %d bytes", n, len(f.rest))
	}
	for len(f.rest) > 0 {
		l.Entries = append(l.Entries, LogEntry{
			Number: f.uint16(), Command: Command(f.byte()), Length: f.uint16(),
			Session: f.uint16(), Target: f.uint16(), Second: f.uint16(),
			Result: f.byte(), Tick: f.uint32(), Digest: [16]byte(f.bytes(16)),
		})
	}
	return l, f.done("the log")
}

// LogEntries returns the log, up to 62 entries. It needs [GetLogEntries]. Nothing is judged
// here: [LogEntry.Follows] says whether an entry comes right after another one, and whether
// the first one comes after the last that the caller has. Without force-audit a full log
// loses its oldest entries.
func (s *Session) LogEntries(ctx context.Context) (Log, error) {
	answer, err := s.Send(ctx, CommandGetLogEntries, nil)
	if err != nil {
		return Log{}, err
	}
	return parseLog(answer)
}

// SetLogIndex lets the device forget all entries up to this number. It needs [GetLogEntries].
// Write them down durably first.
func (s *Session) SetLogIndex(ctx context.Context, number uint16) error {
	answer, err := s.Send(ctx, CommandSetLogIndex, binary.BigEndian.AppendUint16(nil, number))
	return empty(CommandSetLogIndex, answer, err)
}

// Option is a setting of the whole device.
type Option byte

// Options of the guide.
const (
	OptionForceAudit      Option = 1 // one byte, an [Audit]
	OptionCommandAudit    Option = 3 // two bytes a command: the command, and an [Audit]
	OptionAlgorithmToggle Option = 4 // two bytes an algorithm: the algorithm, and 0 or 1
	OptionFIPSMode        Option = 5 // one byte
)

// Audit is the value of an audit option.
type Audit byte

// Values of an Audit.
const (
	AuditOff   Audit = 0
	AuditOn    Audit = 1
	AuditFixed Audit = 2 // on, until the device is reset
)

// Option returns the bytes of an option. It needs [GetOption].
func (s *Session) Option(ctx context.Context, o Option) ([]byte, error) {
	return s.Send(ctx, CommandGetOption, []byte{byte(o)})
}

// SetOption sets the bytes of an option. It needs [SetOption].
func (s *Session) SetOption(ctx context.Context, o Option, value []byte) error {
	data := binary.BigEndian.AppendUint16([]byte{byte(o)}, uint16(len(value)))
	answer, err := s.Send(ctx, CommandSetOption, append(data, value...))
	return empty(CommandSetOption, answer, err)
}

// ForceAudit says whether commands that are audited fail while the log is full. It needs
// [GetOption].
func (s *Session) ForceAudit(ctx context.Context) (Audit, error) {
	answer, err := s.Option(ctx, OptionForceAudit)
	if err != nil {
		return 0, err
	}
	return parseForceAudit(answer)
}

func parseForceAudit(answer []byte) (Audit, error) {
	f := fields{rest: answer}
	audit := Audit(f.byte())
	if audit > AuditFixed {
		return 0, malformed("force-audit is %d", audit)
	}
	return audit, f.done("force-audit")
}

// SetForceAudit sets whether commands that are audited fail while the log is full: who sets
// it has to read the log and to call [Session.SetLogIndex], without end. It needs [SetOption].
func (s *Session) SetForceAudit(ctx context.Context, audit Audit) error {
	return s.SetOption(ctx, OptionForceAudit, []byte{byte(audit)})
}

// CommandAudit says which commands are logged. It needs [GetOption].
func (s *Session) CommandAudit(ctx context.Context) (map[Command]Audit, error) {
	answer, err := s.Option(ctx, OptionCommandAudit)
	if err != nil {
		return nil, err
	}
	return parseCommandAudit(answer)
}

func parseCommandAudit(answer []byte) (map[Command]Audit, error) {
	f := fields{rest: answer}
	commands := map[Command]Audit{}
	for len(f.rest) > 0 {
		c, audit := Command(f.byte()), Audit(f.byte())
		if _, twice := commands[c]; twice || audit > AuditFixed {
			return nil, malformed("command-audit of %v is %d", c, audit)
		}
		commands[c] = audit
	}
	return commands, f.done("command-audit")
}

// SetCommandAudit sets for some commands whether they are logged. It needs [SetOption].
// Logging of [CommandSessionMessage] is refused: with force-audit, older firmware could not
// read a full log any more (yubihsm-shell #509).
func (s *Session) SetCommandAudit(ctx context.Context, commands map[Command]Audit) error {
	if commands[CommandSessionMessage] != AuditOff {
		return fmt.Errorf("%v must not be logged: some devices cannot read a full log then", CommandSessionMessage)
	}
	var value []byte
	for _, c := range slices.Sorted(maps.Keys(commands)) {
		value = append(value, byte(c), byte(commands[c]))
	}
	return s.SetOption(ctx, OptionCommandAudit, value)
}
