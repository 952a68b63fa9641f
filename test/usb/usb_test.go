// Package usb signs with a YubiHSM on the USB: in a machine of QEMU whose kernel plays both
// the device's side, with our simulator, and the host's (guest). A real node is there, too.
package usb

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"privyseal/internal/eif"
	"privyseal/test/e2e/story"
	"privyseal/test/tools"
)

// TestUSBInAMachine boots Debian's kernel with the tests of ./guest as its first process.
func TestUSBInAMachine(t *testing.T) {
	passes(t, "-test.skip=^TestChain$", nil, "TestUSB/sign", "TestCommands/without_rights")
}

// TestChainInAMachine does so with a disk, for a signer's state and a real node.
func TestChainInAMachine(t *testing.T) {
	passes(t, "-test.run=^TestChain$", []eif.File{read(t, disk(t, program(t, node)), "disk.ext4")}, "TestChain")
}

const node = "cometbft-v0.38.26"

// passes runs tests of ./guest in a machine that has some files more, and fails the test
// unless all of them pass, and some that are named.
func passes(t *testing.T, which string, more []eif.File, names ...string) {
	t.Helper()
	qemu, kernel := program(t, "qemu-system-x86_64"), program(t, "usb-kernel")
	ramdisk := filepath.Join(t.TempDir(), "ramdisk")
	if err := os.WriteFile(ramdisk, files(t, kernel, more), 0o600); err != nil {
		t.Fatal(err)
	}
	// The machine ends before we have to, and says how far it came.
	ctx, within := t.Context(), time.Hour
	if end, ok := t.Deadline(); ok {
		within = time.Until(end)
	}
	ctx, cancel := context.WithTimeout(ctx, within-15*time.Second)
	defer cancel()
	tests := fmt.Sprintf("%s -test.timeout=%.0fs", which, (within - 30*time.Second).Seconds())
	machine := exec.CommandContext(ctx, qemu, "-M", "microvm,x-option-roms=off,acpi=off,pcie=off", "-bios", "qboot.rom", "-accel", "tcg", "-cpu", "max", "-m", "1024",
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio", "-kernel", filepath.Join(kernel, "vmlinuz"), "-initrd", ramdisk, "-append", "console=ttyS0 panic=-1 reboot=t quiet -- "+tests)
	console, err := machine.CombinedOutput()
	text := strings.ReplaceAll(string(console), "\r", "")
	t.Logf("%s", text)
	passed := err == nil && strings.Contains(text, "guest: status 0\n")
	for _, name := range names {
		passed = passed && strings.Contains(text, "--- PASS: "+name+" ")
	}
	if !passed {
		t.Errorf("the tests in the machine fail: %v", err)
	}
}

// disk makes an image of a disk that has a program in /bin, and returns its path.
func disk(t *testing.T, program string) string {
	t.Helper()
	root, image := t.TempDir(), filepath.Join(t.TempDir(), "disk")
	data, err := os.ReadFile(program)
	if err == nil {
		err = os.Mkdir(filepath.Join(root, "bin"), 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "bin", filepath.Base(program)), data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-E", "root_owner=0:0", "-d", root, image, "96M").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return image
}

// program returns what scripts/setup brought.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := tools.Program(name, "make test-usb")
	story.Need(t, "PRIVYSEAL_REQUIRE_USB", err)
	return path
}

// build runs the go command for the machine.
func build(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// files is the ramdisk: the tests as /init, privyseal, and the kernel's modules.
func files(t *testing.T, kernel string, more []eif.File) []byte {
	t.Helper()
	init := filepath.Join(t.TempDir(), "init")
	build(t, "test", "-c", "-o", init, "./guest")
	ours := filepath.Join(t.TempDir(), "privyseal")
	build(t, "build", "-o", ours, "../../cmd/privyseal")
	list := []eif.File{{Name: "dev", Mode: eif.ModeDir | 0o755}, {Name: "dev/console", Mode: eif.ModeDevice | 0o600, Major: 5, Minor: 1}, read(t, init, "init"), read(t, ours, "privyseal")}
	found, err := filepath.Glob(filepath.Join(kernel, "*.ko"))
	if err != nil || len(found) < 13 {
		t.Fatalf("the modules of the kernel: %v, %v", found, err)
	}
	for _, file := range found {
		list = append(list, read(t, file, filepath.Base(file)))
	}
	archive, err := eif.Archive(append(list, more...))
	if err != nil {
		t.Fatal(fmt.Errorf("ramdisk: %w", err))
	}
	return archive
}

func read(t *testing.T, file, name string) eif.File {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return eif.File{Name: name, Mode: eif.ModeRegular | 0o755, Data: data}
}
