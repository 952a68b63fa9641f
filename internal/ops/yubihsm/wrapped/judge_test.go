package wrapped

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"testing"

	"privyseal/internal/key/yubihsm/yubihsmtest"
)

// Yubico's program restores a backup of ours, and ours one of Yubico's, of both types.
func TestBackupsOfYubiHSMShell(t *testing.T) {
	program := filepath.Join(yubihsmtest.Programs(t, "yubihsm-shell"), "yubihsm-shell")
	for _, algorithm := range []byte{yubihsmtest.Ed25519, yubihsmtest.K256} {
		w := newPair(t, 3)
		w.exportable(w.Dev[0], 7, algorithm, 5)
		shell := func(device int, args ...string) {
			t.Helper()
			all := append([]string{"-C", w.Devices[device], "--authkey", "3", "-p", "three", "--wrap-id", "1"}, args...)
			if out, err := exec.Command(program, all...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", args, err, out)
			}
		}
		w.Must("wrote", w.exports(0)...)
		shell(1, "-a", "put-wrapped", "--in", w.Path("backup"), "--informat", "base64")
		shell(1, "-a", "get-wrapped", "-i", "7", "-t", "asymmetric-key", "--out", w.Path("theirs"))
		w.Must("restored: the key 0x0007", w.restores(2, w.Path("theirs"))...)
		for i, d := range w.Dev {
			if is, want := d.Public(t, 7), w.Dev[0].Public(t, 7); !bytes.Equal(is, want) {
				t.Errorf("device %d has the key %x, not %x", i, is, want)
			}
		}
		w.Must("was there already, and signs as", w.clones()...)
	}
}
