package monitor

import (
	"fmt"
	"os"
	"path/filepath"
)

// socketPath returns a name of the status socket that fits into a socket
// address, which holds 107 bytes: through an open folder where home is longer.
// done has to be called after the name was used.
func socketPath(home string) (path string, done func(), err error) {
	path = filepath.Join(home, SocketName)
	if len(path) <= 107 {
		return path, func() {}, nil
	}
	dir, err := os.Open(home)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), SocketName), func() { dir.Close() }, nil
}
