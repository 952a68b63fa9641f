// Package e2e shows the shipped programs signing for real nodes from inside the
// real image, booted in QEMU (test/nitro/rig). What it needs is built by
// scripts/setup qemu, kernel/build and scripts/setup nodes.
package e2e

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	noderig "privyseal/test/e2e/rig"
	"privyseal/test/e2e/story"
	"privyseal/test/enclave"
	"privyseal/test/nitro/e2e/world"
)

// programs are those under test.
var programs enclave.Programs

func TestMain(m *testing.M) {
	if name := filepath.Base(os.Args[0]); name == "aws" || name == "systemctl" {
		os.Exit(standIn()) // for guide_test.go
	}
	os.Exit(story.Main(m, func(dir string) (err error) {
		programs, err = enclave.Build(context.Background(), dir, "privyseal-enclave")
		return err
	}))
}

func newWorld(t *testing.T) *world.World {
	t.Helper()
	w, err := world.New(programs)
	need(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			consoles(t, w)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// consoles shows what the enclaves' kernels said.
func consoles(t *testing.T, w *world.World) {
	files, _ := filepath.Glob(w.Instance.ConsoleFile("*"))
	for _, f := range files {
		text, _ := os.ReadFile(f)
		t.Logf("the console of an enclave ends with\n%s", text[max(0, len(text)-500):])
	}
}

// testImage builds an image that believes this world, and lets it use the key.
func testImage(ctx context.Context, t *testing.T, w *world.World, more ...string) *world.Image {
	t.Helper()
	flags, err := w.TestRoots()
	check(t, err)
	im, err := w.BuildImage(ctx, "privyseal", append(flags, more...)...)
	check(t, err)
	check(t, w.LetIn(ctx, im))
	return im
}

// check is short, because nearly each line has it.
var check = story.Check

// need is check for what may not be there, and `make` brings.
func need(t *testing.T, err error) {
	t.Helper()
	story.Need(t, "PRIVYSEAL_REQUIRE_NITRO", err)
}

// output runs privyseal to its end and returns its standard output.
func output(ctx context.Context, args ...string) (string, error) {
	return noderig.Output(ctx, programs.Privyseal, args...)
}
