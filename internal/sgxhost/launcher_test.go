package sgxhost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"privyseal/internal/enclavehost"
	"privyseal/internal/looplink"
)

// logged is a log that a test reads while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// newLauncher returns a launcher of a script in place of gramine-sgx, in the folder of an
// enclave whose files are all there.
func newLauncher(t *testing.T, script string) (*Launcher, *logged) {
	t.Helper()
	dir := t.TempDir()
	folder := filepath.Join(dir, "enclave")
	for _, file := range []string{ProgramFile, ManifestFile, SignedFile, SignatureFile} {
		write(t, filepath.Join(folder, file), "", 0o600)
	}
	path := filepath.Join(dir, "gramine-sgx")
	write(t, path, "#!/bin/sh\n"+script, 0o700)
	log := &logged{}
	return &Launcher{Gramine: path, Folder: folder, Log: slog.New(slog.NewTextHandler(log, nil))}, log
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// launch launches, and ends what runs with the test.
func launch(t *testing.T, l *Launcher) enclavehost.Enclave {
	t.Helper()
	e, adopted, err := l.Ensure(t.Context())
	if err != nil || adopted {
		t.Fatal(adopted, err)
	}
	t.Cleanup(func() { l.Stop(context.Background(), e.ID) })
	return e
}

// ended waits until the process has ended, and returns what a dial says of it.
func ended(t *testing.T, l *Launcher, e enclavehost.Enclave) error {
	t.Helper()
	select {
	case <-l.find(e.ID).ended:
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
	if alive, err := l.Alive(t.Context(), e.ID); alive || err != nil {
		t.Errorf("alive: %v, %v", alive, err)
	}
	_, err := e.Link.Dial(t.Context(), 1)
	if !errors.Is(err, enclavehost.ErrEnded) {
		t.Errorf("a dial says %v", err)
	}
	return err
}

// The enclave is a child: launched once, found running, ended in order, launched again.
func TestLife(t *testing.T) {
	l, _ := newLauncher(t, `echo $$ "$1" > pid; trap 'echo ended > end; exit 0' TERM; while :; do sleep 0.01; done`)
	e := launch(t, l)
	again, adopted, err := l.Ensure(t.Context())
	if err != nil || !adopted || again.ID != e.ID {
		t.Fatalf("found %v, %v, %v", again, adopted, err)
	}
	if alive, err := l.Alive(t.Context(), e.ID); !alive || err != nil {
		t.Error(alive, err)
	}
	waitFor(t, func() bool { return strings.TrimSpace(read(l, "pid")) == e.ID+" privyseal" })
	if err := l.Stop(t.Context(), e.ID); err != nil {
		t.Error(err)
	}
	if got := read(l, "end"); got != "ended\n" {
		t.Errorf("it was not ended in order: %q", got)
	}
	ended(t, l, e)
	if next := launch(t, l); next.ID == e.ID {
		t.Error("it was not launched again")
	}
	if alive, _ := l.Alive(t.Context(), e.ID); alive {
		t.Error("the one that was ended lives")
	}
}

func read(l *Launcher, name string) string {
	data, _ := os.ReadFile(filepath.Join(l.Folder, name))
	return string(data)
}

// waitFor waits for what has no event.
func waitFor(t *testing.T, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come")
		}
	}
}

// One that does not hear is killed, with all that it has started.
func TestDeaf(t *testing.T) {
	l, _ := newLauncher(t, `trap '' TERM; sleep 1000 & echo $! > child; while :; do sleep 1; done`)
	e := launch(t, l)
	waitFor(t, func() bool { return strings.HasSuffix(read(l, "child"), "\n") })
	child, err := strconv.Atoi(strings.TrimSpace(read(l, "child")))
	if err != nil {
		t.Fatal(err)
	}
	l.find(e.ID).stop(time.Millisecond)
	waitFor(t, func() bool { return gone(child) })
	if err := ended(t, l, e); !strings.Contains(err.Error(), "signal: killed") {
		t.Error(err)
	}
}

// gone reports whether a process has ended; one that nobody waits for has, too.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// The end of the host is the end of the enclave, whatever the host dies of.
func TestHostDies(t *testing.T) {
	if folder := os.Getenv("SGXHOST_TEST"); folder != "" {
		l := &Launcher{Gramine: filepath.Join(folder, "../gramine-sgx"), Folder: folder, Log: slog.New(slog.DiscardHandler)}
		launch(t, l)
		select {}
	}
	l, _ := newLauncher(t, `trap '' TERM; echo $$ > pid; while :; do sleep 0.1; done`)
	host := exec.Command(os.Args[0], "-test.run=^TestHostDies$")
	host.Env = append(os.Environ(), "SGXHOST_TEST="+l.Folder)
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	defer host.Wait()
	waitFor(t, func() bool { return strings.HasSuffix(read(l, "pid"), "\n") })
	pid, err := strconv.Atoi(strings.TrimSpace(read(l, "pid")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Kill(-pid, syscall.SIGKILL) }) // where it lives on
	host.Process.Kill()
	waitFor(t, func() bool { return gone(pid) })
}

