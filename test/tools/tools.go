// Package tools finds the programs that tests run: those that scripts/setup and kernel/build
// have brought, and ours, which it builds as the Makefile does.
package tools

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// ErrMissing says that something is not there that a test needs; what wraps it says what, and
// which command brings it.
var ErrMissing = errors.New("it is not there")

// Cache returns the folder that scripts/setup builds into, by its rule.
func Cache() (string, error) {
	if dir := os.Getenv("PRIVYSEAL_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Abs(filepath.Join(dir, "privyseal"))
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("cannot find the cache: %w", err)
	}
	return filepath.Join(home, ".cache", "privyseal"), nil
}

// Program returns the path of what a command brings, such as cometbft-v0.38.26 and
// scripts/setup nodes. The error wraps ErrMissing if it is not there.
func Program(name, command string) (string, error) {
	cache, err := Cache()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, "bin", name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s: %w; type: %s", path, ErrMissing, command)
	}
	return path, nil
}

// Build builds privyseal.
func Build(ctx context.Context, file string) error {
	return build(ctx, file, "privyseal", nil, "-buildvcs=auto", "-ldflags", "-s -w")
}

// BuildMeasured builds the measured program of cmd that has the name of the file. More goes
// into the environment of `go build`.
func BuildMeasured(ctx context.Context, file string, env ...string) error {
	return build(ctx, file, filepath.Base(file), env, "-buildvcs=false", "-ldflags", "-s -w -buildid=")
}

func build(ctx context.Context, file, name string, env []string, flags ...string) error {
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build", "-trimpath"}, flags...), "-o", file, "privyseal/cmd/"+name)...)
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build %s: %w\n%s", name, err, out)
	}
	return nil
}
