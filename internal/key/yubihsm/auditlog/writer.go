package auditlog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"privyseal/internal/durable"
	"privyseal/yubihsm"
)

// ErrInUse says that another process writes the files of the device.
var ErrInUse = errors.New("another process writes the audit log of this YubiHSM, as a signer that runs")

// fsync makes a file durable. Tests look on, and have it fail.
var fsync = (*os.File).Sync

// Writer appends to the files of one device. It is not safe for concurrent use.
type Writer struct {
	folder string
	serial uint32
	lock   *os.File

	file   *os.File // nil: the next append makes one
	number uint32   // of the file, or of the last one
	size   int64
	chain  digest

	judge  *judge
	found  []Finding
	broken error // why nothing is appended any more
}

// Begin opens the files of a device for a process that is about to sign with an
// authentication key, and makes durable that it does. If another process has them open, it
// is [ErrInUse].
func Begin(folder string, serial uint32, authKey uint16) (*Writer, error) {
	if _, err := durable.Folders(folder); err != nil {
		return nil, err
	}
	lock, err := lockFile(filepath.Join(folder, fmt.Sprintf("%010d.lock", serial)))
	if err != nil {
		return nil, err
	}
	w := &Writer{folder: folder, serial: serial, lock: lock}
	w.judge = newJudge(func(f Finding) { w.found = append(w.found, f) })
	if err = w.resume(); err == nil {
		err = w.write([]record{{word: wordStart, at: time.Now(), numbers: []uint64{uint64(authKey)}}})
	}
	if err != nil {
		w.Close()
		return nil, err
	}
	w.found = nil
	return w, nil
}

// lockFile locks a file against other processes. It stays when the lock ends.
func lockFile(path string) (*os.File, error) {
	if err := durable.Create(path, nil, 0o600); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrInUse
		}
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	return f, nil
}

// resume reads the last file. One that was damaged stays as it is, and the next one begins.
func (w *Writer) resume() error {
	list, err := volumes(w.folder, w.serial)
	if err != nil || len(list) == 0 {
		return err
	}
	last := list[len(list)-1]
	w.number = last.number
	// A file other than the first begins while a process runs, see roll.
	w.judge.running, w.judge.begun = last.number > 1, last.number > 1
	whole, err := w.read(last)
	if err != nil {
		return err
	}
	// The last entry may be further back.
	for i := len(list) - 2; i >= 0 && !w.judge.any; i-- {
		if w.judge.last, w.judge.any, err = lastEntry(list[i]); err != nil {
			return err
		}
	}
	if !whole {
		return nil
	}
	w.file, err = os.OpenFile(last.path, os.O_WRONLY|os.O_APPEND|syscall.O_NOFOLLOW, 0)
	return err
}

// read has the judge hear a file, as far as it is whole.
func (w *Writer) read(v volume) (whole bool, err error) {
	r, err := v.open()
	if err != nil {
		return false, err
	}
	defer r.file.Close()
	for {
		rec, err := r.next()
		var damage *damageError
		switch {
		case errors.As(err, &damage):
			return false, nil
		case err == io.EOF:
			return r.line > 0, nil
		case err != nil:
			return false, err
		case rec.word != wordHead:
			w.judge.record(rec)
		}
		w.chain, w.size = r.chain, r.size
	}
}

// lastEntry returns the last entry of a file, as far as it is whole.
func lastEntry(v volume) (e yubihsm.LogEntry, found bool, err error) {
	r, err := v.open()
	if err != nil {
		return e, false, err
	}
	defer r.file.Close()
	for {
		rec, err := r.next()
		var damage *damageError
		switch {
		case err == io.EOF || errors.As(err, &damage):
			return e, found, nil
		case err != nil:
			return e, found, err
		case rec.word == wordEntry:
			e, found = rec.entry(), true
		}
	}
}

// Batch is one look at the log of a device.
type Batch struct {
	Time  time.Time
	Log   yubihsm.Log
	Asked []Asked  // since the batch before
	Keys  []uint16 // that we sign with
}

