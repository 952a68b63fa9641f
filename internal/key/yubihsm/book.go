package yubihsm

import (
	"errors"
	"maps"
	"sync"

	"privyseal/internal/key/yubihsm/auditlog"
	hsm "privyseal/yubihsm"
)

// book counts what a device was asked to sign, by whoever in this process, and has the
// files that its log is drained into. A config that was reloaded opens devices again
// before it closes them.
type book struct {
	name bookName
	uses int // guarded by the shelf

	mu    sync.Mutex
	asked map[auditlog.Ask]auditlog.Asked // since the last batch that is durable
	open  map[*asking]bool                // signatures under way

	files  sync.Mutex // held while the files are used, which may take as long as a disk hangs
	writer *auditlog.Writer
}

type bookName struct {
	folder string
	serial uint32
}

// asking is a signature under way.
type asking struct {
	auditlog.Ask
	counted bool // as one whose answer is lost: the log was read meanwhile
}

// shelf has the books of this process.
var shelf = struct {
	mu    sync.Mutex
	books map[bookName]*book
}{books: map[bookName]*book{}}

// takeBook returns the book of a device. giveBack has to follow.
func takeBook(name bookName) *book {
	shelf.mu.Lock()
	defer shelf.mu.Unlock()
	b := shelf.books[name]
	if b == nil {
		b = &book{name: name, asked: map[auditlog.Ask]auditlog.Asked{}, open: map[*asking]bool{}}
		shelf.books[name] = b
	}
	b.uses++
	return b
}

// giveBack ends the use of a book. With the last one, what is counted is made durable, and
// that nobody signs any more.
func (b *book) giveBack() error {
	b.files.Lock()
	defer b.files.Unlock()
	shelf.mu.Lock()
	b.uses--
	isLast := b.uses == 0
	if isLast {
		delete(shelf.books, b.name)
	}
	shelf.mu.Unlock()
	if !isLast || b.writer == nil {
		return nil
	}
	defer b.writer.Close()
	return b.writer.Stop(b.count())
}

// ask counts a signature that the device is about to be asked for.
func (b *book) ask(a auditlog.Ask) *asking {
	b.mu.Lock()
	defer b.mu.Unlock()
	asking := &asking{Ask: a}
	b.open[asking] = true
	return asking
}

// answered counts what came of it.
func (b *book) answered(a *asking, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.open, a)
	switch n := b.asked[a.Ask]; {
	case a.counted || isUnsigned(err):
	case err == nil:
		n.Answered++
		b.asked[a.Ask] = n
	default:
		n.Lost++
		b.asked[a.Ask] = n
	}
}

// isUnsigned reports whether a signature that failed with err was certainly not made: it was
// not sent, or the device proved that it refuses.
func isUnsigned(err error) bool {
	var over *hsm.SessionError
	var refused *hsm.DeviceError
	var connector *hsm.ConnectorError
	if isTooLong(err) || errors.As(err, &connector) && connector.Unsent {
		return true
	}
	return errors.As(err, &refused) && !errors.As(err, &over)
}

// count returns what was asked for since the last batch. What is under way counts as lost:
// the device may have logged it.
func (b *book) count() (list []auditlog.Asked) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for a := range b.open {
		if !a.counted {
			a.counted = true
			n := b.asked[a.Ask]
			n.Lost++
			b.asked[a.Ask] = n
		}
	}
	for a, n := range b.asked {
		n.Ask = a
		list = append(list, n)
	}
	return list
}

// durable takes off what a batch had that is durable.
func (b *book) durable(list []auditlog.Asked) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, done := range list {
		n := b.asked[done.Ask]
		n.Answered -= done.Answered
		n.Lost -= done.Lost
		b.asked[done.Ask] = n
	}
	maps.DeleteFunc(b.asked, func(_ auditlog.Ask, n auditlog.Asked) bool { return n.Answered == 0 && n.Lost == 0 })
}

// begin makes durable that we sign. The caller holds files.
func (b *book) begin(authKey uint16) (err error) {
	if b.writer == nil {
		b.writer, err = auditlog.Begin(b.name.folder, b.name.serial, authKey)
	}
	return err
}

// append makes a batch durable. The caller holds files, and has begun.
func (b *book) append(batch auditlog.Batch) ([]auditlog.Finding, error) {
	found, err := b.writer.Append(batch)
	if err != nil && b.writer.Broken() {
		b.writer.Close()
		b.writer = nil
	}
	if err == nil {
		b.durable(batch.Asked)
	}
	return found, err
}
