package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"privyseal/internal/durable"
)

// OfFlag says which flag names the file that cannot be read: a command has
// several.
func OfFlag(flag string, err error) error { return fmt.Errorf("--%s: %w", flag, err) }

// ReadBounded reads at most limit bytes of a file, or of a pipe as the shell's
// <(…) makes it; one with more is an error.
func ReadBounded(path string, limit int64) ([]byte, error) {
	// O_NONBLOCK, or opening a named pipe would wait for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return data, nil
}

// WriteNew makes a file that is not there yet, and returns when it is durable.
func WriteNew(path string, data []byte, mode fs.FileMode) error {
	return WriteNewFrom(path, mode, func() ([]byte, error) { return data, nil })
}

// WriteNewFrom is WriteNew for content that is made only if the file is not there.
func WriteNewFrom(path string, mode fs.FileMode, content func() ([]byte, error)) error {
	err := durable.CreateFrom(path, mode, content)
	if errors.Is(err, fs.ErrExist) {
		return Usage(existing(path))
	}
	return err
}

// existing is a file that is there already, an [fs.ErrExist].
type existing string

func (path existing) Error() string {
	return string(path) + " already exists, and nothing is overwritten; move it away or choose another name"
}

func (existing) Unwrap() error { return fs.ErrExist }
