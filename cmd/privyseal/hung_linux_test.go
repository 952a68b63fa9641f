package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"privyseal/internal/config"
)

// hungFolder returns a folder on a file system whose server never answers, as one on a
// file server that is gone: whoever opens a file in it waits.
func hungFolder(t *testing.T) string {
	t.Helper()
	device, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil || os.Geteuid() != 0 {
		t.Skip("it takes root and /dev/fuse: load the module fuse, and run make test as root")
	}
	dir := t.TempDir()
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", device.Fd())
	if err := unix.Mount("hung", dir, "fuse", 0, options); errors.Is(err, unix.EPERM) {
		t.Skip("mounting is forbidden here (CAP_SYS_ADMIN), and `make test` cannot change that")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		device.Close() // who waits gets an error
		unix.Unmount(dir, unix.MNT_DETACH)
	})
	return dir
}

// hang has the config lie in a hung folder from now on.
func (l *liveHome) hang(dir string) {
	l.t.Helper()
	path := filepath.Join(l.home, config.FileName)
	if err := errors.Join(os.Rename(path, path+".before"), os.Symlink(filepath.Join(dir, config.FileName), path)); err != nil {
		l.t.Fatal(err)
	}
}

// A config that cannot be read, and cannot be given up either, keeps nobody from being
// signed for, and the process from nothing: it ends when it is asked to.
func TestStopWhileAReloadHangs(t *testing.T) {
	dir := hungFolder(t)
	l := newLiveHome(t)
	var height atomic.Int64
	height.Store(1)
	node := newBusyNode(t, l.socket("a"), "a", &height)
	l.init("a")
	noMetrics(t, l.home)
	l.start()
	node.signsOn()
	l.hang(dir)
	for range 2 { // and the second waits for the first
		if err := l.process.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	b := make([]byte, 256)
	l.process.notify.SetReadDeadline(time.Now().Add(patience))
	if n, err := l.process.notify.Read(b); err != nil || string(b[:n]) != "RELOADING=1" {
		t.Fatalf("systemd gets %q, %v", b[:n], err)
	}
	node.signsOn()
	l.endsOnSIGTERM()
}

// The kernel hands a signal for a process to its first thread, and to no other while that
// one waits for a file system. So it never does: it has nothing to do.
func TestTheFirstThreadIsIdle(t *testing.T) {
	l := newLiveHome(t)
	l.init("a")
	noMetrics(t, l.home)
	l.start()
	l.process.cmd.Process.Signal(syscall.SIGQUIT) // prints what every goroutine does
	l.process.cmd.Wait()
	if trace := l.log.String(); !regexp.MustCompile(`(?m)^goroutine 1 .*\[select \(no cases\), locked to thread\]:$`).MatchString(trace) {
		t.Errorf("the first thread works:\n%s", trace)
	}
}

// Nor does it at the start.
func TestStopWhileAStartHangs(t *testing.T) {
	dir := hungFolder(t)
	l := newLiveHome(t)
	l.init("a")
	l.hang(dir)
	l.process = startSignerTo(t, l.home, l.log)
	eventually(t, "it waits for the file system", func() bool {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/wchan", l.process.cmd.Process.Pid))
		for _, path := range threads {
			if where, err := os.ReadFile(path); err == nil && (strings.Contains(string(where), "fuse") || strings.Contains(string(where), "request_wait")) {
				return true
			}
		}
		return false
	})
	l.endsOnSIGTERM()
}

// endsOnSIGTERM sends SIGTERM, and waits for a clean end.
func (l *liveHome) endsOnSIGTERM() {
	l.t.Helper()
	l.process.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan error, 1)
	go func() { done <- l.process.cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			l.t.Errorf("after SIGTERM: %v\n%s", err, l.log)
		}
	case <-time.After(patience):
		l.process.cmd.Process.Kill()
		l.t.Errorf("SIGTERM is not served\n%s", l.log)
	}
}
