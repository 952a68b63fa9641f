//go:build !linux

package check

import "os"

// syncData is the nearest to the sync that the state file uses.
func syncData(f *os.File) error { return f.Sync() }

// clockSynchronised knows nothing here.
func clockSynchronised() (synchronised, known bool) { return false, false }

// coreLimit knows nothing here.
func coreLimit(int) (limit string, known bool) { return "", false }
