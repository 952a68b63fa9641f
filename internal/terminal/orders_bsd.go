//go:build !linux

package terminal

import "golang.org/x/sys/unix"

// The ioctls of termios(4).
const (
	getModes      = unix.TIOCGETA
	setModesNow   = unix.TIOCSETA
	setModesFlush = unix.TIOCSETAF
)
