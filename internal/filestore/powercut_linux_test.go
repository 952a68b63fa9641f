package filestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"privyseal/internal/watermark"
)

// This file searches, step by step, through all short histories of a signer:
// loads and writes that succeed, fail or are killed at any point, write-backs
// that fail unseen, and power cuts that lose any subset of the unsynced sectors.
// The store is the real one, the disk below it is a model. (test/crash replays
// the system calls of real processes.)
//
// The rule that is checked: a mark that was released is never forgotten.

// imprint stands for a content that a sector had in the course of a search.
type imprint rune

// garbage is what a sector holds that was being written when the power went.
const garbage imprint = 0

// imprints knows the contents by their imprints.
type imprints struct {
	contents [][slotSize]byte
	known    map[[slotSize]byte]imprint
}

func (is *imprints) of(b [slotSize]byte) imprint {
	n, ok := is.known[b]
	if !ok {
		n = imprint(len(is.contents))
		is.contents = append(is.contents, b)
		is.known[b] = n
	}
	return n
}

// sector is one of the two that matter.
type sector struct {
	cache imprint // what a read returns
	media imprint // what the disk holds for certain
	maybe string  // all that was written since, and may have reached the disk
	// dirty says that the next sync writes the sector. After a sync that failed
	// the kernel takes it for clean.
	dirty bool
}

type disk [2]sector

// injury is what a call to the disk meets.
type injury int

const (
	whole    injury = iota
	killed          // the process dies before the call
	failed          // the call fails and has done nothing
	halfDone        // a write stops half-way
	syncLost        // a sync fails, and what it had to write is called clean
	injuries        // their number
)

var errKilled = errors.New("killed")

// mutation is a store with a mistake built in.
type mutation int

const (
	correct       mutation = iota
	noSync                 // never syncs
	noLoadRewrite          // believes what it reads
	retriesSync            // takes a second sync for the cure of a failed one
	newestSlot             // overwrites the newest record
	ignoresErrors          // takes a failed sync for a good one
	mutations
)

// search is one exhaustive search.
type search struct {
	is     imprints
	broken mutation
	tears  bool // a sector that was being written may hold garbage
	seen   map[moment]bool
	steps  int
}

// history is a moment of a signer's life.
type history struct {
	d     disk
	up    bool  // a process has loaded
	store Store // of that process, but for its system
	// released is the highest mark that may be known outside.
	released watermark.Mark
	last     *event
	events   int
}

// moment is what the future of a history depends on.
type moment struct {
	depth    int
	d        disk
	up       bool
	seq      uint64
	released string
}

// event is something that happened, after another event.
type event struct {
	before *event
	what   string
	call   int // that was injured, or 0
	injury injury
	mark   watermark.Mark // loaded, or asked to be written
	err    error
	d      disk // after it
}

func (h *history) happens(e event) {
	e.before, e.d = h.last, h.d
	h.last = &e
	h.events++
}

// String tells the history, one event a line.
func (e *event) String() string {
	if e == nil {
		return ""
	}
	return fmt.Sprintf("%v\n%s, call %d injured by %d: mark %v, error %v, disk %v", e.before, e.what, e.call, e.injury, e.mark, e.err, e.d)
}

// system returns the model below a store: a call meets its injury at number
// call, counted over pwrite and fdatasync.
func (x *search) system(d *disk, loading bool, call int, what injury) *system {
	calls := 0
	meet := func() injury {
		calls++
		if calls != call {
			return whole
		}
		if what == killed {
			panic(errKilled)
		}
		return what
	}
	flush := func() error {
		for i := range d {
			if d[i].dirty {
				d[i] = sector{cache: d[i].cache, media: d[i].cache}
			}
		}
		return nil
	}
	sync := func() error {
		switch meet() {
		case whole:
			return flush()
		case syncLost:
			for i := range d {
				d[i].dirty = false
			}
		}
		return unix.EIO
	}
	pwrite := func(_ int, p []byte, off int64) (int, error) {
		i := off / slotOffset
		if x.broken == newestSlot && !loading {
			i = 1 - i
		}
		n, err := len(p), error(nil)
		switch meet() {
		case failed, syncLost:
			return 0, unix.EIO
		case halfDone:
			n = n / 2
		}
		b := x.is.contents[d[i].cache]
		copy(b[:n], p)
		x.write(&d[i], b)
		return n, err
	}
	sys := modelFile()
	sys.pread = func(_ int, p []byte, off int64) (int, error) {
		return copy(p, x.is.contents[d[off/slotOffset].cache][:]), nil
	}
	sys.pwrite = pwrite
	sys.fdatasync = func(int) error { return sync() }
	switch {
	case x.broken == noSync, x.broken == noLoadRewrite && loading:
		sys.fdatasync = func(int) error { return nil }
	case x.broken == retriesSync:
		sys.fdatasync = func(int) error {
			if sync() == nil {
				return nil
			}
			return sync()
		}
	}
	if x.broken == ignoresErrors {
		sys.fdatasync = func(int) error { sync(); return nil }
	}
	if x.broken == noLoadRewrite && loading {
		sys.pwrite = func(_ int, p []byte, _ int64) (int, error) { return len(p), nil }
	}
	return sys
}

