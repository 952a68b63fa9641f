// Package e2e shows the shipped programs signing for real nodes from inside of an enclave of
// SGX, without SGX (test/sgx/rig). What it needs is built by scripts/setup nodes.
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
	"privyseal/test/sgx/e2e/world"
)

// programs are those under test.
var programs enclave.Programs

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "programs")
	if err != nil {
		log.Fatal(err)
	}
	run := filepath.Join(dir, "run")
	os.Setenv("PRIVYSEAL_RUN", run) // not the host's own
	if err = os.Mkdir(run, 0o700); err == nil {
		programs, err = enclave.Build(context.Background(), dir, "privyseal-sgx")
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
	w, err := world.New(t.Context(), programs)
	need(t, err)
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
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

// within bounds a test in time: by ten times d, which is plenty on a machine that does
// nothing else.
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

// need is check for what may not be there: `go test` alone skips then, and `make test-sgx`
// sets PRIVYSEAL_REQUIRE_SGX.
func need(t *testing.T, err error) {
	t.Helper()
	if (errors.Is(err, enclave.ErrMissing) || errors.Is(err, noderig.ErrMissing)) && os.Getenv("PRIVYSEAL_REQUIRE_SGX") != "1" {
		t.Skip(err)
	}
	check(t, err)
}
