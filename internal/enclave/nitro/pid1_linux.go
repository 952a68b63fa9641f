package nitro

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"privyseal/internal/nitro/nsm"
)

// mount mounts devtmpfs, proc and sysfs, and makes the console our standard
// input, output and error.
func mount() error {
	for _, m := range []struct{ kind, path string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}} {
		err := unix.Mount(m.kind, m.path, m.kind, unix.MS_NOSUID|unix.MS_NOEXEC, "")
		// A kernel with CONFIG_DEVTMPFS_MOUNT was quicker.
		if err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("cannot mount %s on %s: %w", m.kind, m.path, err)
		}
	}
	console, err := unix.Open("/dev/console", unix.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("cannot open the console: %w", err)
	}
	for fd := range 3 {
		if err := unix.Dup3(console, fd, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("cannot use the console: %w", err)
		}
	}
	if console > 2 {
		return unix.Close(console)
	}
	return nil
}

// endEarly has the kernel end the enclave a second after it panics, and panic when it has
// made an error or has no memory left. Releases' kernels are built like that; AWS's would
// wait forever, or go on. Nothing of it stands on the command line, of which the registers
// do not show where it begins.
func endEarly(sysctls string) error {
	for _, name := range []string{"kernel/panic", "kernel/panic_on_oops", "vm/panic_on_oom"} {
		f, err := os.OpenFile(filepath.Join(sysctls, name), os.O_WRONLY, 0)
		if err != nil {
			return fmt.Errorf("this kernel cannot be set to end when it fails: %w", err)
		}
		_, err = f.WriteString("1\n")
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("this kernel cannot be set to end when it fails: %w", err)
		}
	}
	return nil
}

// moduleFile is the driver of the security module in images whose kernel does
// not have it built in, such as those that AWS ships with nitro-cli. It is
// measured with the program.
const moduleFile = "/nsm.ko"

// loadModule loads the driver, if the image has one. The kernel says on the
// console what it does not like about a module.
func loadModule() error {
	f, err := os.Open(moduleFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	switch err := unix.FinitModule(int(f.Fd()), "", 0); {
	case errors.Is(err, unix.ENOSYS):
		return errors.New("cannot load the driver of the NSM: this kernel takes no modules; build the image without --nsm-module")
	case err != nil && !errors.Is(err, unix.EEXIST):
		return fmt.Errorf("cannot load the driver of the NSM: %w; build the image with the nsm.ko that was built with its kernel", err)
	}
	return nil
}

// heartbeat shows the hypervisor's side that we live, by AWS's handshake with
// nitro-cli: one byte there, the same back (aws-nitro-enclaves-sdk-bootstrap,
// init.c).
func heartbeat(conn net.Conn) error {
	const beat = 0xB7
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	b := []byte{beat}
	if _, err := conn.Write(b); err != nil {
		return fmt.Errorf("cannot send the heartbeat: %w", err)
	}
	if _, err := io.ReadFull(conn, b); err != nil || b[0] != beat {
		return fmt.Errorf("the heartbeat was answered by %#x, %v", b[0], err)
	}
	return nil
}

// seedKernel adds entropy of the module to the kernel's, credited. Nothing that
// needs a random number runs before. (The kernel's own driver does so too.)
func seedKernel(module *nsm.Device) error {
	seed, err := module.Random(256)
	if err != nil {
		return fmt.Errorf("cannot get entropy: %w", err)
	}
	f, err := os.OpenFile("/dev/random", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	// struct rand_pool_info (linux/random.h): entropy in bits, size in bytes, data.
	info := struct {
		bits, size int32
		data       [256]byte
	}{bits: 256 * 8, size: 256}
	copy(info.data[:], seed)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&info))); errno != 0 {
		return fmt.Errorf("cannot feed the kernel's random numbers: %w", errno)
	}
	_, err = io.ReadFull(rand.Reader, seed[:16]) // blocks until the kernel has enough
	return err
}

// Halt ends the enclave. It does not return.
func Halt() {
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	select {} // the kernel is on its way
}
