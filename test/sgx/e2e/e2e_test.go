// Package e2e shows the shipped programs signing for real nodes from inside of an enclave of
// SGX, without SGX (test/sgx/rig). What it needs is built by scripts/setup nodes.
package e2e

import (
	"context"
	"os"
	"testing"

	"privyseal/test/e2e/story"
	"privyseal/test/enclave"
	"privyseal/test/sgx/e2e/world"
)

// programs are those under test.
var programs enclave.Programs

func TestMain(m *testing.M) {
	os.Exit(story.Main(m, func(dir string) (err error) {
		programs, err = enclave.Build(context.Background(), dir, "privyseal-sgx")
		return err
	}))
}

func newWorld(t *testing.T) *world.World {
	t.Helper()
	w, err := world.New(t.Context(), programs)
	need(t, err)
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// check is short, because nearly each line has it.
var check = story.Check

// need is check for what may not be there, and `make` brings.
func need(t *testing.T, err error) {
	t.Helper()
	story.Need(t, "PRIVYSEAL_REQUIRE_SGX", err)
}
