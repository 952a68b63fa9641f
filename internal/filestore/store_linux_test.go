package filestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"privyseal/internal/watermark"
	"privyseal/internal/watermark/storetest"
)

// diskDir returns a new directory on a file system that may hold state.
func diskDir(t testing.TB) string {
	t.Helper()
	for _, base := range []func() (string, error){
		func() (string, error) { return os.TempDir(), nil },
		os.UserCacheDir,
	} {
		dir, err := base()
		if err != nil || !onLocalDisk(dir) {
			continue
		}
		dir, err = os.MkdirTemp(dir, "filestore")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		return dir
	}
	const missing = "neither the temporary nor the cache directory is on a local disk (ext4, xfs, …): set TMPDIR to one that is; `make test` cannot make one"
	if os.Getenv("PRIVYSEAL_REQUIRE_NODES") == "1" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

func onLocalDisk(dir string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	_, ok, err := kernel().filesystem(int(f.Fd()))
	return err == nil && ok
}

// at returns a prevote of the given height.
func at(height int64) watermark.Mark {
	return watermark.Mark{Height: height, Step: watermark.StepPrevote, SignBytes: []byte{byte(height)}}
}

// create makes a new state at m and returns its config.
func create(t testing.TB, m watermark.Mark) Config {
	t.Helper()
	c := Config{Path: filepath.Join(diskDir(t), "state"), ID: testID}
	if err := Create(c, watermark.Saved{Mark: m}); err != nil {
		t.Fatal(err)
	}
	return c
}

func open(t testing.TB, c Config) *Store {
	t.Helper()
	s, err := Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func load(t testing.TB, s *Store) watermark.Saved {
	t.Helper()
	saved, err := s.Load(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return saved
}

func replace(t testing.TB, s *Store, old watermark.Saved, m watermark.Mark) watermark.Saved {
	t.Helper()
	saved, err := s.Replace(context.Background(), old, m)
	if err != nil {
		t.Fatal(err)
	}
	return saved
}

// loadErr opens and loads, and returns where that ended.
func loadErr(c Config) error {
	s, err := Open(context.Background(), c)
	if err != nil {
		return err
	}
	defer s.Close()
	_, err = s.Load(context.Background())
	return err
}

// loaded opens, loads and closes.
func loaded(t testing.TB, c Config) watermark.Saved {
	t.Helper()
	s := open(t, c)
	defer s.Close()
	return load(t, s)
}

func TestContract(t *testing.T) {
	for name, macKey := range map[string][]byte{"checksum": nil, "MAC": []byte("secret")} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) watermark.Store {
				c := Config{Path: filepath.Join(diskDir(t), "state"), ID: testID, MACKey: macKey}
				if err := Create(c, watermark.Saved{}); err != nil {
					t.Fatal(err)
				}
				return open(t, c)
			})
		})
	}
}

func TestStateOutlivesTheProcess(t *testing.T) {
	c := create(t, watermark.Mark{})
	s := open(t, c)
	saved := load(t, s)
	for h := int64(1); h <= 7; h++ {
		saved = replace(t, s, saved, at(h))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, c)
		got := load(t, s)
		if !got.Mark.Equal(at(h)) || got.Version != saved.Version || !got.Time.Equal(saved.Time) {
			t.Fatalf("wrote %+v, the next process loads %+v", saved, got)
		}
		saved = got
	}
}

