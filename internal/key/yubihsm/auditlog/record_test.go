package auditlog

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"privyseal/yubihsm"
)

func TestRecords(t *testing.T) {
	for _, line := range []string{
		"privyseal-yubihsm-audit-1 0012345678 1 00000000000000000000000000000000",
		"start 2026-11-27T06:00:00Z 0x0004",
		"key 0x0001",
		"entry 65535 0x6a 124 0x0004 0x0001 0xffff 0xea 4294967295 000102030405060708090a0b0c0d0e0f",
		"asked 0x0004 0x0001 0x6a 124 3 1",
		"log 2026-11-27T06:00:00Z 0 65535",
		"stop 2026-11-27T06:00:00Z",
	} {
		if r, err := parse(line); err != nil || r.String() != line {
			t.Errorf("%s: %v, %v", line, r, err)
		}
		for _, wrong := range []string{
			line + " ", " " + line, line + " 1", strings.Replace(line, " ", "  ", 1), strings.Replace(line, " ", "\t", 1), strings.ToUpper(line),
			strings.Replace(line, "0x0", "0x00", 1), strings.Replace(line, "0x0", "0x", 1), strings.Replace(line, "1", "+1", 1), strings.Replace(line, "06:", "6:", 1),
			strings.Replace(line, "2026", "1999", 1), strings.Replace(line, "00Z", "00+00:00", 1), strings.Replace(line, "65535", "65536", 1),
		} {
			if r, err := parse(wrong); wrong != line && err == nil {
				t.Errorf("%q is read as %v", wrong, r)
			}
		}
	}
}

// The log that the documentation of GET LOG ENTRIES shows is of a real device.
func TestDocumentedLog(t *testing.T) {
	w := newWorld(t)
	w.entries = nil
	for _, line := range []string{
		"entry 46 0x4b 234 0x0001 0xcf94 0x997e 0xcb 335725 415f51f1f035a1b713e730e4464e4033",
		"entry 47 0x4c 77 0x0001 0xaff7 0xffff 0xcc 351714 5496a60d478c2b9c801d8d32ca66b554",
		"entry 48 0x00 0 0xffff 0x0000 0x0000 0x00 0 14ac7747ba9bbb243cfc70befeb5349b",
		"entry 49 0x03 10 0xffff 0x0001 0xffff 0x83 139 b20a8f25c025e693a8e869b433294a20",
		"entry 50 0x04 17 0xffff 0x0001 0xffff 0x84 139 ebfae425c319ac7a0afbb8b92597de7c",
		"entry 51 0x67 2 0x0001 0xffff 0xffff 0xe7 697 2e395d1b706668737e1d2215813db47e",
	} {
		r, err := parse(line)
		if err != nil {
			t.Fatal(err)
		}
		w.entries = append(w.entries, r.entry())
	}
	w.begin()
	w.drains()
	if r := w.check(); r.Entries != 6 || len(r.Findings) > 0 {
		t.Errorf("%+v", r)
	}
}

// FuzzLine reads any line: what is taken is written the same.
func FuzzLine(f *testing.F) {
	f.Add(wordHead + " 0012345678 1 00000000000000000000000000000000")
	f.Add("entry 3 0x6a 124 0x0004 0x0001 0xffff 0xea 30 000102030405060708090a0b0c0d0e0f")
	f.Add("log 2026-11-27T06:00:00Z 0 0")
	f.Add("asked 0x0004 0x0001 0x6a 124 3 1")
	f.Fuzz(func(t *testing.T, line string) {
		r, err := parse(line)
		if err != nil {
			return
		}
		if r.String() != line {
			t.Errorf("%q is read as %q", line, r.String())
		}
		if r.word == wordEntry {
			if again := entryRecord(r.entry()); again.String() != line {
				t.Errorf("%q becomes %q", line, again.String())
			}
		}
		if r.word == wordAsked {
			if again := askedRecord(r.asked()); again.String() != line {
				t.Errorf("%q becomes %q", line, again.String())
			}
		}
	})
}

// FuzzFile checks any file, and goes on after any file: it never fails in another way than
// with an error, and what it writes is whole.
func FuzzFile(f *testing.F) {
	text, _ := lines(digest{}, []record{{word: wordHead, numbers: []uint64{serial, 1}}, {word: wordKey, numbers: []uint64{1}},
		entryRecord(yubihsm.LogEntry{Number: 1, Command: initialised}), entryRecord(yubihsm.LogEntry{Number: 3, Command: yubihsm.CommandSignEdDSA, Result: 0xea, Target: 1})})
	f.Add(text)
	f.Add(text[:len(text)-3])
	f.Fuzz(func(t *testing.T, data []byte) {
		folder := t.TempDir()
		if err := os.WriteFile(filepath.Join(folder, nameOf(serial, 1)), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Check(folder, serial); err != nil {
			t.Fatal(err)
		}
		CheckFile(filepath.Join(folder, nameOf(serial, 1)))
		w, err := Begin(folder, serial, auth)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		r, err := Check(folder, serial)
		if err != nil || !r.Running {
			t.Errorf("%+v, %v", r, err)
		}
	})
}
