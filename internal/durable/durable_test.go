package durable

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// The test binary is also a process that is killed while it writes, see crashing.
func TestMain(m *testing.M) {
	if step := os.Getenv("DURABLE_CRASH"); step != "" {
		crashing(step, os.Getenv("DURABLE_HOW"), os.Getenv("DURABLE_PATH"))
	}
	os.Exit(m.Run())
}

const content, old = "what is written\n", "what was there\n"

// ways are the ways of writing a file. Each leaves content at path.
var ways = map[string]func(path string) error{
	"create": func(path string) error { return Create(path, []byte(content), 0o600) },
	"create with names": func(path string) error {
		withNames()
		return Create(path, []byte(content), 0o600)
	},
	"create without links": func(path string) error {
		withNames()
		link = func(from, to string) error { return &os.LinkError{Op: "link", Old: from, New: to, Err: syscall.EPERM} }
		return Create(path, []byte(content), 0o600)
	},
	"create without names for the nameless": func(path string) error {
		staysNameless()
		return Create(path, []byte(content), 0o600)
	},
	"replace": replacing,
	"replace with names": func(path string) error {
		withNames()
		return replacing(path)
	},
	"replace without names for the nameless": func(path string) error {
		staysNameless()
		return replacing(path)
	},
}

func replacing(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return Replace(path, []byte(content), info)
}

// withNames is a file system on which every file has a name.
func withNames() {
	nameless = func(string, fs.FileMode) (*os.File, string, error) { return nil, "", errors.ErrUnsupported }
}

// staysNameless is one on which a file that has no name cannot get one.
func staysNameless() {
	real := link
	link = func(from, to string) error {
		if strings.HasPrefix(from, "/proc/") {
			return &os.LinkError{Op: "link", Old: from, New: to, Err: syscall.ENOENT}
		}
		return real(from, to)
	}
}

// before makes what is there before a way is gone.
func before(t *testing.T, how string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "file")
	if strings.HasPrefix(how, "replace") {
		if err := os.WriteFile(path, []byte(old), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// watch has f called before each sync, with what is synced as "file" or "folder"; the sync
// fails with what f returns. Files get their names as ever.
func watch(f func(what string, file *os.File) error) (undo func()) {
	realSync, realLink, realNameless := fsync, link, nameless
	fsync = func(file *os.File) error {
		what := "file"
		if info, err := file.Stat(); err != nil || info.IsDir() {
			what = "folder"
		}
		if err := f(what, file); err != nil {
			return err
		}
		return realSync(file)
	}
	return func() { fsync, link, nameless = realSync, realLink, realNameless }
}

// read returns what is at path, "" for nothing.
func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	return string(data)
}

// others returns the names in the folder of path beside its own.
func others(t *testing.T, path string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Error(err)
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(path) {
			names = append(names, e.Name())
		}
	}
	return names
}

// leads returns a path that leads to an open file, which may have no name.
func leads(file *os.File) string {
	if info, err := os.Stat(file.Name()); err == nil && info.IsDir() {
		return fmt.Sprintf("/proc/self/fd/%d", file.Fd())
	}
	return file.Name()
}

// Content and mode are on disk before the name leads to them, and the name when we return.
// The temporary name is gone before the folder is synced, so that it does not come back.
func TestSteps(t *testing.T) {
	for how, write := range ways {
		t.Run(how, func(t *testing.T) {
			path := before(t, how)
			was := read(t, path)
			var steps []string
			defer watch(func(what string, file *os.File) error {
				switch what {
				case "file":
					info, err := file.Stat()
					if err != nil {
						return err
					}
					steps = append(steps, fmt.Sprintf("file: whole %v, mode %04o, in place %v", read(t, leads(file)) == content, info.Mode(), read(t, path) != was))
				case "folder":
					steps = append(steps, fmt.Sprintf("folder: in place %v, alone %v", read(t, path) == content, len(others(t, path)) == 0))
				}
				return nil
			})()
			if err := write(path); err != nil {
				t.Fatal(err)
			}
			mode := "0600"
			if strings.HasPrefix(how, "replace") {
				mode = "0640"
			}
			want := []string{"file: whole true, mode " + mode + ", in place false", "folder: in place true, alone true"}
			switch how {
			case "create", "replace": // a file without a name that has got one
				want = slices.Insert(want, 1, strings.Replace(want[0], "in place false", "in place true", 1))
			case "create without names for the nameless", "replace without names for the nameless":
				want = slices.Insert(want, 1, want[0])
			}
			if !slices.Equal(steps, want) {
				t.Errorf("%q, want %q", steps, want)
			}
		})
	}
}

