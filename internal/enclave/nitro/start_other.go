//go:build !linux

package nitro

import "errors"

// Start fails: enclaves run Linux.
func Start(string) error { return errors.New("enclaves run Linux only") }

// Halt does nothing.
func Halt() {}