// modelFile returns a system with one file, there and in order, and without
// content.
func modelFile() *system {
	stat := func(st *unix.Stat_t) error {
		*st = unix.Stat_t{Mode: unix.S_IFREG | 0o600, Size: fileSize, Nlink: 1, Uid: uint32(os.Geteuid()), Ino: 7}
		return nil
	}
	return &system{
		open:      func(string, int, uint32) (int, error) { return 3, nil },
		flock:     func(int, int) error { return nil },
		fstat:     func(_ int, st *unix.Stat_t) error { return stat(st) },
		lstat:     func(_ string, st *unix.Stat_t) error { return stat(st) },
		fstatfs:   func(_ int, st *unix.Statfs_t) error { st.Type = unix.EXT4_SUPER_MAGIC; return nil },
		handle:    func(int) (int32, []byte, error) { return 1, []byte("handle"), nil },
		machineID: func() ([]byte, error) { return []byte("machine\n"), nil },
		close:     func(int) error { return nil },
		now:       func() time.Time { return time.Unix(0, 0) },
	}
}

// write changes a sector in the page cache.
func (x *search) write(s *sector, b [slotSize]byte) {
	n := x.is.of(b)
	// Writing what is there already cannot tear: old and new are the same.
	if x.tears && n != s.cache {
		s.maybe += string(garbage)
	}
	s.cache, s.dirty = n, true
	s.maybe += string(n)
}

// explore takes every next step from h, up to depth more, and returns the first
// violation that it meets.
func (x *search) explore(h history, depth int) (violation *event) {
	if depth == 0 {
		return nil
	}
	m := moment{depth, h.d, h.up, h.store.cur.seq, fmt.Sprint(h.released.Height, h.released.SignBytes)}
	if x.seen[m] {
		return nil
	}
	x.seen[m] = true
	for call := 0; call <= 2; call++ { // 0: no injury; 1: the pwrite; 2: the fdatasync
		for what := killed; what < injuries; what++ {
			n, violated := x.run(h, call, what)
			if violated {
				return n.last
			}
			if v := x.explore(n, depth-1); v != nil || call == 0 {
				violation = v
				break
			}
		}
		if violation != nil {
			return violation
		}
	}
	for _, n := range append(h.cuts(), h.lostWriteBack()) {
		if v := x.explore(n, depth-1); v != nil {
			return v
		}
	}
	return nil
}

// lostWriteBack is h after the kernel has tried to write all by itself, failed,
// and told nobody who lives.
func (h history) lostWriteBack() history {
	for i := range h.d {
		h.d[i].dirty = false
	}
	h.happens(event{what: "a write-back that fails unseen"})
	return h
}

// cuts returns all that a loss of power may make of h.
func (h history) cuts() (all []history) {
	for _, d := range h.d.cuts() {
		n := h
		n.d, n.up = d, false
		n.happens(event{what: "a power cut"})
		all = append(all, n)
	}
	return all
}

// cuts returns all disks that the loss of power may leave.
func (d disk) cuts() []disk {
	options := func(s sector) (out []sector) {
		for _, n := range s.maybe + string(s.media) {
			after := sector{cache: imprint(n), media: imprint(n)}
			if !slices.Contains(out, after) {
				out = append(out, after)
			}
		}
		return out
	}
	var all []disk
	for _, a := range options(d[0]) {
		for _, b := range options(d[1]) {
			all = append(all, disk{a, b})
		}
	}
	return all
}

// run makes the signer's next call: a load if no process has loaded, a write
// otherwise. A violation is a load that forgets what was released, or that
// fails though nothing hinders it.
func (x *search) run(h history, call int, what injury) (n history, violated bool) {
	x.steps++
	n = h
	n.store.sys = x.system(&n.d, !h.up, call, what)
	e := event{what: "load", call: call, injury: what}
	if h.up {
		// Each write tries other bytes, so that a mark that comes back is told
		// from one that was made anew.
		e.what = "write"
		e.mark = watermark.Mark{Height: h.store.cur.mark.Height + 1, Step: watermark.StepPrevote, SignBytes: []byte{byte(h.events)}}
	}
	defer func() {
		if r := recover(); r == errKilled {
			e.err, n.up = errKilled, false
		} else if r != nil {
			panic(r)
		}
		n.store.sys = nil
		n.happens(e)
	}()
	var saved watermark.Saved
	if h.up {
		saved, e.err = n.store.Replace(context.Background(), h.store.cur.saved(), e.mark)
	} else {
		saved, e.err = n.store.Load(context.Background())
		e.mark = saved.Mark
		violated = e.err != nil && call == 0 || e.err == nil && forgets(h.released, saved.Mark)
	}
	n.up = e.err == nil
	if n.up {
		// A mark that was only loaded is released too: the same request is
		// answered by it again.
		n.released = saved.Mark
	}
	return n, violated
}

