package wrapped

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"privyseal/internal/key/yubihsm/yubihsmtest"
)

// yubihsmShell returns yubihsm-shell, which `scripts/setup yubihsm` brings. Without it the
// test is skipped, or fails where PRIVYSEAL_REQUIRE_YUBIHSM is 1.
func yubihsmShell(t *testing.T) string {
	t.Helper()
	setup, err := filepath.Abs("../../../../scripts/setup")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(setup, "bin").Output()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(strings.TrimSpace(string(out)), "yubihsm-shell")
	switch _, err := os.Stat(name); {
	case errors.Is(err, os.ErrNotExist) && os.Getenv("PRIVYSEAL_REQUIRE_YUBIHSM") != "1":
		t.Skip("yubihsm-shell is missing; `scripts/setup yubihsm` brings it")
	case err != nil:
		t.Fatal(err)
	}
	return name
}

// Yubico's program restores a backup of ours, and ours one of Yubico's, of both types.
func TestBackupsOfYubiHSMShell(t *testing.T) {
	program := yubihsmShell(t)
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