// The enclave gets where its host listens, and nothing else that is not Gramine's.
func TestEnvironment(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	l, _ := newLauncher(t, `env > env.part; mv env.part environment; read line || echo "no input" > input; while :; do sleep 0.01; done`)
	e := launch(t, l)
	waitFor(t, func() bool { return read(l, "input") == "no input\n" })
	env := read(l, "environment")
	if strings.Contains(env, "secret") {
		t.Errorf("it got %q", env)
	}
	var host string
	for _, line := range strings.Split(env, "\n") {
		if value, found := strings.CutPrefix(line, looplink.Variable+"="); found {
			host = value
		}
	}
	enclave, err := looplink.NewEnclave(host)
	if err != nil {
		t.Fatal(err)
	}
	// The link works both ways: what the enclave listens on, the host dials.
	at, err := enclave.Listen(900)
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		if c, err := at.Accept(); err == nil {
			accepted <- c
		}
	}()
	c, err := e.Link.Dial(t.Context(), 900)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	(<-accepted).Close()
}

// Why an enclave ended is said by one line, with one next step. The lines are those of Gramine
// 1.9.
func TestCauses(t *testing.T) {
	for _, c := range []struct{ script, why, next string }{
		{`echo "error: Cannot open /dev/sgx_enclave (Permission denied). This may happen because the current user has insufficient permissions to this device." >&2; exit 1`,
			"(exit status 1): error: Cannot open /dev/sgx_enclave", "usermod -aG sgx USER"},
		{`echo "error: Cannot open /dev/sgx_enclave (No such file or directory). This may happen" >&2; exit 1`,
			"Cannot open /dev/sgx_enclave", "switch SGX on in the firmware"},
		{`echo "error: Cannot connect to AESM service (tried sgx_aesm_socket_base and /var/run/aesmd/aesm.socket UNIX sockets)." >&2; echo "error: load_enclave() failed with error: Connection refused" >&2; exit 1`,
			"Cannot connect to AESM service", "systemctl start aesmd"},
		{`echo "error: AESM service returned error 42; this may indicate that infrastructure for the DCAP attestation requested by Gramine is missing on this machine" >&2; exit 1`,
			"AESM service returned error 42", "journalctl -u aesmd"},
		{`echo "error: Enclave add-pages IOCTL failed: Cannot allocate memory (ENOMEM)" >&2; exit 1`, "add-pages IOCTL failed", "2 GiB of EPC"},
		{`echo "error: Allocation of EPC memory failed: Cannot allocate memory" >&2; exit 1`, "Allocation of EPC", "2 GiB of EPC"},
		{`echo "error: Permission denied on mapping enclave. You may need to set sysctl vm.mmap_min_addr to zero" >&2; exit 1`, "on mapping enclave", "remount,exec /dev"},
		{`echo "error: Enclave initialization IOCTL failed: Invalid SIGSTRUCT" >&2; exit 1`, "Invalid SIGSTRUCT", "sign it again"},
		{`echo "[P1:T1:] error: Mounting \"file:policy.json\" (chroot) under /policy.json failed: Operation not permitted (EPERM)" >&2; exit 1`, "policy.json", "put them back"},
		{`echo "error: OCALL_GETTIME returned time value smaller than in the previous call" >&2; exit 1`, "OCALL_GETTIME", "clock was set back"},
		{`echo "error: Gramine with Linux-SGX backend requires support for FSGSBASE CPU instructions in kernel" >&2; exit 1`, "FSGSBASE", "not supported by Gramine 1.9"},
		{`echo "Gramine is starting. Parsing TOML manifest file, this may take some time..." >&2; echo "privyseal-sgx: the manifest has no policy"; exit 1`,
			"the enclave ended (exit status 1): the manifest has no policy", ""},
		{`printf "privyseal-sgx: it was cut"; exit 1`, "(exit status 1): it was cut", ""},
		// Gramine does not need what was signed.
		{`rm privyseal.manifest; echo "error: Cannot connect to AESM service" >&2; exit 1`, "Cannot connect to AESM service", "systemctl start aesmd"},
		{`exit 0`, "the enclave ended without a word (exit status 0)", ""},
		{`kill -9 $$`, "without a word (signal: killed)", ""},
	} {
		l, _ := newLauncher(t, c.script)
		err := ended(t, l, launch(t, l))
		why, next, _ := strings.Cut(err.Error(), "\n")
		if !strings.Contains(why, c.why) || !strings.Contains(next, c.next) || (next == "") != (c.next == "") {
			t.Errorf("%s:\n%v", c.script, err)
		}
	}
}

