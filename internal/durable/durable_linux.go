package durable

import (
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// openNameless makes a file without a name, which goes with the last process that has it
// open, or with the power; and returns what leads to it until then.
func openNameless(folder string, mode fs.FileMode) (f *os.File, at string, err error) {
	if f, err = os.OpenFile(folder, unix.O_TMPFILE|os.O_WRONLY, mode); err != nil {
		return nil, "", err
	}
	return f, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), nil
}

// linkFile gives a file another name, which nothing may have.
func linkFile(from, to string) error {
	if err := unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.AT_SYMLINK_FOLLOW); err != nil {
		return &os.LinkError{Op: "link", Old: from, New: to, Err: err}
	}
	return nil
}
