// Package enclave is what the worlds of all kinds of enclaves have in common (test/nitro/e2e/world,
// test/sgx/e2e/world): the shipped programs, and chains of real nodes whose keys are in an
// enclave.
//
// It knows no kind of enclave, and drives privyseal through its command line alone.
package enclave

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	noderig "privyseal/test/e2e/rig"
	"privyseal/test/tools"
)

// Programs are the shipped programs.
type Programs struct{ Privyseal, Enclave string }

// In returns the programs of a folder, with a measured program of cmd.
func In(dir, measured string) Programs {
	return Programs{filepath.Join(dir, "privyseal"), filepath.Join(dir, measured)}
}

// Build builds them into dir.
func Build(ctx context.Context, dir, measured string) (Programs, error) {
	p := In(dir, measured)
	return p, errors.Join(tools.Build(ctx, p.Privyseal), tools.BuildMeasured(ctx, p.Enclave))
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
