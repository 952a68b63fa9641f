package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"privyseal/internal/cli"
	"privyseal/internal/nitrohost"
)

// TestUnits has systemd read the units that we ship, and compares what they say
// with what the program does.
func TestUnits(t *testing.T) {
	common := []string{"Type=notify", "Restart=always", "RestartPreventExitStatus=64 78 79", "LimitCORE=0", "Before=cometbft.service",
		"ExecReload=/bin/kill -HUP $MAINPID", "LimitMEMLOCK=infinity", "MemorySwapMax=0",
		"RuntimeDirectoryMode=0700", "RuntimeDirectoryPreserve=yes",
	}
	for name, want := range map[string][]string{
		"privyseal.service": append([]string{"RuntimeDirectory=privyseal"}, common...),
		// The enclave outlives the service, and nothing but its device is open.
		"privyseal-nitro.service": append([]string{
			"KillMode=process", "SupplementaryGroups=ne", "DevicePolicy=closed", "DeviceAllow=/dev/nitro_enclaves rw",
			"RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_VSOCK",
			"RuntimeDirectory=privyseal privyseal-nitro",
			"Environment=NITRO_CLI_SOCKETS_PATH=" + nitrohost.SocketsDir,
		}, common...),
		// The enclave is a child, and nothing but its device is open.
		"privyseal-sgx.service": append([]string{
			"SupplementaryGroups=sgx", "DevicePolicy=closed", "DeviceAllow=/dev/sgx_enclave rw", "CapabilityBoundingSet=",
			"RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6", "RuntimeDirectory=privyseal",
		}, common...),
	} {
		t.Run(name, func(t *testing.T) { checkUnit(t, name, want) })
	}
}

func checkUnit(t *testing.T, name string, lines []string) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		require(t, "systemd-analyze is missing; `scripts/setup debian` brings it")
	}
	unit, err := os.ReadFile(filepath.Join("../../systemd", name))
	if err != nil {
		t.Fatal(err)
	}
	// The program has to be where the unit looks for it, or systemd complains.
	exe, err := exec.LookPath("privyseal")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), name)
	installed := bytes.ReplaceAll(unit, []byte("/usr/local/bin/privyseal"), []byte(exe))
	if err := os.WriteFile(file, installed, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("systemd-analyze", "verify", "--man=no", file).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	for _, want := range lines {
		if !bytes.Contains(unit, []byte("\n"+want+"\n")) {
			t.Errorf("the unit has no %s", want)
		}
	}
}

// TestNoCoreDump crashes a signer whose caller allows core files, and asks the
// kernel whether it wrote one.
func TestNoCoreDump(t *testing.T) {
	home := filepath.Join(diskDir(t), "home")
	runCommand(t, "privyseal", "init", "--home", home, "--chain-id", "chain-1", "--node", "unix:///nowhere.sock")
	noMetrics(t, home)

	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &before); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{Cur: before.Max, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOTRACEBACK", "crash") // the Go runtime's way to ask for a core file
	p := startSigner(t, home)
	err := syscall.Setrlimit(syscall.RLIMIT_CORE, &before)
	p.waitReady(t)
	if err != nil {
		t.Fatal(err)
	}
	limits, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "limits"))
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?m)^Max core file size +0 +0 `).Match(limits) {
		t.Errorf("core files are allowed:\n%s", limits)
	}
	p.cmd.Process.Signal(syscall.SIGABRT)
	p.cmd.Wait()
	status := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !status.Signaled() || status.CoreDump() {
		t.Errorf("the crash ended with %v, core file: %t", p.cmd.ProcessState, status.CoreDump())
	}
}

// TestNotify follows what is reported to systemd from start to stop.
func TestNotify(t *testing.T) {
	home := filepath.Join(diskDir(t), "home")
	runCommand(t, "privyseal", "init", "--home", home, "--chain-id", "chain-1", "--node", "unix:///nowhere.sock")
	noMetrics(t, home)
	p := startSigner(t, home)
	p.waitReady(t)
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.notify.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 256)
	if n, err := p.notify.Read(b); err != nil || string(b[:n]) != "STOPPING=1" {
		t.Errorf("at the end systemd gets %q, %v", b[:n], err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v\n%s", err, p.log.String())
	}
}

// TestOneChainFails shows that a chain that cannot sign is reported, and does not
// stop the others.
func TestOneChainFails(t *testing.T) {
	dir := diskDir(t)
	home := filepath.Join(dir, "home")
	node := filepath.Join(dir, "good.sock")
	runCommand(t, "privyseal", "init", "--home", home, "--chain-id", "good", "--node", "unix://"+node)
	runCommand(t, "privyseal", "init", "--home", home, "--chain-id", "bad", "--node", "unix://"+filepath.Join(dir, "bad.sock"))
	noMetrics(t, home)
	if err := os.Remove(filepath.Join(home, "state", "bad.mark")); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", node)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := startSigner(t, home)
	p.waitReady(t)
	l.(*net.UnixListener).SetDeadline(time.Now().Add(patience))
	if _, err := l.Accept(); err != nil {
		t.Fatalf("the good chain is not served: %v\n%s", err, p.log.String())
	}
	status := runCommand(t, "privyseal", "status", "--home", home)
	if !strings.Contains(status, "state init") {
		t.Errorf("status does not say what mends the bad chain:\n%s", status)
	}
	if err := os.Remove(filepath.Join(home, "state", "good.mark")); err != nil {
		t.Fatal(err)
	}
	p.cmd.Process.Kill()
	p.cmd.Wait()
	none := exec.Command("privyseal", "start", "--home", home)
	out, _ := none.CombinedOutput()
	if none.ProcessState.ExitCode() != cli.MustAct {
		t.Errorf("without any state: exit status %d\n%s", none.ProcessState.ExitCode(), out)
	}
}

// require skips a test for want of a tool, or fails it where everything has to
// be there.
func require(t *testing.T, missing string) {
	t.Helper()
	if os.Getenv("PRIVYSEAL_REQUIRE_NODES") == "1" {
		t.Fatal(missing)
	}
	t.Skip(missing)
}
