package auditlog

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"privyseal/yubihsm"
)

// The words that lines begin with.
const (
	wordHead  = "privyseal-yubihsm-audit-1" // serial, number of the file, digest that the file before ended with
	wordStart = "start"                     // time, authentication key: a process is about to sign
	wordKey   = "key"                       // object id: it signs with this key
	wordEntry = "entry"                     // as [yubihsm.LogEntry]
	wordAsked = "asked"                     // authentication key, key, command, length, answered, lost: what was signed up to the next log
	wordLog   = "log"                       // time, unlogged boots, unlogged authentications: the log was read, and all of it is above
	wordStop  = "stop"                      // time: the process has ended, and signs nothing any more
)

// forms are the fields of each word: t is a time, s a serial number, n a number of 32 bits,
// d one of 16, w one of 16 in hexadecimal, b one of 8, and h a digest.
var forms = map[string]string{
	wordHead: "snh", wordStart: "tw", wordKey: "w", wordEntry: "dbdwwwbnh", wordAsked: "wwbdnn", wordLog: "tdd", wordStop: "t",
}

// formats print the fields that are numbers.
var formats = map[rune]struct {
	print string
	base  int
	bits  int
	cut   string // before the digits
}{
	's': {"%010d", 10, 32, ""}, 'n': {"%d", 10, 32, ""}, 'd': {"%d", 10, 16, ""}, 'w': {"0x%04x", 16, 16, "0x"}, 'b': {"0x%02x", 16, 8, "0x"},
}

// record is one line, without its digest.
type record struct {
	word    string
	at      time.Time
	numbers []uint64 // in order
	digest  digest
}

// digest is the first half of a SHA-256.
type digest [16]byte

// over returns the digest of a line after another one's.
func (d digest) over(line string) digest {
	sum := sha256.Sum256(append(d[:], line...))
	return digest(sum[:])
}

func (d digest) String() string { return hex.EncodeToString(d[:]) }

// maxLine is longer than any line, in bytes.
const maxLine = 256

// String returns the line.
func (r record) String() string {
	parts, n := []string{r.word}, 0
	for _, field := range forms[r.word] {
		switch field {
		case 't':
			parts = append(parts, r.at.UTC().Format(time.RFC3339))
		case 'h':
			parts = append(parts, r.digest.String())
		default:
			parts = append(parts, fmt.Sprintf(formats[field].print, r.numbers[n]))
			n++
		}
	}
	return strings.Join(parts, " ")
}

var errRecord = errors.New("nothing like that is written")

// parse reads what String writes, and nothing else.
func parse(line string) (record, error) {
	parts := strings.Split(line, " ")
	form, known := forms[parts[0]]
	if !known || len(parts) != 1+len(form) {
		return record{}, errRecord
	}
	r := record{word: parts[0]}
	for i, field := range form {
		if err := r.take(field, parts[1+i]); err != nil {
			return record{}, errRecord
		}
	}
	if r.String() != line {
		return record{}, errRecord
	}
	return r, nil
}

// take reads one field.
func (r *record) take(field rune, text string) (err error) {
	switch field {
	case 't':
		r.at, err = time.Parse(time.RFC3339, text)
		if err == nil && (r.at.Year() < 2000 || r.at.Year() > 9999) {
			err = errRecord
		}
	case 'h':
		var b []byte
		if b, err = hex.DecodeString(text); err == nil && len(b) != len(r.digest) {
			err = errRecord
		}
		copy(r.digest[:], b)
	default:
		f := formats[field]
		var n uint64
		n, err = strconv.ParseUint(strings.TrimPrefix(text, f.cut), f.base, f.bits)
		r.numbers = append(r.numbers, n)
	}
	return err
}

// entryRecord returns the line of an entry.
func entryRecord(e yubihsm.LogEntry) record {
	return record{word: wordEntry, digest: e.Digest, numbers: []uint64{uint64(e.Number), uint64(e.Command), uint64(e.Length),
		uint64(e.Session), uint64(e.Target), uint64(e.Second), uint64(e.Result), uint64(e.Tick)}}
}

// entry returns the entry of a line with one.
func (r record) entry() yubihsm.LogEntry {
	n := r.numbers
	return yubihsm.LogEntry{Number: uint16(n[0]), Command: yubihsm.Command(n[1]), Length: uint16(n[2]), Session: uint16(n[3]),
		Target: uint16(n[4]), Second: uint16(n[5]), Result: byte(n[6]), Tick: uint32(n[7]), Digest: r.digest}
}

// Ask names signatures that nothing in the log of a device distinguishes.
type Ask struct {
	AuthKey uint16 // of the session
	Key     uint16
	Command yubihsm.Command
	Length  uint16 // of the command's data, in bytes
}

// Asked is how many of them the signer has asked for.
type Asked struct {
	Ask
	Answered uint32 // the device signed
	Lost     uint32 // no answer came: it signed or did not, or will
}

func askedRecord(a Asked) record {
	return record{word: wordAsked, numbers: []uint64{uint64(a.AuthKey), uint64(a.Key), uint64(a.Command), uint64(a.Length), uint64(a.Answered), uint64(a.Lost)}}
}

func (r record) asked() Asked {
	n := r.numbers
	return Asked{Ask{uint16(n[0]), uint16(n[1]), yubihsm.Command(n[2]), uint16(n[3])}, uint32(n[4]), uint32(n[5])}
}
