// Package story is what tests with real nodes have in common, whatever signs: their time, and
// programs that begin and end with a test.
package story

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"testing"
	"time"

	"privyseal/test/e2e/rig"
	"privyseal/test/tools"
)

// Main runs the tests of a package on programs that build makes in a folder, and returns the
// exit status. What a host remembers in /run is in that folder, too.
func Main(m *testing.M, build func(dir string) error) int {
	dir, err := rig.NewDir()
	if err != nil {
		log.Print(err)
		return 1
	}
	defer os.RemoveAll(dir)
	run := filepath.Join(dir, "run")
	if err := errors.Join(os.Mkdir(run, 0o700), os.Setenv("PRIVYSEAL_RUN", run), build(dir)); err != nil {
		log.Print(err)
		return 1
	}
	return m.Run()
}

// Within bounds a test in time: by ten times d, which is plenty on a machine that does
// nothing else.
func Within(t *testing.T, d time.Duration) context.Context {
	d *= 10
	ctx, cancel := context.WithTimeoutCause(t.Context(), d, fmt.Errorf("not within %s", d))
	t.Cleanup(cancel)
	return ctx
}

// Check ends the test with an error.
func Check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Need is Check for what may not be there: `go test` alone skips then. `make`, which brings
// it, sets the variable to 1.
func Need(t *testing.T, variable string, err error) {
	t.Helper()
	if errors.Is(err, tools.ErrMissing) && os.Getenv(variable) != "1" {
		t.Skip(err)
	}
	Check(t, err)
}

// StartSigner starts it; at the end it has to stop as an operator expects.
func StartSigner(t *testing.T, s *rig.Signer) {
	t.Helper()
	Check(t, s.Start())
	t.Cleanup(func() {
		if err := s.Stop(time.Minute); err != nil {
			t.Errorf("privyseal did not end with status 0 at SIGTERM: %v", err)
		}
		Tail(t, s.Process)
	})
}

// StartNode starts a node until it is up, with its signer at an address.
func StartNode(t *testing.T, n *rig.Node, privval string) {
	t.Helper()
	Check(t, n.StartUntilUp(t.Context(), privval))
	EndNode(t, n)
}

// EndNode ends a node with the test.
func EndNode(t *testing.T, n *rig.Node) {
	t.Cleanup(func() {
		n.Stop(time.Minute)
		Tail(t, n.Process)
	})
}

// Tail shows the end of a program's log if the test failed.
func Tail(t *testing.T, p *rig.Process) {
	if t.Failed() {
		t.Logf("the log of %s ends with\n%s", p.Name, p.Tail(30))
	}
}
