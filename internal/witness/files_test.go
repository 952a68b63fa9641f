package witness

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// What is no file keeps nobody waiting, and holds the chain back.
func TestAFlagThatIsNoFile(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"fifo":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"device":    func(path string) error { return os.Symlink("/dev/zero", path) },
	} {
		state := filepath.Join(t.TempDir(), "c.mark")
		if err := put(FlagPath(state)); err != nil {
			t.Fatal(err)
		}
		if flag, _ := ReadFlag(state); !flag.Quarantine || flag.Stopped {
			t.Errorf("%s: %+v", name, flag)
		}
	}
}
