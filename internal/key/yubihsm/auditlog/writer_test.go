package auditlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"privyseal/yubihsm"
)

// story writes some batches, the last of which begins in the returned line.
func story(w *world) (lastBatch int) {
	w.begin()
	w.drains()
	for range 3 {
		w.signs(2, ours)
		w.drains(Asked{ours, 2, 0})
	}
	lastBatch = len(w.lines()) - 3
	w.kill()
	return lastBatch
}

// Whatever is done to a line is found at that line.
func TestTampered(t *testing.T) {
	w := newWorld(t)
	story(w)
	lines := w.lines()
	for i := range lines {
		for name, c := range map[string]struct {
			lines []string
			at    int // where it is found
		}{
			"changed": {replaced(lines, i, flipped(lines[i])), i},
			"removed": {slices.Delete(slices.Clone(lines), i, i+1), i},
			"twice":   {slices.Insert(slices.Clone(lines), i, lines[i]), i + 1},
			"moved":   {moved(lines, i), i},
		} {
			if name == "moved" && i == len(lines)-1 || name == "removed" && i == len(lines)-1 {
				continue
			}
			w.puts(1, c.lines...)
			r, err := CheckFile(w.path(1))
			if i == 0 && name != "twice" {
				if name != "changed" && err == nil || name == "changed" && err == nil && r.Bad() == 0 {
					t.Errorf("line 1 %s: %+v, %v", name, r, err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Findings) == 0 || r.Findings[len(r.Findings)-1].Line != c.at+1 {
				t.Errorf("line %d %s: %+v", i+1, name, r.Findings)
			}
		}
	}
}

func replaced(lines []string, i int, with string) []string {
	lines = slices.Clone(lines)
	lines[i] = with
	return lines
}

func moved(lines []string, i int) []string {
	lines = slices.Clone(lines)
	if i+1 < len(lines) {
		lines[i], lines[i+1] = lines[i+1], lines[i]
	}
	return lines
}

// flipped changes a digit in the middle of a line.
func flipped(line string) string {
	b := []byte(line)
	for i := len(b) / 2; ; i++ {
		if '0' <= b[i] && b[i] <= '8' {
			b[i]++
			return string(b)
		}
	}
}

// Who makes our digests up again, too, is found by those of the device.
func TestForged(t *testing.T) {
	w := newWorld(t)
	story(w)
	var records []record
	for _, line := range w.lines() {
		text, _, _ := cutLast(strings.TrimSuffix(line, "\n"))
		rec, err := parse(text)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, rec)
	}
	for i, rec := range records {
		if rec.word != wordEntry || rec.numbers[0] < 3 {
			continue
		}
		for name, forged := range map[string][]record{
			"changed": slices.Replace(slices.Clone(records), i, i+1, changedEntry(rec)),
			"removed": slices.Delete(slices.Clone(records), i, i+1),
		} {
			text, _ := lines(digest{}, forged)
			w.puts(1, string(text))
			r := w.check()
			last := rec.numbers[0] == uint64(w.last.Number) && name == "removed"
			if last { // the next entry of the device would not follow
				w.begin()
				w.signs(1, ours)
				w.drains(Asked{ours, 1, 0})
				w.kill()
				r = w.check()
			}
			if !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Kind == Gap }) {
				t.Errorf("entry %d %s: %+v", rec.numbers[0], name, r.Findings)
			}
		}
	}
}

func changedEntry(r record) record {
	r.numbers = slices.Clone(r.numbers)
	r.numbers[2]++
	return r
}

// A crash while a batch is written leaves any part of it. The next process reads the
// device again, and nothing is lost, twice, or found wrong.
func TestTorn(t *testing.T) {
	whole := newWorld(t)
	last := story(whole)
	lines := whole.lines()
	before, batch := strings.Join(lines[:last], ""), strings.Join(lines[last:], "")
	for n := 0; n <= len(batch); n += 11 {
		hole := min(60, len(batch)-n) // a sector that the power cut has left out
		for _, rest := range []string{"", strings.Repeat("\x00", len(batch)-n), strings.Repeat("\x00", hole) + batch[n+hole:]} {
			w := newWorld(t)
			*w.log = *whole.log
			w.begin()
			w.kill()
			w.puts(1, before+batch[:n]+rest)
			w.entries = whole.entries
			w.begin()
			w.entries = lastEntries(t, lines[last:])
			w.signs(1, ours)
			w.drains(Asked{ours, 1, 0})
			w.stops()
			r := w.check()
			if r.Bad() > 0 || r.Entries != 9 {
				t.Fatalf("after %d bytes: %d entries, %+v", n, r.Entries, r.Findings)
			}
		}
	}
}

// lastEntries returns the entries in lines.
func lastEntries(t *testing.T, lines []string) (list []yubihsm.LogEntry) {
	for _, line := range lines {
		text, _, _ := cutLast(strings.TrimSuffix(line, "\n"))
		rec, err := parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if rec.word == wordEntry {
			list = append(list, rec.entry())
		}
	}
	return list
}

