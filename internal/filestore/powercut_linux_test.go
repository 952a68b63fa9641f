package filestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
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
	contents [][recordSize]byte
	known    map[[recordSize]byte]imprint
}

func (is *imprints) of(b [recordSize]byte) imprint {
	n, ok := is.known[b]
	if !ok {
		n = imprint(len(is.contents))
		is.contents = append(is.contents, b)
		is.known[b] = n
	}
	return n
}

// sector is one of the four that matter.
type sector struct {
	cache imprint // what a read returns
	media imprint // what the disk holds for certain
	maybe string  // all that was written since, and may have reached the disk
	// dirty says that the next sync writes the sector. After a sync that failed
	// the kernel takes it for clean.
	dirty bool
}

// disk has the sectors of slot 0, then those of slot 1, and the companions.
type disk struct {
	sectors [4]sector
	// names are what the state's name and each suffix lead to, by number; 0 is
	// nothing. names is what a process sees, kept what the disk holds for certain, and
	// since the states of the folder after that.
	names, kept names
	since       string // of names, each as two runes
	files       string // content of each companion, one rune a number from 1
	// When the state was written to and changed last, by search.clock, as a process sees
	// it and as the disk holds it for certain.
	mtime, ctime, keptMtime int64
}

// names are the companions .gen and .gen.new.
type names [2]rune

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
	lateCompanion          // names the new companion before there is one
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
	// clock is what the time is, nanoseconds since 1970. It stands still but where a test
	// moves it, or the states would be too many.
	clock int64
	full  bool // there is no room for another companion
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
	named    fileID
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

// String lists the history, one event a line.
func (e *event) String() string {
	if e == nil {
		return ""
	}
	return fmt.Sprintf("%v\n%s, call %d injured by %d: mark %v, error %v, disk %v", e.before, e.what, e.call, e.injury, e.mark, e.err, e.d)
}

// The descriptors of the model. A companion's is its number on top of theirs.
const (
	fdState = iota + 3
	fdFolder
	fdCompanion
)

// system returns the model below a store: a call meets its injury at number
// call, counted over all that changes something.
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
	sys := modelFile()
	sys.now = func() time.Time { return time.Unix(0, x.clock) }
	stat := sys.fstat
	sys.fstat = func(fd int, st *unix.Stat_t) error {
		err := stat(fd, st)
		st.Mtim, st.Ctim = unix.NsecToTimespec(d.mtime), unix.NsecToTimespec(max(d.mtime, d.ctime))
		return err
	}
	x.modelState(sys, d, loading, meet)
	x.modelFolder(sys, d, meet)
	return sys
}

// modelState gives sys the calls on the state.
func (x *search) modelState(sys *system, d *disk, loading bool, meet func() injury) {
	sync := func(fd int) error {
		switch meet() {
		case whole:
			if fd == fdState {
				d.flush()
			}
			return nil
		case syncLost:
			for i := range d.sectors {
				d.sectors[i].dirty = false
			}
		}
		return unix.EIO
	}
	sys.pread = func(fd int, p []byte, off int64) (int, error) {
		if fd >= fdCompanion {
			return copy(p, x.is.contents[[]rune(d.files)[fd-fdCompanion-1]][:]), nil
		}
		i := off / slotOffset * 2
		n := copy(p, x.is.contents[d.sectors[i].cache][:])
		return n + copy(p[n:], x.is.contents[d.sectors[i+1].cache][:]), nil
	}
	sys.pwrite = func(fd int, p []byte, off int64) (int, error) {
		n, err := len(p), error(nil)
		switch meet() {
		case failed, syncLost:
			return 0, unix.EIO
		case halfDone:
			// Within the first sector, or, where a sector may be torn too, after it: one
			// mishap at a time.
			if n /= 3; x.tears && fd == fdState {
				n = recordSize
			}
		}
		if fd >= fdCompanion {
			files := []rune(d.files)
			b := x.is.contents[files[fd-fdCompanion-1]]
			copy(b[:], p[:n])
			files[fd-fdCompanion-1] = rune(x.is.of(b))
			d.files = string(files)
			return n, err
		}
		d.mtime = x.clock
		i := off / slotOffset
		if x.broken == newestSlot && !loading {
			i = 1 - i
		}
		for k := range 2 {
			s := &d.sectors[2*i+int64(k)]
			b := x.is.contents[s.cache]
			if part := min(recordSize, n-k*recordSize); part > 0 {
				copy(b[:part], p[k*recordSize:])
				x.write(s, b)
			}
		}
		return n, err
	}
	sys.fdatasync = sync
	switch {
	case x.broken == noSync, x.broken == noLoadRewrite && loading:
		sys.fdatasync = func(int) error { return nil }
	case x.broken == retriesSync:
		sys.fdatasync = func(fd int) error {
			if sync(fd) == nil {
				return nil
			}
			return sync(fd)
		}
	case x.broken == ignoresErrors:
		sys.fdatasync = func(fd int) error { sync(fd); return nil }
	}
}

