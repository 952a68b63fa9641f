package rig

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
	await(t, "the killed enclave to be gone", func() bool {
		var all []Enclave // while its process ends, nitro-cli may get no answer
		return nitroCLI(t, i, &all, "describe-enclaves") == nil && len(all) == 0
	})

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
	for _, c := range []struct {
		args, codes string
		status      int
	}{
		{"run-enclave --eif-path IMAGE --memory 64 --cpu-count 2 --enclave-cid 16", "E29 E39", 39},
		{"run-enclave --eif-path IMAGE --memory 61 --cpu-count 2", "E29 E39", 39},
		{"run-enclave --eif-path IMAGE --memory 64 --cpu-count 1", "E29 E39", 39},
		{"run-enclave --eif-path IMAGE --memory 64 --cpu-count 4", "E29 E39", 39},
		{"run-enclave --eif-path IMAGE --memory 3 --cpu-count 2", "E26 E39", 39},
		{"run-enclave --eif-path IMAGE --memory 1000 --cpu-count 2", "E27 E39", 39},
		{"run-enclave --eif-path IMAGE --memory 64 --cpu-count 5", "E22 E39", 39},
		{"run-enclave --eif-path /nothing --memory 64 --cpu-count 2", "E19 E39", 39},
		{"run-enclave --eif-path IMAGE --memory 64 --cpu-count 2 --enclave-cid 3", "E03", 3},
		{"run-enclave --memory 64 --cpu-count 2", "", 2},
		{"console --enclave-id ID", "E44", 44},
		{"console --enclave-id i-other", "E11", 11},
		{"console --enclave-name other", "E58", 58},
		{"terminate-enclave --enclave-id i-other", "E11", 11},
		{"terminate-enclave --enclave-id i-0-enc77", "E11", 11},
		{"fly", "", 2},
		{"describe-enclaves --loud", "", 2},
	} {
		args := strings.Fields(strings.NewReplacer("IMAGE", image, "ID", e.EnclaveID).Replace(c.args))
		out, err := exec.Command(i.CLI(), args...).CombinedOutput()
		var exit *exec.ExitError
		var codes []string
		for _, m := range regexp.MustCompile(`\[ (E[0-9]{2}) \]`).FindAllStringSubmatch(string(out), -1) {
			codes = append(codes, m[1])
		}
		if !errors.As(err, &exit) || exit.ExitCode() != c.status || strings.Join(codes, " ") != c.codes {
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

// An enclave that does not come up is ended when the wait is over, and its console can be
// read during that.
func TestNoHeartbeat(t *testing.T) {
	i, image := newInstance(t)
	i.Heartbeat = 15 * time.Second // a busy machine takes six for the first line
	i.Append = "init=/nothing rdinit=/nothing panic=0"
	if err := i.Save(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(i.CLI(), "run-enclave", "--eif-path", image, "--memory", "64", "--cpu-count", "2", "--debug-mode", "--enclave-cid", "30")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	for lines.Scan() && !strings.Contains(lines.Text(), "enclave-cid: 30") {
	}
	// A second launch meanwhile has no port for its heartbeat.
	out, err := exec.Command(i.CLI(), "run-enclave", "--eif-path", image, "--memory", "64", "--cpu-count", "2").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 39 || !strings.Contains(string(out), "[ E36 ]") {
		t.Errorf("a second launch: %v\n%s", err, out)
	}
	console, err := vsock.Host{CID: 30, Dir: i.Sockets()}.Console(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seen, _ := io.ReadAll(console)
	if !strings.Contains(string(seen), "Kernel panic") {
		t.Errorf("the console shows %q", seen)
	}
	var rest []string
	for lines.Scan() {
		rest = append(rest, lines.Text())
	}
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 39 || !strings.HasPrefix(strings.Join(rest, "\n"), "[ E36 ]") {
		t.Errorf("the launch: %v\n%s", err, strings.Join(rest, "\n"))
	}
	if all := describe(t, i); len(all) != 0 {
		t.Errorf("after it %v run", all)
	}
}

// What nitro-cli does with the processes of enclaves: one that is silent, one whose asker
// was killed, one that was told to stop listening, by anybody.
func TestProcessesOfEnclaves(t *testing.T) {
	i, image := newInstance(t)
	var one, two Enclave
	for name, e := range map[string]*Enclave{"one": &one, "two": &two} {
		if err := nitroCLI(t, i, e, "run-enclave", "--eif-path", image, "--memory", "64", "--cpu-count", "2", "--enclave-name", name); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(SocketPath(i.Run(), one.EnclaveID))
	if err != nil || info.Mode().Perm() != 0o766 {
		t.Errorf("its socket: %v, %v", info, err)
	}
	// Silent for 3 s: the other is listed, and the status is E39's.
	require(t, syscall.Kill(one.ProcessID, syscall.SIGSTOP))
	cmd := exec.Command(i.CLI(), "describe-enclaves")
	out, err := cmd.Output()
	var exit *exec.ExitError
	var all []Enclave
	if !errors.As(err, &exit) || exit.ExitCode() != 39 || json.Unmarshal(out, &all) != nil || len(all) != 1 || all[0].EnclaveName != "two" {
		t.Errorf("with a silent one: %v\n%s", err, out)
	}
	// That nitro-cli is gone, and had no answer: the process ends when it comes to it.
	require(t, syscall.Kill(one.ProcessID, syscall.SIGCONT))
	await(t, "the enclave whose asker was gone to be gone", func() bool { return !Alive(one.ProcessID) })
	if all := describe(t, i); len(all) != 1 || all[0].EnclaveName != "two" || all[0].ImageName != "" {
		t.Errorf("then %+v run", all)
	}
	if err := nitroCLI(t, i, &all, "describe-enclaves", "--metadata"); err != nil || all[0].ImageName != "probe" || all[0].Metadata["BuildTool"] == nil {
		t.Errorf("with its metadata: %+v, %v", all, err)
	}
	conn, err := net.Dial("unix", SocketPath(i.Run(), two.EnclaveID))
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "stop\n")
	io.ReadAll(conn)
	if all := describe(t, i); len(all) != 0 || !Alive(two.ProcessID) {
		t.Errorf("after the stop %v are listed", all)
	}
	// Its memory and CPUs are still taken.
	out, err = exec.Command(i.CLI(), "run-enclave", "--eif-path", image, "--memory", "1000", "--cpu-count", "2").CombinedOutput()
	if !errors.As(err, &exit) || !strings.Contains(string(out), "[ E27 ]") {
		t.Errorf("a launch beside it: %v\n%s", err, out)
	}
	// Another folder has other sockets, and one that is not there is an error.
	t.Setenv("NITRO_CLI_SOCKETS_PATH", filepath.Join(i.Dir, "nothing"))
	for _, command := range []string{"describe-enclaves", "run-enclave --eif-path x --memory 64 --cpu-count 2"} {
		out, err = exec.Command(i.CLI(), strings.Fields(command)...).CombinedOutput()
		if !errors.As(err, &exit) || exit.ExitCode() != 7 {
			t.Errorf("%s without a folder: %v\n%s", command, err, out)
		}
	}
}
