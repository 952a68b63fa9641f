//go:build linux

package crash

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"privyseal/internal/filestore"
)

// history is what a chain of processes did to one state, call by call. A call
// without a name stands for a restart.
type history struct {
	path  string
	start *disk
	calls []call
}

// follow runs a signer and adds what it did.
func (h *history) follow(t *testing.T, writes int, injections ...string) run {
	t.Helper()
	r := traced(t, "sign", h.path, writes, injections...)
	h.calls = append(append(h.calls, call{}), r.calls...)
	return r
}

// newHistory returns that of a state that was made long ago.
func newHistory(t *testing.T) *history {
	h := &history{path: newState(t)}
	h.start = mounted(t, h.path)
	return h
}

// cutPower replays the history, cuts the power after each call, puts whatever
// may be left into the real file, and opens it. It returns the first loss of a
// mark that was known before: released, or loaded and so possibly signed.
func (h *history) cutPower(t *testing.T) (cuts int, loss error) {
	t.Helper()
	file, err := os.OpenFile(h.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	d := *h.start
	d.fds = map[int]string{}
	opened := map[outcome]known{}
	var last known
	for i, c := range h.calls {
		if c.name == "" {
			d.restart()
			continue
		}
		d.does(c)
		if c.name == "write" && c.args[0] == "1" && !c.killed {
			if k, ok := parseKnown(strings.TrimSuffix(c.args[1], "\n")); ok {
				last = k
			}
		}
		for _, o := range d.outcomes() {
			cuts++
			now, ok := opened[o]
			if !ok {
				if now, err = openImage(file, o); err != nil {
					return cuts, fmt.Errorf("after call %d, %s: %w", i, c.name, err)
				}
				opened[o] = now
			}
			if last.forgets(now) {
				return cuts, fmt.Errorf("after call %d, %s: %+v was known, the state is at %+v", i, c.name, last, now)
			}
		}
	}
	return cuts, nil
}

// openImage puts o into the file, in place because of its inode, and looks at it.
// Bytes that were put back are not loaded: which file beside the state a loss of power
// leaves is a matter of the model in internal/filestore.
func openImage(file *os.File, o outcome) (known, error) {
	for i, off := range sectors {
		if _, err := file.WriteAt([]byte(o.file[i]), int64(off)); err != nil {
			return known{}, err
		}
	}
	info, err := filestore.Inspect(filestore.Config{Path: file.Name(), ID: id})
	if err == nil && !errors.Is(info.Problem, filestore.ErrRestored) {
		err = info.Problem
	}
	return known{info.Saved.Mark.Height, string(info.Saved.Mark.SignBytes)}, err
}

// without returns the history of a signer that does not make some calls.
func (h *history) without(drop func(c call, loading bool) bool) *history {
	mutant := &history{path: h.path, start: h.start}
	loading := true
	for _, c := range h.calls {
		switch {
		case c.name == "":
			loading = true
		case c.name == "write" && strings.HasPrefix(c.args[1], "loaded"):
			loading = false
		case c.name == "write" && strings.HasPrefix(c.args[1], "lost"):
			loading = true
		}
		if !drop(c, loading) {
			mutant.calls = append(mutant.calls, c)
		}
	}
	return mutant
}

func (h *history) mustSurvive(t *testing.T) {
	t.Helper()
	cuts, loss := h.cutPower(t)
	if loss != nil {
		t.Error(loss)
	}
	if cuts < 20 {
		t.Errorf("only %d power cuts were tried", cuts)
	}
}

// One write of the real store, but for a process's first, is one pwrite of 1,024 bytes
// and one fdatasync.
func TestOneWriteOneSync(t *testing.T) {
	h := newHistory(t)
	r := h.follow(t, 5)
	if !bytes.Contains(r.output, []byte("released 5 ")) {
		t.Fatalf("%s", r.output)
	}
	var names []string
	var size string
	for _, c := range r.calls {
		names = append(names, c.name)
		if c.name == "pwrite64" {
			size = c.args[2]
		}
		if c.name != "write" {
			continue
		}
		released := strings.HasPrefix(c.args[1], "released") && !strings.HasPrefix(c.args[1], "released 1 ") // the first makes a companion
		if got := strings.Join(names, " "); released && got != "statx pwrite64 fdatasync write" {
			t.Errorf("a write of the store is %s", got)
		} else if released && size != "1024" {
			t.Errorf("a write of the store has %s bytes", size)
		}
		names = nil
	}
	h.mustSurvive(t)
}

// A signer is killed in a write or a sync, or its sync fails; the page cache now
// holds what the disk may not. It goes on, or another one does, which may fail
// in its turn; and then the power goes.
func TestPowerCutAfterTrouble(t *testing.T) {
	kill := func(name string, n int) string { return fmt.Sprintf("%s:signal=SIGKILL:when=%d", name, n) }
	fail := func(name string, n int) string { return fmt.Sprintf("%s:error=EIO:when=%d", name, n) }
	troubles := [][]string{ // of one process after the other; the last one meets none
		{fail("fdatasync", 1)},
		{kill("fdatasync", 3), fail("fdatasync", 1)},
		{kill("fdatasync", 2), fail("fdatasync", 1), kill("fdatasync", 1)},
		{fail("fdatasync", 2), kill("fdatasync", 1), fail("pwrite64", 1)},
		{fail("pwrite64", 2), kill("pwrite64", 3)},
		{fail("fdatasync", 3), fail("fdatasync", 2)},
		{"fdatasync:error=EIO:when=2+1"}, // every sync but the first
		{"fdatasync:error=EIO:when=2+2", "fdatasync:error=ENOSPC:when=1+2"},
	}
	for n := 1; n <= 6; n++ {
		troubles = append(troubles, []string{kill("pwrite64", n)}, []string{kill("fdatasync", n)}, []string{fail("fdatasync", n)})
	}
	for _, trouble := range troubles {
		t.Run(strings.Join(trouble, ", then "), func(t *testing.T) {
			h := newHistory(t)
			for _, injection := range trouble {
				h.follow(t, 4, injection)
			}
			if r := h.follow(t, 3); !bytes.Contains(r.output, []byte("released")) {
				t.Fatalf("the last signer: %s", r.output)
			}
			h.mustSurvive(t)
		})
	}
}

// The same, for signers that leave out a call that matters: the loss is found.
func TestPowerCutFindsMistakes(t *testing.T) {
	trouble := func() *history {
		h := newHistory(t)
		h.follow(t, 3, "fdatasync:signal=SIGKILL:when=3")
		h.follow(t, 2)
		return h
	}
	tests := map[string]func(c call, loading bool) bool{
		"no sync":         func(c call, loading bool) bool { return c.name == "fdatasync" },
		"no sync by load": func(c call, loading bool) bool { return loading && c.name == "fdatasync" },
	}
	for name, drop := range tests {
		h := trouble()
		h.mustSurvive(t)
		cuts, loss := h.without(drop).cutPower(t)
		if loss == nil {
			t.Errorf("%s: costs nothing in %d power cuts", name, cuts)
		}
		t.Logf("%s: %v", name, loss)
	}
}

// A power cut during an init leaves no file, or a whole one; and a whole one
// once the init has said so, with all directories above it.
func TestPowerCutDuringCreate(t *testing.T) {
	path := diskDir(t) + "/a/b/state"
	r := traced(t, "create", path, 0)
	if string(r.output) != "created\n" {
		t.Fatalf("%s", r.output)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()

	// replay returns the first moment at which a power cut breaks the promise.
	replay := func(drop func(i int) bool) error {
		d, created := newDisk(t, path), false
		for i, c := range r.calls {
			if drop(i) {
				continue
			}
			d.does(c)
			created = created || c.name == "write" && c.args[1] == "created\n"
			for _, o := range d.outcomes() {
				switch {
				case o.absent && created:
					return fmt.Errorf("after call %d, %s: the file was created and is lost", i, c.name)
				case o.absent:
				default:
					if _, err := openImage(file, o); err != nil {
						return fmt.Errorf("after call %d, %s: %w", i, c.name, err)
					}
				}
			}
		}
		if !created {
			t.Fatal("the trace does not tell of the end")
		}
		return nil
	}
	if err := replay(func(int) bool { return false }); err != nil {
		t.Error(err)
	}
	// The replay finds what it costs to leave out the sync of the upper new
	// directory's parent, of the nameless file, or of the directory of the file.
	// The other syncs are there for crashes and file systems outside this model.
	var needed []string
	for i, c := range r.calls {
		if c.name != "fsync" {
			continue
		}
		if err := replay(func(j int) bool { return i == j }); err != nil {
			needed = append(needed, err.Error())
		}
	}
	if len(needed) != 3 {
		t.Errorf("%d syncs are needed:\n%s", len(needed), strings.Join(needed, "\n"))
	}
}
