package yubihsmtest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Programs returns the folder that programs of Yubico's are in, which `scripts/setup
// yubihsm` brings. Without one of them the test is skipped, or fails where
// PRIVYSEAL_REQUIRE_YUBIHSM is 1.
func Programs(t testing.TB, names ...string) string {
	t.Helper()
	out, err := exec.Command(setup(t), "bin").Output()
	if err != nil {
		t.Fatal(err)
	}
	bin := strings.TrimSpace(string(out))
	for _, p := range names {
		_, err := os.Stat(filepath.Join(bin, p))
		switch {
		case errors.Is(err, os.ErrNotExist) && os.Getenv("PRIVYSEAL_REQUIRE_YUBIHSM") != "1":
			t.Skip(p + " is missing; `scripts/setup yubihsm` brings it")
		case err != nil:
			t.Fatal(err)
		}
	}
	return bin
}

// setup returns scripts/setup of the repository that the test's folder is in.
func setup(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		name := filepath.Join(dir, "scripts", "setup")
		if _, err := os.Stat(name); err == nil {
			return name
		}
	}
	t.Fatal("no folder above this one has scripts/setup")
	return ""
}
