package main

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// maxProgram bounds the program in bytes: all of it is measured, page by page, at each launch.
const maxProgram = 9 << 20

// The program is static, for Gramine has no loader then to trust beside it; it is small; and
// a copy of the source in another folder gives the same one, bit for bit.
func TestProgram(t *testing.T) {
	root := filepath.Join("..", "..")
	name := build(t, root)
	program, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", len(program))
	if len(program) > maxProgram {
		t.Errorf("%d bytes, more than %d", len(program), maxProgram)
	}
	file, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("it is linked with libraries: it has a segment %s", p.Type)
		}
	}
	source := filepath.Join(t.TempDir(), "quite/another/folder")
	for _, dir := range []string{"internal", "cmd/privyseal-sgx"} {
		if err := os.CopyFS(filepath.Join(source, dir), os.DirFS(filepath.Join(root, dir))); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(root, file))
		if err == nil {
			err = os.WriteFile(filepath.Join(source, file), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	again, err := os.ReadFile(build(t, source))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(program, again) {
		t.Errorf("%d bytes, and other %d bytes from another folder", len(program), len(again))
	}
	// It has nothing of Gramine's around it here, says so, and ends.
	out, err := exec.Command(name).CombinedOutput()
	if err == nil || string(out) != "privyseal-sgx: this is no SGX enclave: there is no /dev/attestation/attestation_type; run it by gramine-sgx\n" {
		t.Errorf("%v: %s", err, out)
	}
}

// build builds the program of a source as the Makefile does.
func build(t *testing.T, source string) string {
	t.Helper()
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	flags := regexp.MustCompile(`(?m)^BUILD_ENCLAVE := CGO_ENABLED=0 \$\(GO\) build (.*) -ldflags '(.*)'$`).FindSubmatch(makefile)
	if flags == nil {
		t.Fatal("the Makefile has no BUILD_ENCLAVE")
	}
	name := filepath.Join(t.TempDir(), "privyseal-sgx")
	args := append([]string{"build"}, strings.Fields(string(flags[1]))...)
	cmd := exec.Command("go", append(args, "-ldflags", string(flags[2]), "-o", name, "./cmd/privyseal-sgx")...)
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return name
}