// One who prints much hides nothing that the other has said.
func TestManyWords(t *testing.T) {
	printed := &lines{log: slog.New(slog.DiscardHandler), now: time.Now}
	gramine, program := printed.from("gramine"), printed.from("program")
	fmt.Fprintln(gramine, "error: Cannot connect to AESM service")
	for i := range 2 * kept {
		fmt.Fprintln(program, i)
	}
	if err := explain(t.TempDir(), printed, errors.New("exit status 1")); !strings.Contains(err.Error(), "systemctl start aesmd") {
		t.Error(err)
	}
	if n := len(printed.printed("program")); n != kept {
		t.Errorf("%d lines are kept", n)
	}
}

// What is not there is named, with what makes it.
func TestMissing(t *testing.T) {
	for file, next := range map[string]string{
		ProgramFile: "`privyseal sgx manifest`", ManifestFile: "`privyseal sgx manifest`",
		SignedFile: "gramine-sgx-sign --manifest ", SignatureFile: "gramine-sgx-sign --manifest ",
	} {
		l, _ := newLauncher(t, `echo "Invalid application path specified (privyseal.manifest.sgx does not exist)." >&2; exit 2`)
		if err := os.Remove(filepath.Join(l.Folder, file)); err != nil {
			t.Fatal(err)
		}
		err := ended(t, l, launch(t, l))
		if !strings.Contains(err.Error(), file+": no such file") || !strings.Contains(err.Error(), next) {
			t.Errorf("without %s: %v", file, err)
		}
	}
	l, _ := newLauncher(t, "exit 0")
	l.Gramine = "gramine-sgx-that-is-not-there"
	if _, _, err := l.Ensure(t.Context()); err == nil || !strings.Contains(err.Error(), "\ninstall Gramine 1.9") {
		t.Error(err)
	}
	l.Folder = filepath.Join(l.Folder, "none")
	if _, _, err := l.Ensure(t.Context()); err == nil || !strings.Contains(err.Error(), "make it with `privyseal sgx manifest`") {
		t.Error(err)
	}
}

// A host that is shut down launches nothing.
func TestEnsureAfterTheEnd(t *testing.T) {
	l, _ := newLauncher(t, "touch launched")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := l.Ensure(ctx); !errors.Is(err, context.Canceled) || read(l, "launched") != "" {
		t.Error(err)
	}
	if err := l.Stop(t.Context(), "1"); err != nil {
		t.Error(err)
	}
}

// What the process prints is logged clean, and within bounds.
func TestLines(t *testing.T) {
	l, log := newLauncher(t, `printf 'plain\n\033[2Jcleared\n'; head -c 5000 /dev/zero | tr '\0' a; echo; i=0; while [ $i -lt 300 ]; do echo line $i >&2; i=$((i+1)); done; exit 3`)
	err := ended(t, l, launch(t, l))
	text := log.String()
	if !strings.Contains(text, `plain" from=program`) || !strings.Contains(text, "?[2Jcleared") || strings.Contains(text, "\x1b") {
		t.Errorf("%.300s", text)
	}
	if !strings.Contains(text, strings.Repeat("a", maxLine)+`"`) || strings.Contains(text, strings.Repeat("a", maxLine+1)) {
		t.Error("a long line is not cut")
	}
	if n := strings.Count(text, "the enclave's process: "); n < 3+maxLog || n >= 3+300 {
		t.Errorf("%d lines", n)
	}
	if !strings.Contains(text, "lines were left out\" lines=") || !strings.Contains(text, " from=gramine") {
		t.Errorf("%s", text[len(text)-300:])
	}
	if !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "line 299") && !strings.Contains(err.Error(), "aaa") {
		t.Error(err)
	}
}

// What an enclave prints after months is logged as well, whatever it has printed before; how
// much was left out is said, and one who prints much takes nothing from the other.
func TestLinesOfMonths(t *testing.T) {
	log, now := &logged{}, time.Now()
	printed := &lines{log: slog.New(slog.NewTextHandler(log, nil)), now: func() time.Time { return now }}
	gramine, program := printed.from("gramine"), printed.from("program")
	for i := range maxLog + 50 {
		fmt.Fprintln(gramine, "first", i)
	}
	fmt.Fprintln(program, "a word of the program")
	now = now.Add(30 * 24 * time.Hour)
	for i := range maxLog + 7 {
		fmt.Fprintln(gramine, "later", i)
	}
	now = now.Add(time.Minute)
	for i := range pace + 3 {
		fmt.Fprintln(gramine, "soon", i)
	}
	printed.end()
	text := log.String()
	for says, n := range map[string]int{
		"process: first": maxLog, "process: later": maxLog, "process: soon": pace, "process: a word of the program\" from=program": 1,
		"left out\" lines=50 from=gramine": 1, "left out\" lines=7 from=gramine": 1, "left out\" lines=3 from=gramine": 1, "left out": 3,
	} {
		if got := strings.Count(text, says); got != n {
			t.Errorf("%d times %q, want %d", got, says, n)
		}
	}
}
