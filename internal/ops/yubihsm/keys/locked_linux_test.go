package keys

import (
	"os"
	"syscall"
	"testing"
)

// A folder that takes no file is noticed before a key is made. Root writes anywhere but
// where the kernel keeps the folder.
func TestGenerateIntoALockedFolder(t *testing.T) {
	w := newWorld(t, 1)
	locked := "/sys"
	if os.Geteuid() != 0 {
		locked = "locked"
		if err := os.Mkdir(locked, 0o500); err != nil {
			t.Fatal(err)
		}
	}
	why := syscall.EACCES
	var fs syscall.Statfs_t
	if err := syscall.Statfs(locked, &fs); err != nil {
		t.Fatal(err)
	} else if fs.Flags&syscall.MS_RDONLY != 0 { // as in most containers
		why = syscall.EROFS
	}
	w.Refuses(locked+"/file: "+why.Error(), w.generate("--out", locked+"/file")...)
}
