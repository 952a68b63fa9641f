package operator

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The clock that a test may set is that of the whole machine, which is not for a test to
// set: programs and the kernel's times of files have it in common. So it is the past that
// moves. If the clock is set an hour ahead, all that was written before is an hour older
// than it was: what the records say (record.go of internal/filestore has the layout), and
// when the files were written to. What a signer has in its memory cannot be moved, so one
// that runs is killed first; under one that runs on, internal/filestore sets the clock.
//
// When a file was changed (ctime) nobody can set. It stays at this moment, and that shows
// only where times are all that is left, after a kill and a reboot: a clock that went
// ahead looks like a restore then, and a restore before a clock that went back like none.

// setClock is the step: clock DURATION, ahead or back.
func setClock(w *world, args []string) error {
	by, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	for _, h := range w.homes {
		if err := w.end(h, syscall.SIGKILL); err != nil {
			return err
		}
		h.late = h.late || by > 0
		h.sound = h.sound && !(h.forgotten && by > 0)
		h.hasty = h.hasty || by < 0 && !h.sound
	}
	return filepath.WalkDir(w.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || !strings.Contains(entry.Name(), ".mark") {
			return err
		}
		return age(path, by)
	})
}

// The offsets of records and of their times.
const (
	sectorSize = 512
	slotOffset = 64 << 10
	timeAt     = 32
	stampAt    = 180
	seenAt     = 188
	sumAt      = sectorSize - sha256.Size
)

// sectors calls f for each record in a file, a state or what is beside one.
func sectors(f *os.File, do func(sector []byte, offset int64) error) error {
	for _, offset := range []int64{0, sectorSize, slotOffset, slotOffset + sectorSize} {
		var b [sectorSize]byte
		if n, _ := f.ReadAt(b[:], offset); n < len(b) || string(b[:15]) != "privyseal-mark/" || sha256.Sum256(b[:sumAt]) != [sha256.Size]byte(b[sumAt:]) {
			continue // none, or one that a step has spoiled
		}
		if err := do(b[:], offset); err != nil {
			return err
		}
	}
	return nil
}

// age makes a file and the records in it older, in place.
func age(path string, by time.Duration) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	err = sectors(f, func(b []byte, offset int64) error {
		for _, at := range []int{timeAt, stampAt, seenAt} {
			if t := int64(binary.BigEndian.Uint64(b[at:])); t != 0 {
				binary.BigEndian.PutUint64(b[at:], uint64(t-by.Nanoseconds()))
			}
		}
		sum := sha256.Sum256(b[:sumAt])
		copy(b[sumAt:], sum[:])
		_, err := f.WriteAt(b, offset)
		return err
	})
	then := info.ModTime().Add(-by)
	return errors.Join(err, os.Chtimes(path, then, then))
}

// ahead reports whether a record in a state is of a time that has yet to come: what is
// put back now is not seen by its times.
func ahead(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var last time.Time
	sectors(f, func(b []byte, _ int64) error {
		if t := time.Unix(0, int64(binary.BigEndian.Uint64(b[stampAt:]))); t.After(last) {
			last = t
		}
		return nil
	})
	return last.After(time.Now().Add(-tooSoon))
}
