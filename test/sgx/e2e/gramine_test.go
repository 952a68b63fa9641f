package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"privyseal/internal/looplink"
	"privyseal/test/e2e/story"
	"privyseal/test/enclave"
	"privyseal/test/sgx/e2e/world"
	"privyseal/test/sgx/rig"
)

// The real Gramine 1.9, where it is installed: no registry of packages has it, so nothing here
// brings it.

// needGramine skips the test without it; PRIVYSEAL_REQUIRE_GRAMINE=1 demands it.
func needGramine(t *testing.T) {
	t.Helper()
	var why string
	for _, program := range []string{"gramine-sgx-sign", "gramine-sgx", "gramine-direct"} {
		if _, err := exec.LookPath(program); err != nil {
			why = err.Error()
		}
	}
	if why == "" {
		out, err := exec.Command("gramine-direct", "--version").CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), "Gramine 1.9 ") {
			why = fmt.Sprintf("it is not Gramine 1.9: %s %v", out, err)
		}
	}
	if why != "" && os.Getenv("PRIVYSEAL_REQUIRE_GRAMINE") != "1" {
		t.Skip("Gramine is not installed: " + why)
	}
	if why != "" {
		t.Fatal(why)
	}
}

// signByGramine signs a folder, and returns what gramine-sgx-sign prints.
func signByGramine(ctx context.Context, t *testing.T, w *world.World, folder string) string {
	t.Helper()
	cmd := exec.CommandContext(ctx, "gramine-sgx-sign", "--manifest", rig.Name+".manifest", "--output", rig.Name+".manifest.sgx", "--key", w.Machine.SignerKey(), "--date", "0000-00-00")
	cmd.Dir = folder
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("gramine-sgx-sign: %v\n%s", err, out)
	}
	return string(out)
}

// gramine-sgx-sign takes our manifest, measures what we read back, and makes the same bytes
// again.
func TestGramineSigns(t *testing.T) {
	needGramine(t)
	ctx := story.Within(t, time.Minute)
	w := newWorld(t)
	folder, err := w.Unsigned(ctx, "--chain", "sgx-unix")
	check(t, err)
	printed := signByGramine(ctx, t, w, folder)
	measured, err := w.Run(ctx, "sgx", "measure", world.Sigstruct(folder))
	check(t, err)
	signed := read(t, world.Sigstruct(folder))
	if mrenclave := fmt.Sprintf("%x", signed[960:960+32]); !strings.Contains(printed, mrenclave) || !strings.Contains(measured, mrenclave) {
		t.Errorf("gramine-sgx-sign says\n%s\nand privyseal sgx measure\n%s\nof %s", printed, measured, mrenclave)
	}
	manifest := read(t, filepath.Join(folder, rig.Name+".manifest.sgx"))
	signByGramine(ctx, t, w, folder)
	if !bytes.Equal(signed, read(t, world.Sigstruct(folder))) || !bytes.Equal(manifest, read(t, filepath.Join(folder, rig.Name+".manifest.sgx"))) {
		t.Error("signed again, the files are others")
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	check(t, err)
	return data
}

// On a machine without SGX the real gramine-sgx does not start, and privyseal says why.
func TestGramineWithoutSGX(t *testing.T) {
	needGramine(t)
	if _, err := os.Stat("/dev/sgx_enclave"); err == nil {
		t.Skip("this machine has SGX")
	}
	ctx := story.Within(t, time.Minute)
	w := newWorld(t)
	folder, err := w.Unsigned(ctx)
	check(t, err)
	signByGramine(ctx, t, w, folder)
	home := filepath.Join(w.Dir, "home")
	_, err = w.Run(ctx, "init", "--home", home, "--chain-id", "c", "--node", "unix:///run/node.sock", "--provider", "sgx", "--sgx-folder", folder, "--sgx-gramine-sgx", "gramine-sgx", "--sgx-collateral", w.Collateral())
	if err == nil || !strings.Contains(err.Error(), "/dev/sgx_enclave") {
		t.Errorf("init says %v", err)
	}
	if _, err := os.Stat(filepath.Join(home, "privyseal.toml")); err == nil {
		t.Error("init made a home without an enclave")
	}
}

// The unmodified manifest runs under gramine-direct, where the program finds nothing of SGX,
// says so, and ends.
func TestGramineWithoutAttestation(t *testing.T) {
	needGramine(t)
	ctx := story.Within(t, time.Minute)
	w := newWorld(t)
	folder, err := w.Unsigned(ctx)
	check(t, err)
	signByGramine(ctx, t, w, folder)
	// gramine-direct takes a signed manifest under the name of one that is not.
	check(t, os.Rename(filepath.Join(folder, rig.Name+".manifest.sgx"), filepath.Join(folder, rig.Name+".manifest")))
	host, err := looplink.NewHost()
	check(t, err)
	defer host.Close()
	cmd := exec.CommandContext(ctx, "gramine-direct", rig.Name)
	cmd.Dir, cmd.Env = folder, append(os.Environ(), host.Environment())
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "/dev/attestation/attestation_type") || strings.Contains(string(out), "panic") {
		t.Errorf("the program says, and ends with %v:\n%s", err, out)
	}
}

// A real chain is signed by the program in the real LibOS of Gramine, from the init on. Its
// manifest has two lines more than ours: files of /dev/attestation, which are SGX's otherwise.
func TestGramineSignsAChain(t *testing.T) {
	needGramine(t)
	ctx := story.Within(t, 2*time.Minute)
	w := newWorld(t)
	folder, err := w.Unsigned(ctx)
	check(t, err)
	path := filepath.Join(folder, rig.Name+".manifest")
	manifest, err := rig.WithAttestation(read(t, path))
	check(t, err)
	check(t, os.WriteFile(path, manifest, 0o600))
	signByGramine(ctx, t, w, folder)
	w.Launcher = filepath.Join(w.Dir, "gramine")
	check(t, os.WriteFile(w.Launcher, fmt.Appendf(nil, "#!/bin/sh\nexec %q direct %q \"$@\"\n", filepath.Join(w.Machine.Dir, "gramine"), w.Machine.Dir), 0o700))

	s, chains, err := w.InitChains(ctx, w.InitFlags(folder), "unix", "tcp")
	need(t, err)
	story.StartSigner(t, s)
	for _, c := range chains {
		story.StartNode(t, c.Node, c.Addr)
	}
	check(t, enclave.GoOn(ctx, chains, 20))
	check(t, s.Stop(time.Minute))
	check(t, s.Start())
	check(t, enclave.GoOn(ctx, chains, 20))
	for _, c := range chains {
		check(t, c.VerifyCommits(ctx, 1, 20))
		attests(ctx, t, w, s, c, folder)
	}
}