func TestCreate(t *testing.T) {
	dir := diskDir(t)
	c := Config{Path: filepath.Join(dir, "a", "b", "state"), ID: testID}
	written := time.Unix(1234, 5678)
	if err := Create(c, watermark.Saved{Mark: watermark.Floor(9), Time: written, Version: 99}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{c.Path: 0o600, filepath.Join(dir, "a"): fs.ModeDir | 0o700, filepath.Join(dir, "a", "b"): fs.ModeDir | 0o700} {
		if fi, err := os.Lstat(path); err != nil || fi.Mode() != want {
			t.Errorf("%s has mode %v, want %v: %v", path, fi.Mode(), want, err)
		}
	}
	image, err := os.ReadFile(c.Path)
	if err != nil || len(image) != fileSize {
		t.Fatalf("%d bytes, %v", len(image), err)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(c.Path, &st); err != nil || st.Blocks*512 < fileSize {
		t.Errorf("%d of %d bytes are allocated, %v", st.Blocks*512, fileSize, err)
	}
	for i := range 2 {
		for copy := range 2 {
			if r, err := decode(image[i*slotOffset+copy*recordSize:][:recordSize], nil); err != nil || !r.mark.Equal(watermark.Floor(9)) {
				t.Errorf("slot %d, copy %d: %+v, %v", i, copy, r, err)
			}
		}
	}
	if got := loaded(t, c); !got.Mark.Equal(watermark.Floor(9)) || !got.Time.Equal(written) {
		t.Errorf("loaded %+v", got)
	}
	if err := Create(c, watermark.Saved{}); !errors.Is(err, ErrExists) {
		t.Errorf("a second Create: %v", err)
	}
	if got := loaded(t, c); !got.Mark.Equal(watermark.Floor(9)) {
		t.Errorf("a second Create changed the state to %+v", got)
	}
	for _, bad := range []Config{
		{Path: filepath.Join(dir, "x")},
		{Path: filepath.Join(dir, "x"), ID: watermark.ID{ChainID: strings.Repeat("c", 51)}},
	} {
		if err := Create(bad, watermark.Saved{}); err == nil {
			t.Errorf("a state of chain %q was made", bad.ID.ChainID)
		}
	}
}

func TestCreateHasOneWinner(t *testing.T) {
	c := Config{Path: filepath.Join(diskDir(t), "new", "state"), ID: testID}
	results := make(chan error, 8)
	for h := range int64(8) {
		go func() { results <- Create(c, watermark.Saved{Mark: watermark.Floor(h)}) }()
	}
	won := 0
	for range 8 {
		if err := <-results; err == nil {
			won++
		} else if !errors.Is(err, ErrExists) {
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d of 8 made the file", won)
	}
	loaded(t, c)
}

// From the look whether there is a state to its name, no other Create is at work.
func TestCreateIsAlone(t *testing.T) {
	c := Config{Path: filepath.Join(diskDir(t), "state"), ID: testID}
	var looked, named error
	sys := kernel()
	lstat, link := sys.lstat, sys.link
	sys.lstat = func(path string, st *unix.Stat_t) error {
		if path == c.Path {
			looked = lockFolder(t, c)
		}
		return lstat(path, st)
	}
	sys.link = func(fd int, path string) error {
		named = lockFolder(t, c)
		return link(fd, path)
	}
	if err := c.create(sys, watermark.Saved{Mark: at(1)}); err != nil {
		t.Fatal(err)
	}
	if looked != unix.EWOULDBLOCK || named != unix.EWOULDBLOCK {
		t.Errorf("another one has its lock: when we look, %v; when we give the name, %v", looked, named)
	}
	if err := lockFolder(t, c); err != nil {
		t.Errorf("the folder is locked for good: %v", err)
	}
}

// lockFolder locks the folder of a state for a moment, if nobody alone has its lock.
func lockFolder(t *testing.T, c Config) error {
	folder, err := os.Open(filepath.Dir(c.Path))
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	return unix.Flock(int(folder.Fd()), unix.LOCK_SH|unix.LOCK_NB)
}

// All that a file on disk can be instead of our state, and what is said of it.
func TestBadFiles(t *testing.T) {
	corrupt := func(slots ...int64) func(t *testing.T, c *Config) {
		return func(t *testing.T, c *Config) {
			f, err := os.OpenFile(c.Path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for _, i := range slots {
				for copy := range int64(2) {
					if _, err := f.WriteAt([]byte("garbage"), i*slotOffset+copy*recordSize+100); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	copyFile := func(t *testing.T, from, to string) {
		image, err := os.ReadFile(from)
		must(t, err)
		must(t, os.WriteFile(to, image, 0o600))
	}
	tests := []struct {
		name  string
		spoil func(t *testing.T, c *Config)
		want  error
		text  []string
	}{
		{"missing", func(t *testing.T, c *Config) { must(t, os.Remove(c.Path)) }, ErrMissing,
			[]string{"no such file", "privyseal state init --chain-id chain-1 --fresh-state", "state import", "--after-height"}},
		{"empty", func(t *testing.T, c *Config) { must(t, os.Truncate(c.Path, 0)) }, ErrDamaged, []string{"0 bytes long, not 131072", "state import"}},
		{"truncated", func(t *testing.T, c *Config) { must(t, os.Truncate(c.Path, slotOffset)) }, ErrDamaged, []string{"65536 bytes long"}},
		{"too long", func(t *testing.T, c *Config) { must(t, os.Truncate(c.Path, fileSize+1)) }, ErrDamaged, []string{"131073 bytes long"}},
		{"two bad records", corrupt(0, 1), ErrDamaged, []string{"both copies of the record in slot 0 have a bad checksum", "--after-height"}},
		{"one bad record", corrupt(1), ErrDamaged, []string{"both copies of the record in slot 1 have a bad checksum", "--after-height"}},
		{"other chain", func(t *testing.T, c *Config) { c.ID.ChainID = "chain-2" }, ErrForeign, []string{`for chain "chain-1", not "chain-2"`}},
		{"other key", func(t *testing.T, c *Config) { c.ID.Key[0] = 0 }, ErrForeign, []string{"for key aa00000000000000…, not 0000000000000000…"}},
		{"key for a MAC", func(t *testing.T, c *Config) { c.MACKey = []byte("k") }, ErrDamaged, []string{"no MAC, but a MAC key was given"}},
		{"readable by others", func(t *testing.T, c *Config) { must(t, os.Chmod(c.Path, 0o644)) }, ErrUnsafe, []string{"mode is 0644", "chmod 600 "}},
		{"readable by the group", func(t *testing.T, c *Config) { must(t, os.Chmod(c.Path, 0o640)) }, ErrUnsafe, []string{"mode is 0640"}},
		{"writable by the group", func(t *testing.T, c *Config) { must(t, os.Chmod(c.Path, 0o620)) }, ErrUnsafe, []string{"mode is 0620"}},
		{"symbolic link", func(t *testing.T, c *Config) {
			must(t, os.Rename(c.Path, c.Path+".real"))
			must(t, os.Symlink(c.Path+".real", c.Path))
		}, ErrUnsafe, nil},
		{"fifo", func(t *testing.T, c *Config) {
			must(t, os.Remove(c.Path))
			must(t, syscall.Mkfifo(c.Path, 0o600))
		}, ErrUnsafe, []string{"not a regular file"}},
		{"copy", func(t *testing.T, c *Config) {
			copyFile(t, c.Path, c.Path+".copy")
			c.Path += ".copy"
		}, ErrCopied, []string{"made as inode", "privyseal state adopt --chain-id chain-1"}},
		{"restored backup", func(t *testing.T, c *Config) {
			// ext4 likes to give the same inode number again.
			copyFile(t, c.Path, c.Path+".bak")
			must(t, os.Remove(c.Path))
			copyFile(t, c.Path+".bak", c.Path)
		}, ErrCopied, []string{"state adopt"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := create(t, at(5))
			tt.spoil(t, &c)
			before := content(c.Path)
			err := loadErr(c)
			var typed *Error
			if !errors.Is(err, tt.want) || !errors.As(err, &typed) || !strings.Contains(err.Error(), c.Path) || typed.Cure == "" {
				t.Fatalf("got %v, want a cure for %v that names the file", err, tt.want)
			}
			info, inspectErr := Inspect(c)
			if problem := errors.Join(info.Problem, inspectErr); !errors.Is(problem, tt.want) {
				t.Errorf("Inspect finds %v, want %v", problem, tt.want)
			}
			for _, text := range tt.text {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("no %q in: %v", text, err)
				}
			}
			if tt.want != ErrMissing && !errors.Is(Create(c, watermark.Saved{}), ErrExists) {
				t.Error("Create did not refuse")
			}
			if content(c.Path) != before {
				t.Error("the refused file was changed")
			}
		})
	}
}

func TestOwner(t *testing.T) {
	st := unix.Stat_t{Mode: unix.S_IFREG | 0o600, Size: fileSize}
	for owner, want := range map[uint32]error{0: nil, 7: nil, 8: ErrUnsafe} {
		st.Uid = owner
		if err := checkFile("state", &st, 7); !errors.Is(err, want) {
			t.Errorf("uid 7 opens a file of uid %d: %v", owner, err)
		}
	}
}

// content returns what is in a regular file.
func content(path string) string {
	if fi, err := os.Stat(path); err != nil || !fi.Mode().IsRegular() {
		return ""
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// One bit that flips anywhere in the file neither lowers the mark nor ends the
// state, and the next writes repair it.
func TestOneFlippedBit(t *testing.T) {
	c := create(t, at(1))
	s := open(t, c)
	saved := replace(t, s, load(t, s), at(2))
	s.Close()
	f, err := os.OpenFile(c.Path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flip := func(bit int64) {
		var b [1]byte
		if _, err := f.ReadAt(b[:], bit/8); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1 << (bit % 8)
		if _, err := f.WriteAt(b[:], bit/8); err != nil {
			t.Fatal(err)
		}
	}
	for slot := range int64(2) {
		for i := range int64(slotSize * 8) {
			bit := slot*slotOffset*8 + i
			flip(bit)
			if info, err := Inspect(c); err != nil || info.Problem != nil || !info.Torn || !info.Saved.Mark.Equal(saved.Mark) {
				t.Fatalf("bit %d: %+v, %v", bit, info, err)
			}
			if i%999 != 0 {
				flip(bit)
				continue
			}
			s := open(t, c)
			if got := load(t, s); !got.Mark.Equal(saved.Mark) {
				t.Fatalf("bit %d: loaded %v", bit, got.Mark)
			}
			s.Close()
			if info, err := Inspect(c); err != nil || info.Problem != nil || info.Torn {
				t.Fatalf("bit %d, after the next load: %+v, %v", bit, info, err)
			}
		}
	}
}

func TestMachineIsPartOfTheBinding(t *testing.T) {
	sys := kernel()
	c := Config{Path: filepath.Join(diskDir(t), "state"), ID: testID}
	machine := func(id string, err error) func() ([]byte, error) {
		return func() ([]byte, error) { return []byte(id), err }
	}
	loadOn := func(id string, err error) error {
		sys.machineID = machine(id, err)
		s, err := c.open(t.Context(), sys)
		if err != nil {
			return err
		}
		defer s.Close()
		_, err = s.Load(t.Context())
		return err
	}
	sys.machineID = machine("one\n", nil)
	if err := c.create(sys, watermark.Saved{}); err != nil {
		t.Fatal(err)
	}
	if err := loadOn("one\n", nil); err != nil {
		t.Errorf("on the same machine: %v", err)
	}
	for _, other := range []string{"two\n", "", "uninitialized\n"} {
		if err := loadOn(other, nil); !errors.Is(err, ErrCopied) {
			t.Errorf("on machine %q: %v", other, err)
		}
	}
	if err := loadOn("", fs.ErrNotExist); !errors.Is(err, ErrCopied) {
		t.Errorf("without an id: %v", err)
	}
	if err := loadOn("", fs.ErrPermission); err == nil || errors.Is(err, ErrCopied) {
		t.Errorf("with an id that cannot be read: %v", err)
	}
	sys.machineID = func() ([]byte, error) { return nil, fs.ErrPermission }
	if s, err := c.open(t.Context(), sys); err == nil || errors.Is(err, ErrCopied) {
		t.Errorf("opened %v without knowing the machine: %v", s, err)
	}
	sys.machineID = machine("", fs.ErrPermission)
	// A container without an id may keep state too: its inode is still known.
	if err := c.adopt(sys); err == nil {
		t.Error("adopted without knowing the machine")
	}
	sys.machineID = machine("", fs.ErrNotExist)
	if err := c.adopt(sys); err != nil {
		t.Error(err)
	}
	if err := loadOn("", nil); err != nil {
		t.Errorf("after the adoption: %v", err)
	}
}

func TestDisks(t *testing.T) {
	tests := []struct {
		kind uint32
		ok   bool
		name string
	}{
		{0xef53, true, "ext4"}, {0x58465342, true, "xfs"}, {0x9123683e, true, "btrfs"}, {0xf2f52010, true, "f2fs"},
		{0x2fc12fc1, true, "zfs"}, {0xca451a4e, true, "bcachefs"},
		{0x01021994, false, "tmpfs"}, {0x794c7630, false, "overlay"}, {0x6969, false, "nfs"}, {0xff534d42, false, "cifs"},
		{0x65735546, false, "fuse"}, {0x01021997, false, "9p"}, {0x12345678, false, "type 0x12345678"},
	}
	for _, tt := range tests {
		sys := kernel()
		sys.fstatfs = func(_ int, st *unix.Statfs_t) error { st.Type = int64(tt.kind); return nil }
		c := Config{Path: filepath.Join(diskDir(t), "state"), ID: testID}
		err := c.explain("create", c.create(sys, watermark.Saved{}))
		if tt.ok != (err == nil) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if !tt.ok && (!errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), "file system is "+tt.name) || !strings.Contains(err.Error(), "key `state`")) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err := Create(c, watermark.Saved{}); (err == nil) == tt.ok {
			t.Errorf("%s: the refused Create left a file, or the other none: %v", tt.name, err)
		}
		if _, err := c.open(t.Context(), sys); tt.ok != (err == nil) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestRealTmpfsIsRefused(t *testing.T) {
	var st syscall.Statfs_t
	if err := syscall.Statfs("/dev/shm", &st); err != nil || st.Type != 0x01021994 {
		t.Skip("/dev/shm is no tmpfs here, and `make test` cannot mount one; TestDisks covers the rule")
	}
	dir, err := os.MkdirTemp("/dev/shm", "filestore")
	if err != nil {
		t.Skipf("/dev/shm is not ours to write, and `make test` cannot change that: %v", err)
	}
	defer os.RemoveAll(dir)
	err = Create(Config{Path: filepath.Join(dir, "state"), ID: testID}, watermark.Saved{})
	if !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), "tmpfs") {
		t.Error(err)
	}
}

func TestLock(t *testing.T) {
	c := create(t, at(1))
	first := open(t, c)
	load(t, first)
	if _, err := Open(t.Context(), c); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "--standby") {
		t.Errorf("a second Open: %v", err)
	}
	for name, err := range map[string]error{
		"Adopt": Adopt(c), "Raise": Raise(c, watermark.Saved{Mark: at(9)}),
		"Export": func() error { _, err := Export(c); return err }(),
	} {
		if !errors.Is(err, ErrLocked) {
			t.Errorf("%s of an open state: %v", name, err)
		}
	}

	wait := c
	wait.Wait = true
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error)
	go func() { _, err := Open(ctx, wait); gaveUp <- err }()
	cancel()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Errorf("a wait that was called off: %v", err)
	}

	got := make(chan *Store)
	go func() {
		s, err := Open(context.Background(), wait)
		if err != nil {
			t.Error(err)
		}
		got <- s
	}()
	select {
	case <-got:
		t.Fatal("two processes have the state open")
	default:
	}
	first.Close()
	second := <-got
	if second == nil {
		t.FailNow()
	}
	if saved := load(t, second); !saved.Mark.Equal(at(1)) {
		t.Errorf("the standby loads %v", saved.Mark)
	}
	second.Close()
	if err := loadErr(wait); err != nil {
		t.Errorf("the wait that was called off still holds the lock: %v", err)
	}
}

func TestFileIsTakenAway(t *testing.T) {
	for name, take := range map[string]func(c Config) error{
		"removed": func(c Config) error { return os.Remove(c.Path) },
		"moved":   func(c Config) error { return os.Rename(c.Path, c.Path+".old") },
		"replaced": func(c Config) error {
			if err := os.Rename(c.Path, c.Path+".old"); err != nil {
				return err
			}
			return Create(c, watermark.Saved{})
		},
	} {
		c := create(t, at(1))
		s := open(t, c)
		saved := load(t, s)
		if err := take(c); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Replace(t.Context(), saved, at(2)); !errors.Is(err, errReplaced) {
			t.Errorf("%s: Replace: %v", name, err)
		}
		if _, err := s.Load(t.Context()); !errors.Is(err, errReplaced) {
			t.Errorf("%s: Load: %v", name, err)
		}
		if _, err := s.Replace(t.Context(), saved, at(2)); !errors.Is(err, errUnloaded) {
			t.Errorf("%s: second Replace: %v", name, err)
		}
	}
}

func TestAdopt(t *testing.T) {
	c := create(t, watermark.Mark{})
	s := open(t, c)
	want := replace(t, s, load(t, s), at(7))
	s.Close()
	image, err := os.ReadFile(c.Path)
	if err != nil {
		t.Fatal(err)
	}
	twin := c
	twin.Path += ".copy"
	if err := os.WriteFile(twin.Path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Raise(twin, watermark.Saved{Mark: at(9)}); !errors.Is(err, ErrCopied) {
		t.Errorf("Raise of a copy: %v", err)
	}
	if _, err := Export(twin); !errors.Is(err, ErrCopied) {
		t.Errorf("Export of a copy: %v", err)
	}
	foreign := twin
	foreign.ID.ChainID = "chain-2"
	if err := Adopt(foreign); !errors.Is(err, ErrForeign) {
		t.Errorf("Adopt for another chain: %v", err)
	}
	for range 2 {
		if err := Adopt(twin); err != nil {
			t.Fatal(err)
		}
		got := loaded(t, twin)
		if !got.Mark.Equal(want.Mark) || !got.Time.Equal(want.Time) {
			t.Errorf("adopted as %+v, was %+v", got, want)
		}
	}
	if err := loadErr(c); err != nil {
		t.Errorf("the original: %v", err)
	}
}

func TestRaise(t *testing.T) {
	other := at(5)
	other.SignBytes = []byte("other")
	bare := at(5)
	bare.SignBytes = nil
	then := time.Unix(1000, 0)
	tests := []struct {
		name     string
		by, want watermark.Mark
		err      error
	}{
		{"above", at(6), at(6), nil},
		{"floor", watermark.Floor(5), watermark.Floor(5), nil},
		{"the same", at(5), at(5), nil},
		{"below", at(4), at(5), ErrBelow},
		{"zero", watermark.Mark{}, at(5), ErrBelow},
		{"other bytes", other, bare, nil},
		{"unknown bytes", bare, bare, nil},
	}
	for _, tt := range tests {
		for _, exported := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, exported %t", tt.name, exported), func(t *testing.T) {
				c := create(t, at(5))
				if exported {
					if _, err := Export(c); err != nil {
						t.Fatal(err)
					}
				}
				if err := Raise(c, watermark.Saved{Mark: tt.by, Time: then}); !errors.Is(err, tt.err) {
					t.Fatal(err)
				}
				info, err := Inspect(c)
				if err != nil || !info.Saved.Mark.Equal(tt.want) {
					t.Fatalf("%+v, %v", info, err)
				}
				if info.Exported != (exported && tt.err != nil) || (info.Problem == nil) == info.Exported {
					t.Errorf("exported %t, problem %v", info.Exported, info.Problem)
				}
				if at(5).Less(tt.want) && !info.Saved.Time.Equal(then) {
					t.Errorf("the raised mark has the time %v", info.Saved.Time)
				}
			})
		}
	}
	c := create(t, at(5))
	c.ID.Key[0]++
	if err := Raise(c, watermark.Saved{Mark: at(6)}); !errors.Is(err, ErrForeign) {
		t.Errorf("of another key: %v", err)
	}
}

func TestExport(t *testing.T) {
	c := create(t, watermark.Mark{})
	s := open(t, c)
	want := replace(t, s, load(t, s), at(3))
	s.Close()
	for range 2 {
		got, err := Export(c)
		if err != nil || !got.Mark.Equal(want.Mark) || !got.Time.Equal(want.Time) {
			t.Fatalf("exported %+v, %v; want %+v", got, err, want)
		}
		if err := loadErr(c); !errors.Is(err, ErrExported) || !strings.Contains(err.Error(), "state import") {
			t.Fatalf("after the export: %v", err)
		}
		if err := Adopt(c); !errors.Is(err, ErrExported) {
			t.Fatalf("Adopt revived it: %v", err)
		}
	}
	// Neither record of an exported state is alive.
	image, err := os.ReadFile(c.Path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if r, err := decode(image[i*slotOffset:][:recordSize], nil); err != nil || !r.exported {
			t.Errorf("slot %d: %+v, %v", i, r, err)
		}
	}
	// The other host signed up to 9 and gave the state back, to a copy even.
	back := c
	back.Path += ".moved"
	if err := os.WriteFile(back.Path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []Config{c, back} {
		if err := Raise(c, watermark.Saved{Mark: at(9)}); err != nil {
			t.Fatal(err)
		}
		if got := loaded(t, c); !got.Mark.Equal(at(9)) {
			t.Errorf("revived at %v", got.Mark)
		}
	}
}

func TestInspect(t *testing.T) {
	c := create(t, at(4))
	s := open(t, c)
	saved := load(t, s)
	for _, id := range []watermark.ID{c.ID, {}} {
		info, err := Inspect(Config{Path: c.Path, ID: id})
		if err != nil || info.Problem != nil {
			t.Fatal(err, info.Problem)
		}
		if info.ID != testID || !info.Saved.Mark.Equal(saved.Mark) || info.Saved.Version != saved.Version || info.Mode != 0o600 ||
			info.Filesystem == "" || !info.Bound || info.Torn || info.Exported {
			t.Errorf("%+v", info)
		}
	}
	if _, err := Inspect(Config{Path: filepath.Dir(c.Path)}); err != nil {
		t.Error(err)
	}
	if _, err := Inspect(Config{Path: c.Path + "x"}); !errors.Is(err, ErrMissing) {
		t.Error(err)
	}
}

// Inspect reads without a lock while the state is being written, and sees marks
// that were written, in their order, and no torn ones.
func TestInspectWhileWriting(t *testing.T) {
	c := create(t, watermark.Mark{})
	s := open(t, c)
	saved := load(t, s)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for h := int64(1); ; h++ {
			select {
			case <-stop:
				return
			default:
				saved = replace(t, s, saved, at(h))
			}
		}
	})
	last := uint64(0)
	for range 2000 {
		info, err := Inspect(c)
		if err != nil || info.Problem != nil || info.Torn || info.Saved.Version < last {
			t.Errorf("after version %d: %+v, %v", last, info, err)
			break
		}
		last = info.Saved.Version
	}
	close(stop)
	wg.Wait()
}

func TestReplaceAllocatesLittle(t *testing.T) {
	c := create(t, watermark.Mark{})
	s := open(t, c)
	saved := load(t, s)
	n := testing.AllocsPerRun(100, func() {
		m := saved.Mark
		m.Height++
		saved = replace(t, s, saved, m)
	})
	if n > 1 { // the path, for the kernel
		t.Errorf("%v allocations", n)
	}
}

// The path has to lead to the very file, and the file has to have its name.
func TestOnPath(t *testing.T) {
	for name, change := range map[string]func(st *unix.Stat_t){
		"the same inode of another device": func(st *unix.Stat_t) { st.Dev++ },
		"another inode":                    func(st *unix.Stat_t) { st.Ino++ },
		"a file whose name is gone":        func(st *unix.Stat_t) { st.Nlink = 0 },
	} {
		c := create(t, at(1))
		s := open(t, c)
		saved := load(t, s)
		lstat := s.sys.lstat
		s.sys.lstat = func(path string, st *unix.Stat_t) error {
			err := lstat(path, st)
			change(st)
			return err
		}
		if _, err := s.Replace(t.Context(), saved, at(2)); !errors.Is(err, errReplaced) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A new state is durable before it has its name, and its name before Create returns.
func TestCreateSyncs(t *testing.T) {
	c := Config{Path: filepath.Join(diskDir(t), "state"), ID: testID}
	sys := kernel()
	var calls []string
	names := map[int]string{}
	openFile, fsync, link := sys.open, sys.fsync, sys.link
	sys.open = func(path string, flags int, mode uint32) (int, error) {
		fd, err := openFile(path, flags, mode)
		switch {
		case flags&unix.O_TMPFILE == unix.O_TMPFILE:
			names[fd] = "state"
		case flags&unix.O_DIRECTORY != 0:
			names[fd] = "folder"
		default:
			names[fd] = "companion"
		}
		return fd, err
	}
	sys.fsync = func(fd int) error { calls = append(calls, "sync "+names[fd]); return fsync(fd) }
	sys.link = func(fd int, path string) error { calls = append(calls, "link"); return link(fd, path) }
	if err := c.create(sys, watermark.Saved{}); err != nil {
		t.Fatal(err)
	}
	want := "sync state, sync companion, link, sync state, sync folder, sync folder"
	if got := strings.Join(calls, ", "); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}
