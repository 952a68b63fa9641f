package rig

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"privyseal/internal/vsock"
)

func newInstance(t *testing.T) (i *Instance, image string) {
	t.Helper()
	im, err := probeImage()
	require(t, err)
	if _, err := QEMU(); err != nil {
		require(t, err)
	}
	dir, err := NewDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	i, err = NewInstance(Instance{Dir: dir}, newRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	})
	image = filepath.Join(dir, "probe.eif")
	if err := os.WriteFile(image, im.Encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	return i, image
}

// nitroCLI runs nitro-cli, and decodes what it prints into reply.
func nitroCLI(t *testing.T, i *Instance, reply any, args ...string) error {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), i.CLI(), args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: %s", err, stderr.String())
	}
	if err := json.Unmarshal(stdout.Bytes(), reply); err != nil {
		t.Fatalf("%v printed %q: %v", args, stdout.String(), err)
	}
	return nil
}

func describe(t *testing.T, i *Instance) []Enclave {
	t.Helper()
	var all []Enclave
	if err := nitroCLI(t, i, &all, "describe-enclaves"); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestNitroCLI(t *testing.T) {
	i, image := newInstance(t)
	if all := describe(t, i); len(all) != 0 {
		t.Fatalf("an empty instance runs %v", all)
	}
	var first Enclave
	if err := nitroCLI(t, i, &first, "run-enclave", "--eif-path", image, "--memory", "64", "--cpu-count", "2"); err != nil {
		t.Fatal(err)
	}
	all := describe(t, i)
	if len(all) != 1 {
		t.Fatalf("after the launch %v run", all)
	}
	im, err := probeImage()
	if err != nil {
		t.Fatal(err)
	}
	e, want := all[0], im.Measure()
	if e.EnclaveID != first.EnclaveID || e.EnclaveName != "probe" || e.EnclaveCID != 16 || e.State != "RUNNING" || e.Flags != "NONE" ||
		e.MemoryMiB != 64 || e.Measurements["PCR0"] != want.PCR0.String() || e.Measurements["PCR2"] != want.PCR2.String() {
		t.Errorf("described as %+v", e)
	}
	h := vsock.Host{CID: 16, Dir: i.Sockets()}
	if got := mustAsk(t, h, "pcr 0"); !bytes.Equal(got, want.PCR0[:]) {
		t.Errorf("PCR0 is %x", got)
	}
	refused(t, i, image, e)

	// The shell that launched it is long gone, and the enclave is not.
	out, err := os.ReadFile(i.OutgoingFile(e.EnclaveID))
	if err != nil || !bytes.Contains(out, fmt.Appendf(nil, "ok %s\n", want.PCR0)) {
		t.Errorf("%d bytes left the enclave, its answer is not among them (%v)", len(out), err)
	}
	if err := i.Kill(e); err != nil {
		t.Fatal(err)
	}
	await(t, "the killed enclave to be gone", func() bool { return len(describe(t, i)) == 0 })

	// The next one of the same CID takes the sockets over.
	if err := nitroCLI(t, i, &e, "run-enclave", "--eif-path", image, "--memory", "64", "--cpu-count", "2", "--debug-mode", "--enclave-name", "two", "--enclave-cid", "16"); err != nil {
		t.Fatal(err)
	}
	if got := mustAsk(t, h, "pcr 0"); !bytes.Equal(got, make([]byte, 48)) {
		t.Errorf("PCR0 in debug mode is %x", got)
	}
	seesConsole(t, i, e)
	var ended struct{ Terminated bool }
	if err := nitroCLI(t, i, &ended, "terminate-enclave", "--enclave-id", e.EnclaveID); err != nil || !ended.Terminated {
		t.Errorf("terminate-enclave: %v, %v", ended, err)
	}
	if all := describe(t, i); len(all) != 0 {
		t.Errorf("after the end %v run", all)
	}
}

// refused is what nitro-cli does not do while e runs.
func refused(t *testing.T, i *Instance, image string, e Enclave) {
	t.Helper()
	for _, c := range []struct{ args, want string }{
		{"run-enclave --eif-path IMAGE --memory 64 --cpu-count 1 --enclave-cid 16", "E33"},
		{"run-enclave --eif-path IMAGE --memory 63 --cpu-count 1", "E26"},
		{"run-enclave --eif-path IMAGE --memory 1000 --cpu-count 1", "E27"},
		{"run-enclave --eif-path IMAGE --memory 64 --cpu-count 3", "E22"},
		{"run-enclave --eif-path /nothing --memory 64 --cpu-count 1", "E19"},
		{"run-enclave --eif-path IMAGE --memory 64 --cpu-count 1 --enclave-cid 3", "E03"},
		{"run-enclave --memory 64 --cpu-count 1", "E01"},
		{"console --enclave-id ID", "E44"},
		{"console --enclave-id i-other", "E39"},
		{"terminate-enclave --enclave-id i-other", "E40"},
		{"fly", "unrecognized subcommand"},
		{"describe-enclaves --loud", "flag provided but not defined"},
	} {
		args := strings.Fields(strings.NewReplacer("IMAGE", image, "ID", e.EnclaveID).Replace(c.args))
		out, err := exec.Command(i.CLI(), args...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %v\n%s", c.args, err, out)
		}
	}
}

func seesConsole(t *testing.T, i *Instance, e Enclave) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), i.CLI(), "console", "--enclave-id", e.EnclaveID)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var seen []byte
	buf := make([]byte, 4096)
	for !bytes.Contains(seen, []byte("probe: heartbeat answered")) {
		n, err := out.Read(buf)
		seen = append(seen, buf[:n]...)
		if err != nil && err != io.EOF || n == 0 {
			t.Errorf("the console shows %q, %v", seen, err)
			break
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
}

// await polls what cannot be waited for.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
