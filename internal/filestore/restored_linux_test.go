package filestore

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"privyseal/internal/watermark"
)

// run runs a program as an operator would.
func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// onHost creates a state in a folder of its own, with a host that remembers, or
// not.
func onHost(t *testing.T, remembers bool, m watermark.Mark) Config {
	t.Helper()
	c := Config{Path: filepath.Join(diskDir(t), "home", "state"), ID: testID}
	if remembers {
		c.Host = []string{filepath.Join(t.TempDir(), "run")}
	}
	if err := Create(c, watermark.Saved{Mark: m}); err != nil {
		t.Fatal(err)
	}
	return c
}

// signs goes up to a mark and stops, cleanly or by a kill.
func signs(t *testing.T, c Config, m watermark.Mark, killed bool) {
	t.Helper()
	s := open(t, c)
	replace(t, s, load(t, s), m)
	if killed {
		kill(s)
	}
	s.Close()
}

// kill ends a signer: the kernel closes its files, and nobody writes a word.
func kill(s *Store) {
	s.sys.close(s.companion)
	s.companion = -1
	s.Close()
}

// ways put the bytes of the backup, of the file or the whole folder, into the same
// file again. They come in two kinds: those that set the times of the backup, and
// those that leave the time of writing.
var ways = map[string][]string{
	"cp":              {"cp", "BACKUP/state", "HOME/state"},
	"cp -p":           {"cp", "-p", "BACKUP/state", "HOME/state"},
	"cp -a":           {"cp", "-a", "BACKUP/state", "HOME/state"},
	"cat":             {"sh", "-c", "cat BACKUP/state >HOME/state"},
	"dd":              {"dd", "if=BACKUP/state", "of=HOME/state", "conv=notrunc", "status=none"},
	"dd of one slot":  {"dd", "if=BACKUP/state", "of=HOME/state", "conv=notrunc", "bs=64k", "count=1", "status=none"},
	"tar --overwrite": {"sh", "-c", "tar -C BACKUP -cf - . | tar -C HOME --overwrite -xpf -"},
	"cp -a of all":    {"cp", "-aT", "BACKUP", "HOME"},
	"cp of all":       {"cp", "-rT", "BACKUP", "HOME"},
	// What has the same size and second it takes for the same, but for -I.
	"rsync": {"rsync", "-aI", "--inplace", "BACKUP/", "HOME/"},
}