// Append makes a batch durable, and returns what is to be said about it. Entries that are
// there already are recognised. After an error nothing of it is there: it may be tried
// again, with what has come to it meanwhile.
func (w *Writer) Append(b Batch) ([]Finding, error) {
	var records []record
	for _, k := range b.Keys {
		if !w.judge.keys[k] {
			records = append(records, record{word: wordKey, numbers: []uint64{uint64(k)}})
		}
	}
	entries := w.fresh(b.Log.Entries)
	for _, e := range entries {
		records = append(records, entryRecord(e))
	}
	for _, a := range b.Asked {
		records = append(records, askedRecord(a))
	}
	if len(records) == 0 && w.judge.settled() {
		return nil, nil
	}
	records = append(records, record{word: wordLog, at: b.Time, numbers: []uint64{uint64(uint16(b.Log.UnloggedBoots)), uint64(uint16(b.Log.UnloggedAuthentications))}})
	if err := w.write(records); err != nil {
		return nil, err
	}
	found := w.found
	w.found = nil
	return found, nil
}

// fresh leaves out the entries that the files have.
func (w *Writer) fresh(entries []yubihsm.LogEntry) []yubihsm.LogEntry {
	if !w.judge.any {
		return entries
	}
	return entries[1+slices.Index(entries, w.judge.last):] // all of them, if that is not among them
}

// Stop makes durable that the process signs nothing any more, and what it has asked for
// since the last batch.
func (w *Writer) Stop(asked []Asked) error {
	var records []record
	for _, a := range asked {
		records = append(records, askedRecord(a))
	}
	return w.write(append(records, record{word: wordStop, at: time.Now()}))
}

// Close lets another process write. It does not say that this one has stopped.
func (w *Writer) Close() error {
	if w.file != nil {
		w.file.Close()
	}
	return w.lock.Close()
}

// write appends records durably, all or none.
func (w *Writer) write(records []record) error {
	if w.broken != nil {
		return w.broken
	}
	if w.file == nil || w.size >= maxFile && records[0].word != wordStart {
		if err := w.roll(); err != nil {
			return err
		}
	}
	text, chain := lines(w.chain, records)
	_, err := w.file.Write(text)
	if err == nil {
		err = fsync(w.file)
	}
	if err != nil {
		w.undo()
		return err
	}
	w.chain, w.size = chain, w.size+int64(len(text))
	for _, r := range records {
		w.judge.record(r)
	}
	return nil
}

// undo takes away what was appended in vain.
func (w *Writer) undo() {
	if err := errors.Join(w.file.Truncate(w.size), fsync(w.file)); err != nil {
		w.broken = fmt.Errorf("what a failed write has left in %s cannot be taken away: %w", w.file.Name(), err)
	}
}

// Broken reports whether the end of the file is unknown. It takes another [Begin] then.
func (w *Writer) Broken() bool { return w.broken != nil }

// roll begins the next file. A crash leaves all of its first lines or no file.
func (w *Writer) roll() error {
	records := []record{{word: wordHead, digest: w.chain, numbers: []uint64{uint64(w.serial), uint64(w.number + 1)}}}
	for k := range w.judge.keys {
		records = append(records, record{word: wordKey, numbers: []uint64{uint64(k)}})
	}
	text, chain := lines(digest{}, records)
	path := filepath.Join(w.folder, nameOf(w.serial, w.number+1))
	if err := durable.Create(path, text, 0o600); err != nil {
		return err
	}
	if w.file != nil {
		w.file.Close()
	}
	w.file, w.number, w.chain, w.size = nil, w.number+1, chain, int64(len(text))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|syscall.O_NOFOLLOW, 0)
	if err == nil {
		w.file = f
	}
	return err
}

// lines returns records as they follow a line, and the digest of the last one.
func lines(chain digest, records []record) ([]byte, digest) {
	var text []byte
	for _, r := range records {
		line := r.String()
		chain = chain.over(line)
		text = fmt.Appendf(text, "%s %v\n", line, chain)
	}
	return text, chain
}
