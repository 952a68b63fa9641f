package auditlog

import (
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"privyseal/yubihsm"
)

const (
	serial = 12345678
	ourKey = 1 // object ids
	auth   = 4
	vote   = 124 // bytes of a command that signs a vote
)

// log is the log of a device, for what goes on in the story of a test.
type log struct {
	last    yubihsm.LogEntry
	entries []yubihsm.LogEntry // on the device
}

// newLog returns the log of a device after a reset: what its first digest is over is random.
func newLog(random byte) *log {
	l := &log{}
	l.last.Digest[0] = random
	l.add(yubihsm.LogEntry{Command: initialised, Length: 0xffff, Session: 0xffff, Target: 0xffff, Second: 0xffff, Result: 0xff, Tick: 0xffffffff})
	l.add(yubihsm.LogEntry{Session: 0xffff})
	return l
}

// add logs an entry, whose number and digest follow.
func (l *log) add(e yubihsm.LogEntry) {
	e.Number = l.last.Number + 1
	b := append(binary.BigEndian.AppendUint16(nil, e.Number), byte(e.Command))
	for _, n := range []uint16{e.Length, e.Session, e.Target, e.Second} {
		b = binary.BigEndian.AppendUint16(b, n)
	}
	b = binary.BigEndian.AppendUint32(append(b, e.Result), e.Tick)
	sum := sha256.Sum256(append(b, l.last.Digest[:]...))
	e.Digest = [16]byte(sum[:])
	l.last, l.entries = e, append(l.entries, e)
}

// signs logs n signatures.
func (l *log) signs(n int, a Ask) {
	for range n {
		l.add(yubihsm.LogEntry{Command: a.Command, Length: a.Length, Session: a.AuthKey, Target: a.Key, Second: 0xffff, Result: byte(a.Command) | 0x80, Tick: uint32(l.last.Number) * 10})
	}
}

// ours is a vote of ours.
var ours = Ask{auth, ourKey, yubihsm.CommandSignEdDSA, vote}

// world is a device and its files.
type world struct {
	*testing.T
	*log
	folder string
	w      *Writer
	now    time.Time
	said   []Finding // by the writer
}

func newWorld(t *testing.T) *world {
	w := &world{T: t, log: newLog(0), folder: filepath.Join(t.TempDir(), "audit"), now: time.Date(2026, 11, 27, 6, 0, 0, 0, time.UTC)}
	t.Cleanup(func() {
		if w.w != nil {
			w.w.Close()
		}
	})
	return w
}

func (w *world) begin() {
	w.Helper()
	var err error
	if w.w, err = Begin(w.folder, serial, auth); err != nil {
		w.Fatal(err)
	}
}

// kill ends the process that writes.
func (w *world) kill() {
	w.w.Close()
	w.w = nil
}

// drains reads the log, and forgets it on the device.
func (w *world) drains(asked ...Asked) {
	w.Helper()
	if err := w.reads(asked...); err != nil {
		w.Fatal(err)
	}
	w.entries = nil
}

// reads reads the log.
func (w *world) reads(asked ...Asked) error {
	w.now = w.now.Add(time.Minute)
	found, err := w.w.Append(Batch{Time: w.now, Log: yubihsm.Log{Entries: w.entries}, Asked: asked, Keys: []uint16{ourKey}})
	w.said = append(w.said, found...)
	return err
}

func (w *world) stops(asked ...Asked) {
	w.Helper()
	if err := w.w.Stop(asked); err != nil {
		w.Fatal(err)
	}
	w.kill()
}

// check reads the files.
func (w *world) check() *Report {
	w.Helper()
	r, err := Check(w.folder, serial)
	if err != nil {
		w.Fatal(err)
	}
	return r
}

// path returns the path of a file of the device.
func (w *world) path(number uint32) string { return filepath.Join(w.folder, nameOf(serial, number)) }

// lines returns the lines of the first file.
func (w *world) lines() []string {
	w.Helper()
	data, err := os.ReadFile(w.path(1))
	if err != nil {
		w.Fatal(err)
	}
	list := strings.SplitAfter(string(data), "\n")
	return list[:len(list)-1]
}

// puts writes a file as somebody would who may.
func (w *world) puts(number uint32, lines ...string) {
	w.Helper()
	if err := os.WriteFile(w.path(number), []byte(strings.Join(lines, "")), 0o600); err != nil {
		w.Fatal(err)
	}
}

// kinds returns the kinds and counts of findings, as in "foreign 2".
func kinds(list []Finding) string {
	var text []string
	for _, f := range list {
		text = append(text, string(f.Kind)+strings.Repeat("+", f.Count))
	}
	return strings.Join(text, " ")
}
