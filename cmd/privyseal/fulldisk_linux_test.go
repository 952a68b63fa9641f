package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"privyseal/internal/privval"
	"privyseal/internal/privval/privvaltest"
)

// TestFullDisk runs on a real file system that is full. Making anything fails
// with the reason and leaves nothing half; what was made signs on, because the
// state was preallocated.
func TestFullDisk(t *testing.T) {
	disk := smallDisk(t)
	home := filepath.Join(disk, "home")
	socket := filepath.Join(diskDir(t), "node.sock")
	initArgs := []string{"init", "--home", home, "--chain-id", "chain-1", "--node", "unix://" + socket}

	free := fill(t, disk)
	out, err := exec.Command("privyseal", initArgs...).CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("no space left on device")) {
		t.Errorf("init on a full disk: %v\n%s", err, out)
	}
	free()
	if _, err := os.Lstat(filepath.Join(home, "privyseal.toml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something half remains: %v", err)
	}
	runCommand(t, "privyseal", initArgs...)
	noMetrics(t, home)
	fill(t, disk)

	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := startSigner(t, home)
	l.SetDeadline(time.Now().Add(patience))
	conn, err := l.Accept()
	if err != nil {
		t.Fatalf("%v\n%s", err, p.log.String())
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(conn)
	for height := range int64(20) {
		resp, err := privvaltest.Call(conn, r, privval.Request{
			Kind: privval.KindPrevote, ChainID: "chain-1", Height: height + 1,
			Timestamp: privval.Timestamp{Seconds: 1},
		})
		if err != nil || resp.Signature == nil {
			t.Fatalf("height %d on a full disk: %q, %v", height+1, resp.Refused, err)
		}
	}
}

// smallDisk mounts a new ext4 of 3 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		require(t, "mkfs.ext4 is missing; `scripts/setup debian` brings it")
	}
	dir := diskDir(t)
	image, mount := filepath.Join(dir, "disk.img"), filepath.Join(dir, "disk")
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(3<<20), f.Close(), os.Mkdir(mount, 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"mkfs.ext4", "-q", image}, {"mount", "-o", "loop", image, mount}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Skipf("a disk of its own takes root and loop devices, which `make test` cannot bring: %v: %v\n%s", args, err, out)
		}
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(mount, 0); err != nil {
			t.Errorf("cannot unmount %s: %v", mount, err)
		}
	})
	return mount
}

// fill writes until nothing fits any more.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	f, err := os.CreateTemp(dir, "junk")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 64 << 10; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil && err != io.ErrShortWrite {
			t.Fatal(err)
		}
	}
	return func() {
		if err := os.Remove(f.Name()); err != nil {
			t.Fatal(err)
		}
	}
}
