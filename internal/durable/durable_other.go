//go:build !linux

package durable

import (
	"errors"
	"io/fs"
	"os"
)

// openNameless makes no file: one has a name here.
func openNameless(string, fs.FileMode) (f *os.File, at string, err error) {
	return nil, "", errors.ErrUnsupported
}

var linkFile = os.Link