// forgets reports whether a load of m betrays the released mark.
func forgets(released, m watermark.Mark) bool {
	return m.Less(released) || !released.Less(m) && !m.Equal(released)
}

// newSearch returns a search and the moment after a Create at height 1.
func newSearch(t *testing.T, broken mutation, tears bool) (*search, history) {
	x := &search{broken: broken, tears: tears, seen: map[moment]bool{}}
	x.is.known = map[[slotSize]byte]imprint{}
	x.is.of([slotSize]byte(bytes.Repeat([]byte{0xee}, slotSize)))
	var h history
	here, err := modelFile().bindingOf(3)
	if err != nil {
		t.Fatal(err)
	}
	h.store = Store{c: Config{Path: "model", ID: testID}, here: here, ino: unix.Stat_t{Ino: 7}}
	for seq := uint64(1); seq <= 2; seq++ {
		r := sample(seq, 1)
		r.binding = here
		n := x.is.of([slotSize]byte(encoded(r, nil)))
		h.d[slotOf(seq)] = sector{cache: n, media: n}
		h.released = r.mark
	}
	return x, h
}

func TestPowerCuts(t *testing.T) {
	for _, tears := range []bool{false, true} {
		x, h := newSearch(t, correct, tears)
		if v := x.explore(h, 9); v != nil {
			t.Errorf("torn sectors %t: a released mark is forgotten, or a load fails:%v", tears, v)
		}
		t.Logf("torn sectors %t: %d calls to the store, %d states", tears, x.steps, len(x.seen))
	}
}

// The search can fail: it finds what each mistake costs.
func TestPowerCutsFindMistakes(t *testing.T) {
	for broken := noSync; broken < mutations; broken++ {
		for _, tears := range []bool{false, true} {
			x, h := newSearch(t, broken, tears)
			v := x.explore(h, 6)
			if v == nil {
				t.Errorf("mutation %d costs nothing, torn sectors %t", broken, tears)
			}
			t.Logf("mutation %d, torn sectors %t, %d calls to the store:%v", broken, tears, x.steps, v)
		}
	}
}

// Adopt, Raise and Export, killed or failing at any call and then cut off from
// power: the state is as before or as after, and as after once they returned.
func TestPowerCutsOfMoves(t *testing.T) {
	c := Config{Path: "model", ID: testID}
	const before = "1/2/prevote"
	tests := []struct {
		after string
		move  func(sys *system) error
	}{
		{"copied", func(sys *system) error {
			sys.machineID = func() ([]byte, error) { return []byte("another\n"), nil }
			return c.adopt(sys)
		}},
		{"9/0/prevote", func(sys *system) error { return c.raise(sys, watermark.Saved{Mark: at(9)}) }},
		{"exported", func(sys *system) error { _, err := c.export(sys); return err }},
	}
	for _, tt := range tests {
		for call := range 7 { // 0: no injury; the writes and syncs of the load and of both slots
			for what := killed; what < injuries; what++ {
				x, h := newSearch(t, correct, true)
				done := x.attempt(&h.d, call, what, tt.move)
				if done != (call == 0) {
					t.Fatalf("%s: call %d injured by %d: done is %t", tt.after, call, what, done)
				}
				for _, d := range h.d.cuts() {
					if got := x.lookAt(c, d); got != tt.after && (done || got != before) {
						t.Errorf("%s: call %d injured by %d, then %v: %s", tt.after, call, what, d, got)
					}
				}
			}
		}
	}
}

// lookAt returns what a load on the disk d meets.
func (x *search) lookAt(c Config, d disk) string {
	s, err := c.open(context.Background(), x.system(&d, true, 0, whole))
	if err != nil {
		return err.Error()
	}
	switch saved, err := s.Load(context.Background()); {
	case err == nil:
		return saved.Mark.String()
	case errors.Is(err, ErrCopied):
		return "copied"
	case errors.Is(err, ErrExported):
		return "exported"
	default:
		return err.Error()
	}
}

// attempt reports whether move ends without an error.
func (x *search) attempt(d *disk, call int, what injury, move func(*system) error) (done bool) {
	defer func() {
		if r := recover(); r != nil && r != errKilled {
			panic(r)
		}
	}()
	return move(x.system(d, false, call, what)) == nil
}
