// Package e2e shows the shipped programs signing for real nodes from inside the
// real image, booted in QEMU (test/nitro/rig). What it needs is built by
// scripts/setup qemu, kernel/build and scripts/setup nodes.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"testing"
	"time"

	noderig "privyseal/test/e2e/rig"
	"privyseal/test/enclave"
	"privyseal/test/nitro/e2e/world"
)

// programs are those under test.
var programs enclave.Programs

func TestMain(m *testing.M) {
	if name := filepath.Base(os.Args[0]); name == "aws" || name == "systemctl" {
		os.Exit(standIn()) // for guide_test.go
	}
	dir, err := os.MkdirTemp("", "programs")
	if err != nil {
		log.Fatal(err)
	}
	run := filepath.Join(dir, "run")
	os.Setenv("PRIVYSEAL_RUN", run) // not the host's own
	if err = os.Mkdir(run, 0o700); err == nil {
		programs, err = enclave.Build(context.Background(), dir, "privyseal-enclave")
	}
	if err != nil {
		os.RemoveAll(dir)
		log.Fatal(err)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
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

// startSigner starts it; at the end it has to stop as an operator expects.
func startSigner(t *testing.T, s *noderig.Signer) {
	t.Helper()
	check(t, s.Start())
	t.Cleanup(func() {
		if err := s.Stop(time.Minute); err != nil {
			t.Errorf("privyseal did not end with status 0 at SIGTERM: %v", err)
		}
		tail(t, s.Process)
	})
}

func startNode(t *testing.T, c *enclave.Chain) {
	t.Helper()
	check(t, c.Node.StartUntilUp(t.Context(), c.Addr))
	t.Cleanup(func() {
		c.Node.Stop(time.Minute)
		tail(t, c.Node.Process)
	})
}

// tail shows the end of a program's log if the test failed.
func tail(t *testing.T, p *noderig.Process) {
	if t.Failed() {
		t.Logf("the log of %s ends with\n%s", p.Name, p.Tail(30))
	}
}

// within bounds a test in time: by ten times d, which is plenty on a machine that
// does nothing else.
func within(t *testing.T, d time.Duration) context.Context {
	d *= 10
	ctx, cancel := context.WithTimeoutCause(t.Context(), d, fmt.Errorf("not within %s", d))
	t.Cleanup(cancel)
	return ctx
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// need is check for what may not be there: `go test` alone skips then, and `make
// test-nitro`, which brings it, sets PRIVYSEAL_REQUIRE_NITRO.
func need(t *testing.T, err error) {
	t.Helper()
	if (errors.Is(err, enclave.ErrMissing) || errors.Is(err, noderig.ErrMissing)) && os.Getenv("PRIVYSEAL_REQUIRE_NITRO") != "1" {
		t.Skip(err)
	}
	check(t, err)
}

// missing is an error for need.
func missing(err error) error { return errors.Join(enclave.ErrMissing, err) }

// output runs privyseal to its end and returns its standard output.
func output(ctx context.Context, args ...string) (string, error) {
	return noderig.Output(ctx, programs.Privyseal, args...)
}
