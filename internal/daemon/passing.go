package daemon

import (
	"errors"
	"slices"
	"syscall"

	"privyseal/internal/provider"
)

// passing are the errors that are gone when a disk, a limit or another process lets go, or
// a database is back: the next start may succeed without an operator.
var passing = []error{
	syscall.EIO, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOSPC, syscall.EDQUOT,
	syscall.EAGAIN, syscall.EINTR, syscall.EBUSY, syscall.ETIMEDOUT, syscall.ENOBUFS,
	provider.ErrLocked, provider.ErrTwin, provider.ErrAway,
}

// MayPass reports whether err, or one of several that it joins, may be gone at the
// next attempt.
func MayPass(err error) bool {
	return slices.ContainsFunc(passing, func(reason error) bool { return errors.Is(err, reason) })
}