// crashing writes a file, and is killed before a step: 1 is the file's sync, 2 the name,
// 3 the sync of a file that had none, 4 the folder's sync.
func crashing(step, how, path string) {
	n := 0
	next := func() {
		if n++; strconv.Itoa(n) == step {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	watch(func(what string, _ *os.File) error {
		if what == "folder" {
			n = 3
		}
		next()
		return nil
	})
	real := link
	link = func(from, to string) error {
		next()
		return real(from, to)
	}
	fmt.Println(ways[how](path))
	os.Exit(0)
}

// Whenever a process is killed, the file is whole or as it was. The next one is not in the
// way of what is left, and Sweep removes that and nothing else.
func TestCrash(t *testing.T) {
	for _, tt := range []struct {
		how   string
		step  int
		there string
		left  bool
	}{
		{"create", 1, "", false}, {"create", 2, "", false}, {"create", 3, content, false}, {"create", 4, content, false},
		{"create with names", 1, "", true}, {"create with names", 2, "", true}, {"create with names", 4, content, false},
		{"create without links", 1, "", true}, {"create without links", 4, content, false},
		{"replace", 1, old, false}, {"replace", 2, old, false}, {"replace", 3, content, false}, {"replace", 4, content, false},
		{"replace with names", 1, old, true}, {"replace with names", 4, content, false},
	} {
		t.Run(fmt.Sprint(tt.how, " ", tt.step), func(t *testing.T) {
			path := before(t, tt.how)
			foreign := path + ".newest"
			if err := os.WriteFile(foreign, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "DURABLE_CRASH="+strconv.Itoa(tt.step), "DURABLE_HOW="+tt.how, "DURABLE_PATH="+path)
			out, err := cmd.CombinedOutput()
			if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); err == nil || !ok || status.Signal() != syscall.SIGKILL {
				t.Fatalf("it was not killed: %v: %s", err, out)
			}
			if got := read(t, path); got != tt.there {
				t.Errorf("%q is there, want %q", got, tt.there)
			}
			if left := len(others(t, path)) > 1; left != tt.left {
				t.Errorf("beside it: %q", others(t, path))
			}
			if err := Sweep(path); err != nil {
				t.Error(err)
			}
			if left := others(t, path); !slices.Equal(left, []string{"file.newest"}) {
				t.Errorf("beside it after Sweep: %q", left)
			}
			if err := Replace(path, []byte(content), nil); err != nil || read(t, path) != content {
				t.Errorf("the next one: %v, %q", err, read(t, path))
			}
		})
	}
}

// What could not be synced gets no name. If the folder could not be, the file stays, and
// the error says that its name may be lost.
func TestFailures(t *testing.T) {
	for how, write := range ways {
		for _, fails := range []string{"file", "folder"} {
			t.Run(how+" "+fails, func(t *testing.T) {
				path := before(t, how)
				want := read(t, path)
				defer watch(func(what string, _ *os.File) error {
					if what == fails {
						return syscall.EIO
					}
					return nil
				})()
				if err := write(path); !errors.Is(err, syscall.EIO) {
					t.Errorf("the failure is lost: %v", err)
				}
				if fails == "folder" {
					want = content
				}
				if got := read(t, path); got != want || len(others(t, path)) > 0 {
					t.Errorf("%q, %q beside it; want %q", got, others(t, path), want)
				}
			})
		}
	}
}

// Nothing is overwritten: no file, no link to nowhere, and not what came meanwhile.
func TestNothingIsOverwritten(t *testing.T) {
	for how := range ways {
		if strings.HasPrefix(how, "replace") {
			continue
		}
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			file, dangling, late := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "late")
			if err := errors.Join(os.WriteFile(file, []byte(old), 0o600), os.Symlink("nowhere", dangling)); err != nil {
				t.Fatal(err)
			}
			defer watch(func(what string, _ *os.File) error {
				if what == "file" {
					return os.WriteFile(late, []byte(old), 0o600)
				}
				return nil
			})()
			for _, path := range []string{file, dangling, late} {
				err := ways[how](path)
				if !errors.Is(err, fs.ErrExist) || strings.Contains(err.Error(), tempMark) || !strings.Contains(err.Error(), path) {
					t.Errorf("%s: %v", path, err)
				}
			}
			if _, err := os.Stat(filepath.Join(dir, "nowhere")); err == nil || read(t, file) != old || read(t, late) != old {
				t.Error("overwritten")
			}
			if names := others(t, file); len(names) != 2 {
				t.Errorf("left: %q", names)
			}
		})
	}
}