// modelFolder gives sys the calls on the folder and the companions. What is in a
// companion that was synced stays; its name stays after a sync of the folder.
func (x *search) modelFolder(sys *system, d *disk, meet func() injury) {
	which := func(path string) int {
		switch {
		case strings.HasSuffix(path, newCompanion):
			return 1
		case strings.HasSuffix(path, CompanionSuffix):
			return 0
		}
		return -1
	}
	change := func(n names) {
		d.names = n
		d.since += string(n[:])
	}
	sys.open = func(path string, flags int, _ uint32) (int, error) {
		i := which(path)
		switch {
		case flags&unix.O_DIRECTORY != 0:
			return fdFolder, nil
		case i < 0:
			return fdState, nil
		case flags&unix.O_CREAT != 0:
			if meet() != whole || x.full {
				return -1, unix.ENOSPC
			}
			d.files += string(rune(x.is.of([recordSize]byte{})))
			n := d.names
			n[i] = rune(len([]rune(d.files)))
			change(n)
		case d.names[i] == 0:
			return -1, unix.ENOENT
		}
		return fdCompanion + int(d.names[i]), nil
	}
	sys.handle = func(fd int) (int32, []byte, error) { return 1, []byte{byte(max(0, fd-fdCompanion))}, nil }
	sys.fsync = func(fd int) error {
		if x.broken == lateCompanion && fd == fdFolder {
			return nil
		}
		if meet() != whole {
			return unix.EIO
		}
		if fd == fdFolder {
			d.kept, d.since = d.names, ""
		}
		return nil
	}
	sys.rename = func(from, to string) error {
		if meet() != whole {
			return unix.EIO
		}
		n := d.names
		n[which(to)], n[which(from)] = n[which(from)], 0
		change(n)
		return nil
	}
	sys.unlink = func(path string) error {
		if d.names[which(path)] == 0 {
			return unix.ENOENT
		}
		if meet() != whole {
			return unix.EIO
		}
		n := d.names
		n[which(path)] = 0
		change(n)
		return nil
	}
}

func (d *disk) flush() {
	for i := range d.sectors {
		if s := &d.sectors[i]; s.dirty {
			*s = sector{cache: s.cache, media: s.cache}
		}
	}
}

// modelFile returns a system with one file, there and in order, and without
// content.
func modelFile() *system {
	stat := func(st *unix.Stat_t) error {
		*st = unix.Stat_t{Mode: unix.S_IFREG | 0o600, Size: fileSize, Nlink: 1, Uid: uint32(os.Geteuid()), Ino: 7}
		return nil
	}
	return &system{
		flock:     func(int, int) error { return nil },
		fstat:     func(_ int, st *unix.Stat_t) error { return stat(st) },
		lstat:     func(_ string, st *unix.Stat_t) error { return stat(st) },
		fstatfs:   func(_ int, st *unix.Statfs_t) error { st.Type = unix.EXT4_SUPER_MAGIC; return nil },
		handle:    func(int) (int32, []byte, error) { return 1, []byte{0}, nil },
		machineID: func() ([]byte, error) { return []byte("machine\n"), nil },
		close:     func(int) error { return nil },
		now:       func() time.Time { return time.Unix(0, 0) },
	}
}

