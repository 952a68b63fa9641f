//go:build !linux

package monitor

import "path/filepath"

func socketPath(home string) (path string, done func(), err error) {
	return filepath.Join(home, SocketName), func() {}, nil
}