// A disk that is full, or fails, leaves what was there; later all of it is appended.
func TestDiskFails(t *testing.T) {
	w := newWorld(t)
	w.begin()
	w.drains()
	before := w.lines()
	w.signs(2, ours)
	broken := errors.New("input/output error")
	defer func(f func(*os.File) error) { fsync = f }(fsync)
	for i := range 2 {
		real := fsync
		calls := 0
		fsync = func(f *os.File) error {
			if calls++; calls == 1 {
				return broken
			}
			return real(f)
		}
		if err := w.reads(Asked{ours, 2, 0}); !errors.Is(err, broken) || w.w.Broken() {
			t.Errorf("try %d: %v", i, err)
		}
		fsync = real
		if !slices.Equal(w.lines(), before) {
			t.Errorf("try %d left %q", i, w.lines())
		}
	}
	w.drains(Asked{ours, 2, 0})
	if r := w.check(); len(r.Findings) > 0 || r.Matched != 2 {
		t.Errorf("%+v", r)
	}

	// If even that cannot be taken away, it takes another start.
	fsync = func(*os.File) error { return broken }
	w.signs(1, ours)
	if err := w.reads(Asked{ours, 1, 0}); !errors.Is(err, broken) || !w.w.Broken() {
		t.Error(err)
	}
	fsync = (*os.File).Sync
	if err := w.reads(Asked{ours, 1, 0}); err == nil {
		t.Error("appended to a file with an unknown end")
	}
}

// A file that is full is followed by the next one, and what was counted goes on.
func TestVolumes(t *testing.T) {
	defer func(n int64) { maxFile = n }(maxFile)
	maxFile = 1000
	w := newWorld(t)
	w.begin()
	for i := range 12 {
		w.signs(1, ours)
		w.drains(Asked{ours, 1, uint32(i % 2)})
		if i%5 == 4 {
			w.stops()
			w.begin()
		}
	}
	w.stops()
	list, err := volumes(w.folder, serial)
	if err != nil || len(list) < 3 {
		t.Fatalf("%v, %v", list, err)
	}
	r := w.check()
	if r.Files != len(list) || len(r.Findings) > 0 || len(w.said) > 0 || r.Matched != 12 || r.Running {
		t.Errorf("%+v, %v", r, w.said)
	}
	if one, err := CheckFile(w.path(2)); err != nil || len(one.Findings) > 0 || one.Serial != "0012345678" {
		t.Errorf("%+v, %v", one, err)
	}

	// A start that finds the last file full is no crash, for the writer either.
	maxFile = 1
	w.begin()
	maxFile = 1 << 20
	w.stops()
	w.signs(1, Ask{auth, ourKey, yubihsm.CommandSignEdDSA, 200})
	w.begin()
	w.drains()
	w.stops()
	if kinds(w.said) != "foreign+" || kinds(w.check().Findings) != "foreign+" {
		t.Errorf("%+v", w.said)
	}

	// One is missing, or was cut off, or stands in for another.
	second, err := os.ReadFile(w.path(2))
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(w.path(2))
	w.said = nil
	if r := w.check(); !strings.Contains(kinds(r.Findings), "damage gap") {
		t.Errorf("one is missing: %+v", r.Findings)
	}
	w.puts(2, strings.Join(strings.SplitAfter(string(second), "\n")[:3], ""))
	if r := w.check(); !strings.HasPrefix(kinds(r.Findings), "damage") {
		t.Errorf("one was cut off: %+v", r.Findings)
	}
	w.puts(2, string(second)[:len(second)-10])
	if r := w.check(); !strings.HasPrefix(kinds(r.Findings), "damage") {
		t.Errorf("one was torn off: %+v", r.Findings)
	}
	w.puts(2, string(second))
	w.puts(1, string(second))
	if r := w.check(); !strings.HasPrefix(kinds(r.Findings), "damage") || r.Findings[0].Line != 1 {
		t.Errorf("one stands in for another: %+v", r.Findings)
	}
}

// A file of another device, and one that begins twice.
func TestWrongHead(t *testing.T) {
	w := newWorld(t)
	story(w)
	data, err := os.ReadFile(w.path(1))
	if err == nil {
		err = os.WriteFile(filepath.Join(w.folder, nameOf(serial+1, 1)), data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if r, err := Check(w.folder, serial+1); err != nil || r.Bad() == 0 || !strings.Contains(r.Findings[0].Text, "it is number 1 of YubiHSM 0012345678") {
		t.Errorf("%+v, %v", r, err)
	}
	head := record{word: wordHead, numbers: []uint64{serial, 1}}
	text, _ := lines(digest{}, []record{head, head})
	w.puts(1, string(text))
	if r := w.check(); kinds(r.Findings) == "" || r.Findings[0].Line != 2 {
		t.Errorf("%+v", r)
	}
}

func TestInUse(t *testing.T) {
	w := newWorld(t)
	w.begin()
	if _, err := Begin(w.folder, serial, auth); !errors.Is(err, ErrInUse) {
		t.Error(err)
	}
	other, err := Begin(w.folder, serial+1, auth)
	if err != nil {
		t.Fatal(err)
	}
	other.Close()
	w.kill()
	w.begin()
	for _, number := range []uint32{1} {
		if info, err := os.Stat(w.path(number)); err != nil || info.Mode() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	}
	if list, err := Serials(w.folder); err != nil || !slices.Equal(list, []uint32{serial, serial + 1}) {
		t.Errorf("%v, %v", list, err)
	}
}

// What cannot be a file of ours fails, and changes nothing.
func TestBeginFails(t *testing.T) {
	for name, make := range map[string]func(folder string) error{
		"a file in place of the folder": func(folder string) error { return os.WriteFile(folder, nil, 0o600) },
		"a pipe in place of the file": func(folder string) error {
			return errors.Join(os.Mkdir(folder, 0o700), syscall.Mkfifo(filepath.Join(folder, nameOf(serial, 1)), 0o600))
		},
		"a link in place of the lock": func(folder string) error {
			return errors.Join(os.Mkdir(folder, 0o700), os.Symlink("x", filepath.Join(folder, fmt.Sprintf("%010d.lock", serial))))
		},
	} {
		t.Run(name, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "audit")
			if err := make(folder); err != nil {
				t.Fatal(err)
			}
			if _, err := Begin(folder, serial, auth); err == nil {
				t.Error("it begins")
			}
		})
	}
}
