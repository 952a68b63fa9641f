package terminal

import "golang.org/x/sys/unix"

// The ioctls of termios(3).
const (
	getModes      = unix.TCGETS
	setModesNow   = unix.TCSETS
	setModesFlush = unix.TCSETSF
)
