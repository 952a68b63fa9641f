//go:build linux

// Package crash kills real processes that keep a state, and cuts the power of
// their disk: what they released is never forgotten.
//
// The processes are this test binary, started again under strace, which records
// their system calls, and kills them or fails a call of theirs where it is asked
// to. The disk that loses power is a model, fed with the recorded calls; what it
// leaves behind is put back into the real file and opened by the real store.
package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"privyseal/internal/filestore"
	"privyseal/internal/watermark"
)

const (
	envRole   = "PRIVYSEAL_CRASH_ROLE"   // "create" or "sign"; else this is the test
	envPath   = "PRIVYSEAL_CRASH_PATH"   // of the state
	envWrites = "PRIVYSEAL_CRASH_WRITES" // how many marks to write; 0: without end
	envWait   = "PRIVYSEAL_CRASH_WAIT"   // set: wait for the lock
)

var id = watermark.ID{ChainID: "crash-1", Key: [32]byte{1, 2, 3}}

func TestMain(m *testing.M) {
	var err error
	c := filestore.Config{Path: os.Getenv(envPath), ID: id, Wait: os.Getenv(envWait) != ""}
	switch os.Getenv(envRole) {
	case "":
		os.Exit(m.Run())
	case "create":
		runtime.LockOSThread() // all calls in one trace
		if err = filestore.Create(c, watermark.Saved{}); err == nil {
			say("created")
		}
	case "sign":
		runtime.LockOSThread()
		var writes int
		if writes, err = strconv.Atoi(os.Getenv(envWrites)); err == nil {
			err = sign(c, writes)
		}
	default:
		err = errors.New("unknown role")
	}
	if err != nil {
		say("failed: %v", err)
		os.Exit(1)
	}
}

// say writes a line to the parent, in one system call.
func say(format string, args ...any) {
	syscall.Write(1, fmt.Appendf(nil, format+"\n", args...))
}

// sign does what a signer does with its store: it releases a mark after it has
// become durable, and loads again after a failure.
func sign(c filestore.Config, writes int) error {
	say("waiting")
	ctx := context.Background()
	s, err := filestore.Open(ctx, c)
	if err != nil {
		return err
	}
	var saved watermark.Saved
	lost := true
	for n := 0; n < writes || writes == 0; n++ {
		if lost {
			if saved, err = s.Load(ctx); err != nil {
				return err
			}
			say("loaded %d %s", saved.Mark.Height, saved.Mark.SignBytes)
		}
		m := watermark.Mark{Height: saved.Mark.Height + 1, Step: watermark.StepPrevote}
		m.SignBytes = fmt.Appendf(nil, "%d-by-%d-after-%d", m.Height, os.Getpid(), n)
		next, err := s.Replace(ctx, saved, m)
		if lost = err != nil; lost {
			say("lost: %v", err)
			continue
		}
		saved = next
		say("released %d %s", m.Height, m.SignBytes)
	}
	return s.Close()
}

// known is a mark that was released or loaded, and so may have been signed.
type known struct {
	height int64
	bytes  string
}

// parseKnown reads a line of a signer; ok is false for the other lines.
func parseKnown(line string) (k known, ok bool) {
	f := strings.SplitN(line, " ", 3)
	if len(f) != 3 || f[0] != "released" && f[0] != "loaded" {
		return k, false
	}
	height, err := strconv.ParseInt(f[1], 10, 64)
	return known{height, f[2]}, err == nil
}

// forgets reports whether a state at now betrays what was known before.
func (k known) forgets(now known) bool {
	return now.height < k.height || now.height == k.height && now != k
}

// lastKnown returns the last mark in the output of a signer.
func lastKnown(output []byte) (last known) {
	for line := range strings.Lines(string(output)) {
		if k, ok := parseKnown(strings.TrimSuffix(line, "\n")); ok {
			last = k
		}
	}
	return last
}

// load opens the state, loads it, and closes it.
func load(path string) (known, error) {
	s, err := filestore.Open(context.Background(), filestore.Config{Path: path, ID: id, Wait: true})
	if err != nil {
		return known{}, err
	}
	defer s.Close()
	saved, err := s.Load(context.Background())
	return known{saved.Mark.Height, string(saved.Mark.SignBytes)}, err
}

// diskDir returns a new directory on a file system that may hold state.
func diskDir(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	for _, base := range []string{os.TempDir(), cache} {
		dir, err := os.MkdirTemp(base, "crash")
		if err != nil {
			continue
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		probe := filepath.Join(dir, "probe")
		if filestore.Create(filestore.Config{Path: probe, ID: id}, watermark.Saved{}) == nil {
			os.Remove(probe)
			return dir
		}
	}
	missing(t, "a local disk (ext4, xfs, …): neither the temporary nor the cache directory is on one; set TMPDIR, `make test` cannot make one")
	return ""
}

// newState returns the path of a new state at height 0.
func newState(t *testing.T) string {
	t.Helper()
	path := filepath.Join(diskDir(t), "state")
	if err := filestore.Create(filestore.Config{Path: path, ID: id}, watermark.Saved{}); err != nil {
		t.Fatal(err)
	}
	return path
}

// missing skips the test, or fails it where nothing may be missing.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("PRIVYSEAL_REQUIRE_NODES") == "1" {
		t.Fatal("missing: " + what)
	}
	t.Skip("missing: " + what)
}

// command returns this test binary in another role.
func command(role, path string, writes int, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), envRole+"="+role, envPath+"="+path, envWrites+"="+strconv.Itoa(writes))
	return cmd
}

// run is what is left of a traced process.
type run struct {
	output []byte
	calls  []call // of the thread that kept the state, all of them
	first  int    // index of the first one that touches the state
}

// traced runs a role under strace to its end. Each of injections is an argument
// to strace's `-e inject=`.
func traced(t *testing.T, role, path string, writes int, injections ...string) run {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		missing(t, "strace, which `scripts/setup debian` and so `make test` installs")
	}
	dir := t.TempDir()
	// One file a thread. Strings in hexadecimal and whole, those of 128 KiB too.
	args := []string{"-ff", "-qq", "-xx", "-s", "140000", "-e", "trace=%file,%desc", "-o", filepath.Join(dir, "trace")}
	for _, i := range injections {
		args = append(args, "-e", "inject="+i)
	}
	cmd := command(role, path, writes, strace, append(args, os.Args[0])...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	var r run
	r.output, err = cmd.Output()
	if strings.Contains(stderr.String(), "Operation not permitted") {
		missing(t, "leave to trace processes (ptrace), which `make test` cannot give: "+stderr.String())
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || strings.Contains(stderr.String(), "strace:") {
		t.Fatalf("strace: %v\n%s", err, &stderr)
	}
	files, err := filepath.Glob(filepath.Join(dir, "trace.*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		calls, first := parseTrace(t, string(text), path)
		switch {
		case first < 0:
		case r.calls == nil || onlyKilled(r.calls[r.first:]):
			r.calls, r.first = calls, first
		case !onlyKilled(calls[first:]):
			t.Fatal("two threads touched the state")
		}
	}
	return r
}

// onlyKilled reports whether calls are what strace writes down for a second
// thread when it kills the process in a call of the first.
func onlyKilled(calls []call) bool { return len(calls) == 1 && calls[0].killed }
