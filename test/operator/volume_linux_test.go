package operator

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Homes on a volume of their own, which can be cloned to the last bit: inode numbers
// and all that a file could be known by.

// envMounts is set in a process whose mounts are its own.
const envMounts = "PRIVYSEAL_TEST_MOUNTS"

// mountsOfOurOwn starts this program again where what it mounts is seen by nobody
// else, and is gone when it ends. It returns where that cannot be, or is so.
func mountsOfOurOwn() {
	unshare, err := exec.LookPath("unshare")
	if err != nil || os.Getenv(envMounts) != "" || exec.Command(unshare, "-m", "sh", "-c", "test -e /dev/loop-control").Run() != nil {
		return
	}
	args := append([]string{unshare, "-m", "--propagation", "private", "--", os.Args[0]}, os.Args[1:]...)
	syscall.Exec(unshare, args, append(os.Environ(), envMounts+"=1"))
}

func canMount() bool { return os.Getenv(envMounts) != "" }

func (w *world) image(home string) string   { return filepath.Join(w.dir, home+".img") }
func (w *world) mounted(home string) string { return filepath.Join(w.dir, "volume-"+home) }

// volume gives a home that does not exist yet a volume of its own.
func volume(w *world, h *home, _ []string) error {
	if h.exists() || h.volume || !canMount() {
		return nil
	}
	if err := w.shell(h.name[0], "truncate -s 4M %[1]s && mkfs.ext4 -q -F %[1]s", w.image(h.name)); err != nil {
		return err
	}
	return w.mount(h)
}

func (w *world) mount(h *home) error {
	at := w.mounted(h.name)
	h.volume, h.dir = true, filepath.Join(at, "home")
	return w.shell(h.name[0], "mkdir -p %[1]s && mount -o loop %[2]s %[1]s", at, w.image(h.name))
}

// clone mounts a clone of the home's volume as another home of the same host. What
// a clone on another host does, no host can see.
func clone(w *world, h *home, args []string) error {
	to := w.homes[args[0]]
	if !h.volume || !h.exists() || to.exists() || to.volume || to.name[0] != h.name[0] {
		return nil
	}
	if err := w.shell(h.name[0], "sync -f %s && cp %s %s", h.dir, w.image(h.name), w.image(to.name)); err != nil {
		return err
	}
	to.sound, to.clone = false, true
	if err := w.mount(to); err != nil || !to.exists() {
		return err
	}
	return w.addressed(to)
}

// unmount takes a volume away; what was its home is an empty one again.
func (w *world) unmount(h *home) error {
	if !h.volume {
		return nil
	}
	at := w.mounted(h.name)
	h.volume, h.clone, h.dir = false, false, filepath.Join(w.dir, h.name)
	if err := syscall.Unmount(at, syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("cannot unmount %s: %w", at, err)
	}
	return nil
}
