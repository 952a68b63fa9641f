//go:build !linux

package nsm

import "errors"

// Open fails: enclaves run Linux.
func Open(path string) (*Device, error) {
	return nil, errors.New("cannot open the NSM: enclaves run Linux only")
}