// write changes a sector in the page cache.
func (x *search) write(s *sector, b [recordSize]byte) {
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
	m := moment{depth, h.d, h.up, h.store.cur.seq, h.store.cur.companion, fmt.Sprint(h.released.Height, h.released.SignBytes)}
	if x.seen[m] {
		return nil
	}
	x.seen[m] = true
	last := 2 // a write makes two calls, and a load at most thirteen
	if !h.up {
		last = 13
	}
	for call := 0; call <= last; call++ { // 0: no injury
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
// and reported that to nobody who is left.
func (h history) lostWriteBack() history {
	for i := range h.d.sectors {
		h.d.sectors[i].dirty = false
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

// cuts returns all disks that the loss of power may leave: of the sectors any
// content since the last sync, one of them torn at most, and of the folder any state.
func (d disk) cuts() (all []disk) {
	all = []disk{d}
	for i, s := range d.sectors {
		var next []disk
		for _, d := range all {
			tried := map[imprint]bool{}
			for _, n := range s.maybe + string(s.media) {
				if n := imprint(n); !tried[n] && (n != garbage || !d.torn(i)) {
					tried[n] = true
					d.sectors[i] = sector{cache: n, media: n}
					next = append(next, d)
				}
			}
		}
		all = next
	}
	folders := []names{d.kept}
	for since := []rune(d.since); len(since) > 0; since = since[2:] {
		folders = append(folders, names(since[:2]))
	}
	var out []disk
	for _, d := range all {
		for _, n := range folders {
			d.names, d.kept, d.since = n, n, ""
			out = append(out, d.withTimes()...)
		}
	}
	return out
}

// withTimes returns d with each time that it may have after a loss of power: that of a
// write may be there before the write, or never.
func (d disk) withTimes() []disk {
	lost, there := d, d
	lost.mtime, there.keptMtime = d.keptMtime, d.mtime
	if lost == there {
		return []disk{d}
	}
	return []disk{lost, there}
}

// torn reports whether one of the first n sectors is.
func (d *disk) torn(n int) bool {
	return slices.ContainsFunc(d.sectors[:n], func(s sector) bool { return s.cache == garbage })
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
		// Each write tries other bytes, so that a mark that comes back differs
		// from one that was made again.
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
	if !h.up {
		n.store.companion = -1 // of a process that is gone
	}
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
	x := &search{broken: broken, tears: tears, seen: map[moment]bool{}, clock: 1}
	x.is.known = map[[recordSize]byte]imprint{}
	x.is.of([recordSize]byte(bytes.Repeat([]byte{0xee}, recordSize)))
	var h history
	sys := x.system(&h.d, true, 0, whole)
	here, err := sys.bindingOf(fdState)
	if err != nil {
		t.Fatal(err)
	}
	h.store = Store{c: Config{Path: "model", ID: testID}, fd: fdState, ino: unix.Stat_t{Ino: 7}, companion: -1}
	h.store.around.here = here
	h.d.names, h.d.kept = names{1}, names{1}
	for seq := uint64(1); seq <= 2; seq++ {
		r := sample(seq, 1)
		r.binding, r.stamp = here, 0
		if r.companion, err = sys.fileID(fdCompanion + 1); err != nil {
			t.Fatal(err)
		}
		n := x.is.of([recordSize]byte(encoded(r, nil)))
		h.d.files = string(rune(n))
		for k := range 2 {
			h.d.sectors[2*slotOf(seq)+k] = sector{cache: n, media: n}
		}
		h.released = r.mark
	}
	return x, h
}

func TestPowerCuts(t *testing.T) {
	for _, tears := range []bool{false, true} {
		x, h := newSearch(t, correct, tears)
		if v := x.explore(h, depthOfCuts); v != nil {
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
		for call := range 16 { // 0: no injury
			for what := killed; what < injuries; what++ {
				x, h := newSearch(t, correct, true)
				done := x.attempt(&h.d, call, what, tt.move)
				if call == 0 && !done {
					t.Fatalf("%s: not done", tt.after)
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

// A start that is cut off anywhere, again and again, is not a restore: neither by a kill
// nor by a loss of power, with an hour between any two, whatever became of the times of
// the file. After a kill it finds a record that is an hour old; after a stop it finds a
// file whose owner was changed since.
func TestStartsThatAreCutOff(t *testing.T) {
	for name, begin := range map[string]func(x *search, d *disk){
		"after a kill":   func(*search, *disk) {},
		"on a full disk": func(x *search, _ *disk) { x.full = true },
		"after a stop and a chown": func(x *search, d *disk) {
			r := sample(2, 1)
			r.binding, r.stamp, r.closed = x.ruling(t, d).binding, 0, true
			r.companion = x.ruling(t, d).companion
			d.files = string(rune(x.is.of([recordSize]byte(encoded(r, nil)))))
			d.ctime = time.Hour.Nanoseconds() / 2
		},
	} {
		x, h := newSearch(t, correct, true)
		begin(x, &h.d)
		starts := 0
		x.cutOff(h.d, 2, func(d disk) {
			starts++
			x.clock += time.Hour.Nanoseconds()
			defer func() { x.clock -= time.Hour.Nanoseconds() }()
			if got := x.lookAt(Config{Path: "model", ID: testID}, d); got != "1/2/prevote" && got != "9/0/prevote" {
				t.Fatalf("%s, start %d: %s, disk %v", name, starts, got, d)
			}
		})
		t.Logf("%s: %d starts that were cut off", name, starts)
	}
}

// ruling returns the record that rules in d.
func (x *search) ruling(t *testing.T, d *disk) record {
	t.Helper()
	var slots [2][slotSize]byte
	sys := x.system(d, true, 0, whole)
	if err := sys.readSlots(fdState, &slots); err != nil {
		t.Fatal(err)
	}
	r, _, err := judge(&slots, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// cutOff starts a signer on d, an hour later, which loads and writes one mark and is cut
// off at each of its calls, by a kill or a failure and then perhaps a loss of power. It
// shows each disk that this leaves, and does the same to it, up to times in a row.
func (x *search) cutOff(d disk, times int, show func(disk)) {
	if times == 0 {
		return
	}
	x.clock += time.Hour.Nanoseconds()
	defer func() { x.clock -= time.Hour.Nanoseconds() }()
	left := map[disk]bool{}
	for call := 1; ; call++ {
		after, met := d, false
		x.attempt(&after, call, killed, func(sys *system) error {
			defer func() { met = recover() == errKilled }()
			return start(sys)
		})
		if !met {
			break
		}
		for _, d := range append(after.cuts(), after) {
			left[d] = true
		}
	}
	for d := range left {
		show(d)
		x.cutOff(d, times-1, show)
	}
}

// start loads and writes one mark.
func start(sys *system) error {
	s, err := Config{Path: "model", ID: testID}.open(context.Background(), sys)
	if err != nil {
		return err
	}
	saved, err := s.Load(context.Background())
	if err == nil {
		_, err = s.Replace(context.Background(), saved, at(9))
	}
	return err
}