func restore(t *testing.T, way []string, backup, home string) {
	t.Helper()
	if _, err := exec.LookPath(way[0]); err != nil {
		missing := way[0] + " is missing; `scripts/setup debian` brings rsync, and every system has the others"
		if os.Getenv("PRIVYSEAL_REQUIRE_NODES") == "1" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	args := make([]string, len(way))
	for i, a := range way {
		args[i] = strings.NewReplacer("BACKUP", backup, "HOME", home).Replace(a)
	}
	run(t, args[0], args[1:]...)
}

// age makes the last record of a state look ten minutes older, as if time had gone
// by since: the records are written again with another stamp, and the times of the
// file are set to it, so that its change time is the only one that is new.
func age(t *testing.T, c Config) {
	t.Helper()
	then := time.Now().Add(-10 * time.Minute)
	raw, err := os.ReadFile(c.Path)
	if err != nil {
		t.Fatal(err)
	}
	restamp := func(sector []byte) {
		r, err := decode(sector, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.stamp = then.UnixNano()
		r.encode((*[recordSize]byte)(sector), nil)
	}
	for slot := range 2 {
		for n := range 2 {
			restamp(raw[slot*slotOffset+n*recordSize:][:recordSize])
		}
	}
	if err := os.WriteFile(c.Path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(c.Path, then, then); err != nil {
		t.Fatal(err)
	}
}

// Whatever puts old bytes back, within a boot or across one, and however the signer
// ended: it is refused, and adopting it does not go below what is known.
func TestRestored(t *testing.T) {
	for name, way := range ways {
		for _, remembers := range []bool{true, false} {
			for _, killed := range []bool{false, true} {
				for _, tombstone := range []bool{false, true} {
					if killed && tombstone {
						continue // an export ends cleanly
					}
					t.Run(name+conditions(remembers, killed, tombstone), func(t *testing.T) {
						c := onHost(t, remembers, at(1))
						home := filepath.Dir(c.Path)
						backup := filepath.Join(diskDir(t), "backup")
						signs(t, c, at(2), killed)
						run(t, "cp", "-aT", home, backup)
						signs(t, c, at(9), killed)
						if tombstone {
							if _, err := Export(c); err != nil {
								t.Fatal(err)
							}
						}
						if name == "dd of one slot" && killed && !remembers {
							age(t, c) // the other slot is of the present run
						}
						restore(t, way, backup, home)
						if err := loadErr(c); !errors.Is(err, ErrRestored) {
							t.Errorf("Load: %v", err)
						}
						info, err := Inspect(c)
						if err != nil || !errors.Is(info.Problem, ErrRestored) || info.Saved.Mark.IsZero() {
							t.Errorf("Inspect: %+v, %v", info, err)
						}
						if err := Raise(c, watermark.Saved{Mark: at(5)}); !errors.Is(err, ErrRestored) {
							t.Errorf("Raise: %v", err)
						}
						if _, err := Export(c); !errors.Is(err, ErrRestored) {
							t.Errorf("Export: %v", err)
						}
						adopted := Adopt(c)
						if tombstone && remembers && !errors.Is(adopted, ErrExported) {
							t.Errorf("Adopt over a tombstone: %v", adopted)
						}
						if !tombstone && adopted != nil {
							t.Errorf("Adopt: %v", adopted)
						}
						if !tombstone && remembers {
							if got := loaded(t, c); !got.Mark.Equal(at(9)) {
								t.Errorf("adopted at %v", got.Mark)
							}
						}
					})
				}
			}
		}
	}
}

func conditions(remembers, killed, tombstone bool) string {
	text := ", after a reboot"
	if remembers {
		text = ", the host remembers"
	}
	if killed {
		text += ", killed"
	}
	if tombstone {
		text += ", over a tombstone"
	}
	return text
}

// A backup of the same run, put back after a kill and a reboot, is known by the
// times of the file alone.
func TestRestoredFromTheSameRun(t *testing.T) {
	for _, name := range []string{"cp", "cp -p", "cp -a", "cat", "dd", "tar --overwrite", "cp -a of all"} {
		t.Run(name, func(t *testing.T) {
			c := onHost(t, false, at(1))
			home, backup := filepath.Dir(c.Path), filepath.Join(diskDir(t), "backup")
			s := open(t, c)
			two := replace(t, s, load(t, s), at(2))
			age(t, c)
			run(t, "cp", "-aT", home, backup)
			s.cur.stamp = 0 // what age has changed below it
			replace(t, s, two, at(3))
			kill(s)
			restore(t, ways[name], backup, home)
			if err := loadErr(c); !errors.Is(err, ErrRestored) || !strings.Contains(err.Error(), "after its last record of") {
				t.Errorf("%v", err)
			}
			if err := Adopt(c); err != nil {
				t.Error(err)
			}
			loaded(t, c)
		})
	}
}

// A start on a full disk cannot say much in a new companion, but makes one: what was
// backed up at rest before, and is put back with the whole folder after a kill and a
// reboot, names another.
func TestRestoredOverAStartOnAFullDisk(t *testing.T) {
	c := onHost(t, false, at(1))
	home, backup := filepath.Dir(c.Path), filepath.Join(diskDir(t), "backup")
	signs(t, c, at(2), false)
	run(t, "cp", "-aT", home, backup)
	sys := kernel()
	real := sys.pwrite
	sys.pwrite = func(fd int, p []byte, off int64) (int, error) {
		if len(p) == recordSize {
			return 0, unix.ENOSPC
		}
		return real(fd, p, off)
	}
	s, err := c.open(t.Context(), sys)
	if err != nil {
		t.Fatal(err)
	}
	replace(t, s, load(t, s), at(9))
	kill(s)
	if got := loaded(t, c); !got.Mark.Equal(at(9)) {
		t.Errorf("after the kill: %v", got.Mark)
	}
	restore(t, ways["cp -a of all"], backup, home)
	if err := loadErr(c); !errors.Is(err, ErrRestored) {
		t.Errorf("after a restore: %v", err)
	}
}

// A copy that stands at the very mark which another home of the host has exported is not
// who took the export in, and does not come to life by adopting it.
func TestCopyOfWhatWasExported(t *testing.T) {
	c := onHost(t, true, at(1))
	twin, heir := c, c
	twin.Path += ".copy"
	heir.Path += ".heir"
	run(t, "cp", c.Path, twin.Path)
	if err := Adopt(twin); err != nil {
		t.Fatal(err)
	}
	signs(t, twin, at(5), false)
	if err := Adopt(c); err != nil { // which takes the mark of its twin
		t.Fatal(err)
	}
	saved, err := Export(c)
	if err != nil || !saved.Mark.Equal(at(5)) {
		t.Fatalf("%v, %v", saved.Mark, err)
	}
	if err := loadErr(twin); !errors.Is(err, ErrRestored) || !strings.Contains(err.Error(), "has exported that with "+c.Path+", on ") {
		t.Errorf("the twin: %v", err)
	}
	if info, err := Inspect(twin); err != nil || !errors.Is(info.Problem, ErrRestored) {
		t.Errorf("the twin, from outside: %v, %v", info.Problem, err)
	}
	if _, err := Export(twin); !errors.Is(err, ErrRestored) {
		t.Errorf("the twin is exported too: %v", err)
	}
	if err := Adopt(twin); !errors.Is(err, ErrExported) {
		t.Errorf("the twin is adopted: %v", err)
	}
	// Whoever takes it in on this host may sign, and the twin may not even then.
	if err := Create(heir, saved); err != nil {
		t.Fatal(err)
	}
	if got := loaded(t, heir); !got.Mark.Equal(at(5)) {
		t.Errorf("the heir is at %v", got.Mark)
	}
	if err := loadErr(twin); !errors.Is(err, ErrExported) {
		t.Errorf("the twin, beside the heir: %v", err)
	}
	signs(t, heir, at(6), false)
}

// Writes that failed until the stop leave times that no record has. Where the disk has
// room again by then, the stop says that nothing was put back.
func TestStopAfterFailedWrites(t *testing.T) {
	c := onHost(t, false, at(1))
	signs(t, c, at(2), true)
	sys := kernel()
	full := false
	real := sys.pwrite
	sys.pwrite = func(fd int, p []byte, off int64) (int, error) {
		if full && len(p) == slotSize {
			return 0, unix.ENOSPC
		}
		return real(fd, p, off)
	}
	s, err := c.open(t.Context(), sys)
	if err != nil {
		t.Fatal(err)
	}
	saved := replace(t, s, load(t, s), at(3))
	full = true
	if _, err := s.Replace(t.Context(), saved, at(4)); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Hour) // as a file system does that stamps a file before it finds no room
	if err := os.Chtimes(c.Path, later, later); err != nil {
		t.Fatal(err)
	}
	full = false
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if got := loaded(t, c); !got.Mark.Equal(at(3)) {
		t.Errorf("loaded %v", got.Mark)
	}
}

// What is not a restore: stops and kills in any order, reboots, the clock, chown and
// chmod, a folder that is renamed, and looking.
func TestNotRestored(t *testing.T) {
	for name, between := range map[string]func(t *testing.T, c *Config){
		"nothing": func(*testing.T, *Config) {},
		"chown": func(t *testing.T, c *Config) {
			run(t, "chown", "-R", "--reference="+filepath.Dir(c.Path), filepath.Dir(c.Path))
		},
		"chmod": func(t *testing.T, c *Config) { run(t, "chmod", "600", c.Path) },
		"a folder that moves": func(t *testing.T, c *Config) {
			moved := filepath.Dir(c.Path) + "x"
			run(t, "mv", filepath.Dir(c.Path), moved)
			c.Path = filepath.Join(moved, "state")
		},
		"a look": func(t *testing.T, c *Config) {
			if _, err := Inspect(*c); err != nil {
				t.Error(err)
			}
			run(t, "cp", "-a", c.Path, c.Path+".backup")
		},
	} {
		for _, remembers := range []bool{true, false} {
			for _, killed := range []bool{true, false} {
				if killed && !remembers && (name == "chown" || name == "chmod") {
					continue // doc/operations.md: adopt it
				}
				t.Run(name+conditions(remembers, killed, false), func(t *testing.T) {
					c := onHost(t, remembers, at(1))
					for h := int64(2); h < 6; h++ {
						between(t, &c)
						signs(t, c, at(h), killed)
					}
					between(t, &c)
					if got := loaded(t, c); !got.Mark.Equal(at(5)) {
						t.Errorf("loaded %v", got.Mark)
					}
				})
			}
		}
	}
}

// A clock that jumps a day either way, while the signer runs or while it does not,
// is not a restore.
func TestClockJumps(t *testing.T) {
	c := onHost(t, false, at(1))
	for i, jump := range []time.Duration{0, 24 * time.Hour, 0, -24 * time.Hour, 0} {
		sys := kernel()
		now := func() time.Time { return time.Now().Add(jump) }
		sys.now = now
		// The kernel stamps files by the same clock.
		sys.fstat = func(fd int, st *unix.Stat_t) error {
			err := unix.Fstat(fd, st)
			st.Mtim, st.Ctim = shifted(st.Mtim, c, fd), shifted(st.Ctim, c, fd)
			return err
		}
		s, err := c.open(context.Background(), sys)
		if err != nil {
			t.Fatal(err)
		}
		saved, err := s.Load(t.Context())
		if err != nil {
			t.Fatalf("jump %d: %v", i, err)
		}
		replace(t, s, saved, at(int64(i+2)))
		kill(s)
	}
}

// shifted returns the time that the last record of the file has, as the kernel would
// have stamped it by the clock of that moment.
func shifted(ts unix.Timespec, c Config, fd int) unix.Timespec {
	var slots [2][slotSize]byte
	if err := kernel().readSlots(fd, &slots); err != nil {
		return ts
	}
	cur, _, err := judge(&slots, nil)
	if err != nil {
		return ts
	}
	return unix.NsecToTimespec(cur.stamp)
}

// One signer a host for a chain and key, whatever its file.
func TestHostLock(t *testing.T) {
	c := onHost(t, true, at(1))
	twin := c
	twin.Path += ".copy"
	run(t, "cp", c.Path, twin.Path)
	other := c
	other.ID.ChainID, other.Path = "chain-2", c.Path+".2"
	if err := Create(other, watermark.Saved{}); err != nil {
		t.Fatal(err)
	}
	first := open(t, c)
	saved := load(t, first)
	for name, err := range map[string]error{
		"Adopt of a copy": Adopt(twin), "Open of a copy": loadErr(twin),
	} {
		if !errors.Is(err, ErrTwin) || !strings.Contains(c.explain("open", err).Error(), "with another state ("+c.Path+")\n`fuser -v ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	loaded(t, other)
	replace(t, first, saved, at(5))
	first.Close()

	// The twin may be adopted then, and knows what was signed.
	if err := Adopt(twin); err != nil {
		t.Fatal(err)
	}
	if got := loaded(t, twin); !got.Mark.Equal(at(5)) {
		t.Errorf("the twin is at %v", got.Mark)
	}
	signs(t, twin, at(6), false)
	if err := loadErr(c); !errors.Is(err, ErrRestored) || !strings.Contains(err.Error(), "with "+twin.Path+", on ") {
		t.Errorf("the first one, after its twin: %v", err)
	}
	// Nor does a new state begin below.
	third := c
	third.Path += ".3"
	if err := Create(third, watermark.Saved{Mark: at(5)}); !errors.Is(err, ErrBelow) || !strings.Contains(err.Error(), "rm -f ") {
		t.Errorf("a third state: %v", err)
	}
	if err := Create(third, watermark.Saved{Mark: at(6)}); err != nil {
		t.Error(err)
	}
	loaded(t, third)
}

// A standby of another home waits for the host's lock, and takes over.
func TestHostLockIsWaitedFor(t *testing.T) {
	c := onHost(t, true, at(1))
	twin := c
	twin.Path += ".copy"
	if err := Create(twin, watermark.Saved{Mark: at(9)}); err != nil {
		t.Fatal(err)
	}
	twin.Wait = true
	first := open(t, c)
	got := make(chan error)
	go func() { got <- loadErr(twin) }()
	select {
	case err := <-got:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	first.Close()
	if err := <-got; err != nil {
		t.Error(err)
	}
}

// A host that cannot remember, or remembers nonsense, stops nobody.
func TestHostFoldersFail(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, dir string, c Config){
		"none":     func(*testing.T, string, Config) {},
		"no place": func(t *testing.T, dir string, _ Config) { run(t, "touch", dir) },
		"garbage": func(t *testing.T, dir string, c Config) {
			run(t, "mkdir", dir)
			if err := os.WriteFile(filepath.Join(dir, hostName(c.ID)), []byte("garbage"), 0o644); err != nil {
				t.Fatal(err)
			}
		},
		"a link": func(t *testing.T, dir string, c Config) {
			run(t, "mkdir", dir)
			run(t, "ln", "-s", "/nowhere", filepath.Join(dir, hostName(c.ID)))
		},
		"a fifo": func(t *testing.T, dir string, c Config) {
			run(t, "mkdir", dir)
			run(t, "mkfifo", filepath.Join(dir, hostName(c.ID)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := onHost(t, true, at(1))
			spoil(t, c.Host[0], c)
			for h := int64(2); h < 5; h++ {
				signs(t, c, at(h), h == 3)
			}
			if info, err := Inspect(c); err != nil || info.Problem != nil || info.Instance == "" {
				t.Errorf("%+v, %v", info, err)
			}
		})
	}
}

// What somebody else put where all may write is not believed, but for root's.
func TestHostRecordOfAnother(t *testing.T) {
	c := onHost(t, true, at(1))
	signs(t, c, at(2), false)
	far := sample(99, 1000)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, hostName(c.ID)), encoded(far, nil), 0o644); err != nil {
		t.Fatal(err)
	}
	files := []hostFile{{owner: uint32(os.Geteuid()) + 1}}
	fd, err := unix.Open(filepath.Join(dir, hostName(c.ID)), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	files[0].fd = fd
	for owner, want := range map[uint32]int{0: 0, uint32(os.Geteuid()) + 1: 1} {
		if got := c.readHost(kernel(), files, owner); len(got) != want {
			t.Errorf("a state of user %d: %d records", owner, len(got))
		}
	}
}

// Without handles there is no telling a copy, so nothing is made, and nothing left.
func TestNoHandles(t *testing.T) {
	for denied, cure := range map[error]string{
		unix.EPERM: "allow the system call name_to_handle_at", unix.ENOSYS: "allow the system call name_to_handle_at",
		unix.EOPNOTSUPP: "keep it on a local disk",
	} {
		c := Config{Path: filepath.Join(diskDir(t), "state"), ID: testID}
		sys := kernel()
		sys.handle = func(int) (int32, []byte, error) { return 0, nil, denied }
		err := c.explain("create", c.create(sys, watermark.Saved{}))
		if !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), cure) {
			t.Error(err)
		}
		left, err := os.ReadDir(filepath.Dir(c.Path))
		if err != nil || len(left) != 0 {
			t.Errorf("%v is left, %v", left, err)
		}
	}
}

// A file of version 1 is restored, or of before an upgrade: it is adopted.
func TestVersion1(t *testing.T) {
	c := create(t, at(7))
	image := make([]byte, fileSize)
	for _, seq := range []uint64{8, 9} {
		b := encoded(sample(seq, 7), nil)
		b[15] = version1
		copy(image[slotOf(seq)*slotOffset:], resealed(b))
	}
	if err := os.WriteFile(c.Path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := loadErr(c); !errors.Is(err, ErrRestored) || !strings.Contains(err.Error(), "earlier version") {
		t.Error(err)
	}
	if err := Adopt(c); err != nil {
		t.Fatal(err)
	}
	if got := loaded(t, c); got.Mark.Height != 7 || got.Version < 10 {
		t.Errorf("%+v", got)
	}
}

// Of a machine that systemd has not named yet nothing is known, as of one without a
// name.
func TestMachineWithoutAName(t *testing.T) {
	c := Config{Path: filepath.Join(diskDir(t), "state"), ID: testID}
	sys := kernel()
	sys.machineID = func() ([]byte, error) { return []byte("uninitialized\n"), nil }
	if err := c.create(sys, watermark.Saved{}); err != nil {
		t.Fatal(err)
	}
	sys.machineID = func() ([]byte, error) { return nil, os.ErrNotExist }
	s, err := c.open(t.Context(), sys)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Load(t.Context()); err != nil {
		t.Error(err)
	}
}

// The companion has to live and die with the state, so it is on the same device.
func TestCompanionOnAnotherDevice(t *testing.T) {
	c := Config{Path: filepath.Join(diskDir(t), "state"), ID: testID}
	sys := kernel()
	calls, fstat := 0, sys.fstat
	sys.fstat = func(fd int, st *unix.Stat_t) error {
		err := fstat(fd, st)
		calls++
		st.Dev += uint64(calls) // each file on one of its own
		return err
	}
	err := c.explain("create", c.create(sys, watermark.Saved{}))
	if !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), "mount the folder") {
		t.Error(err)
	}
}

// The lock is within reach of other users, whatever the umask; and a file of the host
// that is of another chain says nothing.
func TestHostFile(t *testing.T) {
	defer unix.Umask(unix.Umask(0o077))
	c := onHost(t, true, at(1))
	signs(t, c, at(2), false)
	path := filepath.Join(c.Host[0], hostName(c.ID))
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
	other := sample(99, 1000)
	other.id.ChainID = "chain-2"
	if err := os.WriteFile(path, encoded(other, nil), 0o644); err != nil {
		t.Fatal(err)
	}
	c.Path += ".2"
	if err := Create(c, watermark.Saved{Mark: at(3)}); err != nil {
		t.Error(err)
	}
}
