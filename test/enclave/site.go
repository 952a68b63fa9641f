// Package enclave is what the worlds of all kinds of enclaves have in common (test/nitro/e2e/world,
// test/sgx/e2e/world): the shipped programs, and chains of real nodes whose keys are in an
// enclave.
//
// It knows no kind of enclave, and drives privyseal through its command line alone.
package enclave

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	noderig "privyseal/test/e2e/rig"
)

// ErrMissing says that something is not there that scripts/setup or kernel/build brings; what
// wraps it names the command.
var ErrMissing = errors.New("something for enclaves is not there")

// Programs are the shipped programs.
type Programs struct{ Privyseal, Enclave string }

// Build builds privyseal and a measured program of cmd into dir, as the Makefile does.
func Build(ctx context.Context, dir, measured string) (Programs, error) {
	p := Programs{filepath.Join(dir, "privyseal"), filepath.Join(dir, measured)}
	if err := BuildMeasured(ctx, p.Enclave); err != nil {
		return p, err
	}
	return p, build(ctx, p.Privyseal, nil, "-buildvcs=auto", "-ldflags", "-s -w")
}

// BuildMeasured builds the measured program that has the name of a file, as the Makefile does.
// More goes into the environment of `go build`.
func BuildMeasured(ctx context.Context, file string, env ...string) error {
	return build(ctx, file, env, "-buildvcs=false", "-ldflags", "-s -w -buildid=")
}

func build(ctx context.Context, file string, env []string, flags ...string) error {
	name := filepath.Base(file)
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build", "-trimpath"}, flags...), "-o", file, "privyseal/cmd/"+name)...)
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build %s: %w\n%s", name, err, out)
	}
	return nil
}

// Site is an operator with the programs of one kind of enclave, and a folder for all files.
type Site struct {
	Programs
	Dir      string // on a disk
	Provider string // of the keys
}

// NewSite makes one. Its folder is removed by Close.
func NewSite(p Programs, provider string) (Site, error) {
	dir, err := noderig.NewDir()
	return Site{p, dir, provider}, err
}

// Close removes all files.
func (s Site) Close() error {
	if s.Dir == "" {
		return nil
	}
	return os.RemoveAll(s.Dir)
}

// Run runs privyseal to its end and returns its standard output. The error holds its
// standard error.
func (s Site) Run(ctx context.Context, args ...string) (string, error) {
	return noderig.Output(ctx, s.Privyseal, args...)
}
