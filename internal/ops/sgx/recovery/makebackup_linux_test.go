package recovery

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"privyseal/internal/claims"
	"privyseal/internal/pubkey"
)

// While a key is in memory, no core file of the process has it, and no debugger of the same
// user.
func TestNoCoreFiles(t *testing.T) {
	b := newBench(t)
	b.recoveryKey("next")
	b.validator(pubkey.Ed25519)
	b.backedUp("recovery", "chain-1", claims.Generated)
	for name, line := range map[string]string{"a key": fromOutside + " --fresh-state", "a backup": exchange} {
		if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
			t.Fatal(err)
		}
		if out, err := b.make(line); err != nil {
			t.Fatalf("%s: %s, %v", name, out, err)
		}
		os.Remove(b.path("new.backup"))
		if is, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || is != 0 {
			t.Errorf("%s: %d, %v", name, is, err)
		}
	}
}