// Of several at once that make one file, one does, and it is whole.
func TestAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	const n = 8
	errs := make([]error, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { errs[i] = Create(path, bytes.Repeat([]byte{byte('a' + i)}, 1<<16), 0o600) })
	}
	group.Wait()
	won := slices.Index(errs, nil)
	for i, err := range errs {
		if i != won && !errors.Is(err, fs.ErrExist) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if won < 0 || read(t, path) != strings.Repeat(string(rune('a'+won)), 1<<16) || len(others(t, path)) > 0 {
		t.Errorf("%d has made it; beside it %q", won, others(t, path))
	}
}

// The content is asked for when there is a place for it; its failure leaves nothing.
func TestCreateFrom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	asked := false
	ask := func() ([]byte, error) {
		asked = true
		return nil, syscall.EPIPE
	}
	if err := CreateFrom(filepath.Join(path, "below"), 0o600, ask); !errors.Is(err, fs.ErrNotExist) || asked || strings.Contains(err.Error(), tempMark) {
		t.Errorf("%v, asked %v", err, asked)
	}
	if err := CreateFrom(path+"/", 0o600, ask); !errors.Is(err, syscall.EISDIR) || asked {
		t.Errorf("a folder: %v, asked %v", err, asked)
	}
	if err := CreateFrom(path, 0o600, ask); !errors.Is(err, syscall.EPIPE) || !asked {
		t.Errorf("%v, asked %v", err, asked)
	}
	if names := others(t, path); len(names) > 0 || read(t, path) != "" {
		t.Errorf("left: %q", names)
	}
	// And once, also where it has to be written twice.
	defer watch(func(string, *os.File) error { return nil })()
	staysNameless()
	n := 0
	once := func() ([]byte, error) {
		n++
		return []byte(content), nil
	}
	if err := CreateFrom(path, 0o600, once); err != nil || n != 1 || read(t, path) != content {
		t.Errorf("%v, asked %d times, wrote %q", err, n, read(t, path))
	}
}

// A file that is replaced keeps its mode, whatever the umask.
func TestMode(t *testing.T) {
	path := before(t, "replace")
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := ways["replace"](path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := Replace(path, nil, nil); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// Each folder is synced once what is new in it is there.
func TestFolders(t *testing.T) {
	dir := t.TempDir()
	var synced []string
	defer watch(func(_ string, f *os.File) error {
		name, err := filepath.Rel(dir, f.Name())
		synced = append(synced, name)
		return err
	})()
	made, err := Folders(filepath.Join(dir, "a", "b") + "/")
	if want := []string{filepath.Join(dir, "a"), filepath.Join(dir, "a", "b")}; err != nil || !slices.Equal(made, want) {
		t.Errorf("%q, %v", made, err)
	}
	if want := []string{".", "a"}; !slices.Equal(synced, want) {
		t.Errorf("synced %q, want %q", synced, want)
	}
	if made, err := Folders(dir); err != nil || made != nil {
		t.Errorf("%q, %v", made, err)
	}
	if info, err := os.Stat(filepath.Join(dir, "a")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	fsync = func(*os.File) error { return syscall.EIO }
	if made, err := Folders(filepath.Join(dir, "c")); !errors.Is(err, syscall.EIO) || len(made) != 1 {
		t.Errorf("%q, %v", made, err)
	}
}
