package gramine

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// Gramine has EACCES for whatever keeps a quote away: the message says where the cause is.
func TestNoQuote(t *testing.T) {
	dir := folder(t)
	instead("quote", "q")(t, dir)
	if err := os.Chmod(filepath.Join(dir, "quote"), 0); err != nil {
		t.Fatal(err)
	}
	// The way to it may be closed to others: its descriptor is none.
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	d, err := Open(fmt.Sprintf("/proc/self/fd/%d", root.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		if os.Geteuid() == 0 { // who may read all
			runtime.LockOSThread() // and never unlocked: the thread ends here
			if err := syscall.Setfsuid(giveAway(t, dir)); err != nil {
				t.Error(err)
			}
		}
		_, err := d.Quote([64]byte{1})
		done <- err
	}()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "quote: permission denied): Gramine's own lines in the host's log say why; the AESM service has to run") {
		t.Error(err)
	}
}

// giveAway gives the folder to a user without rights, and returns who that is.
func giveAway(t *testing.T, dir string) (nobody int) {
	nobody = 65534
	for _, name := range []string{"", "user_report_data", "quote"} {
		if err := os.Chown(filepath.Join(dir, name), nobody, nobody); err != nil {
			t.Error(err)
		}
	}
	return nobody
}
