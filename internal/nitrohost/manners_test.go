package nitrohost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"privyseal/test/nitro/manners"
)

// in returns what nitro-cli answers when an enclave's process fails.
func in(f manners.Failure) cliAnswer {
	stderr, status := f.Process()
	return cliAnswer{Stderr: stderr, Code: status}
}

// launchOnly returns a launcher whose launches are answered one after the other, the last
// again and again.
func launchOnly(t *testing.T, answers ...cliAnswer) (*Launcher, func() []string) {
	t.Helper()
	n := 0
	l, calls := launcher(t, func(args []string) cliAnswer {
		if args[0] != "run-enclave" {
			return cliAnswer{Stdout: fmt.Sprintf(`[{"EnclaveName": %q, "EnclaveID": "i-0-enc1", "EnclaveCID": 17, "State": "RUNNING", "Flags": "DEBUG_MODE"}]`, ourName)}
		}
		n++
		return answers[min(n, len(answers))-1]
	})
	l.pauses = []time.Duration{time.Millisecond, time.Millisecond}
	return l, calls
}

// Each way in which a launch fails, as nitro-cli says it: its number, the step, what to do
// next, and whether it is tried again.
func TestFailuresOfALaunch(t *testing.T) {
	t.Setenv("BACKTRACE", "1")
	for name, c := range map[string]struct {
		failure            manners.Failure
		code, detail, cure string
		again              bool
	}{
		"the device":               {manners.Unopened("/dev/nitro_enclaves"), "E19", "Permission denied", "enclaves enabled, and add this user to the group ne", false},
		"the pool":                 {manners.Unopened("/sys/module/nitro_enclaves/parameters/ne_cpus"), "E19", "ne_cpus", "enable --now nitro-enclaves-allocator", false},
		"the image":                {manners.Unopened("/images/our.eif"), "E19", "our.eif", "able to read /images/our.eif", false},
		"nitro-cli's log":          {manners.Log("/var/log/nitro_enclaves/nitro_enclaves.log"), "E19", "log file", "able to write to /var/log/nitro_enclaves: add it", false},
		"a small pool":             {manners.SmallPool(2, 0), "E22", "`cpu-count` is 2", "cpu_count to 2 or more", false},
		"memory for the image":     {manners.SmallForImage(64, 128), "E26", "128 MB", "four times the image", false},
		"no memory":                {manners.NoMemory(64), "E27", "`memory` is 64 MB", "memory_mib to 64 or more", false},
		"no CPUs":                  {manners.Ioctl(manners.CreateVM, manners.NoCPUs), "E29", "no CPUs are available", "or raise cpu_count", true},
		"no slot yet":              {manners.Ioctl(manners.CreateVM, manners.Errno(16)), "E29", "Create VM ioctl failed: An error has occurred: 16", "for some seconds after another enclave has ended", true},
		"a CPU":                    {manners.Ioctl(manners.AddCPU, manners.Errno(22)), "E29", "Add vCPU", "or raise cpu_count", true},
		"memory of another":        {manners.Ioctl(manners.SetMemory, manners.Errno(22)), "E29", "Set user memory", "for some seconds", true},
		"the CID":                  {manners.Ioctl(manners.Start, manners.Errno(22)), "E29", "Start enclave", "CID 20 may belong", true},
		"half a core":              {manners.Ioctl(manners.Start, manners.HalfCores), "E29", "full CPU cores", "an even number", false},
		"too small":                {manners.Ioctl(manners.Start, manners.SmallEnclave), "E29", "lower than the minimum", "64 is the least", false},
		"another node":             {manners.Ioctl(manners.SetMemory, manners.OtherNode), "E29", "NUMA", "of one NUMA node", false},
		"a launch meanwhile":       {manners.PortTaken, "E36", "vsock bind error", "one can be at a time", true},
		"no sign of life":          {manners.NoHeartbeat, "E36", "VsockTimeoutError", "nitro run --debug` shows the last lines", false},
		"its certificate":          {manners.Certificate, "E59", "Invalid signing certificate", "was signed with is not valid now", false},
		"a process that is no one": {manners.Silent, "E39", "Failed to connect to 1", "ps -C nitro-cli", false},
		"the sockets":              {manners.NoSocketsDir, "E07", "sockets directory", "group ne", false},
	} {
		l, calls := launchOnly(t, in(c.failure))
		l.CID = 20
		_, err := l.Launch(t.Context(), false)
		e, ok := errors.AsType[*LaunchError](err)
		if !ok {
			t.Fatalf("%s: %v", name, err)
		}
		tries := 1
		if c.again {
			tries = 3
		}
		if e.Code != c.code || !strings.Contains(e.Detail, c.detail) || !strings.Contains(e.Cure, c.cure) || len(calls()) != tries || e.Tries != tries {
			t.Errorf("%s, after %d tries: %v", name, len(calls()), err)
		}
		if strings.Contains(err.Error(), "failed 3 times") != c.again || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Setenv(socketsVariable, "/run/ours")
	l, _ := launchOnly(t, in(manners.NoSocketsDir))
	if _, err := l.Launch(t.Context(), false); !strings.Contains(err.Error(), "install -d -m 0700 -o USER -g USER /run/ours") {
		t.Errorf("a folder of ours: %v", err)
	}
}

// What passes by itself is waited for, and whoever waits may stop.
func TestLaunchIsTriedAgain(t *testing.T) {
	t.Setenv("BACKTRACE", "1")
	taken := in(manners.Ioctl(manners.CreateVM, manners.NoCPUs))
	good := cliAnswer{Stdout: `{"EnclaveID": "i-0-enc1"}`}
	l, calls := launchOnly(t, taken, in(manners.PortTaken), good)
	if e, err := l.Launch(t.Context(), true); err != nil || e.CID != 17 || len(calls()) != 3 {
		t.Errorf("at the third try: %+v, %v, %q", e, err, calls())
	}
	l, calls = launchOnly(t, taken, good)
	l.pauses = []time.Duration{time.Hour}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Launch(ctx, true); err == nil || len(calls()) != 1 {
		t.Errorf("who does not wait: %v, %q", err, calls())
	}
}

// nitro-cli is asked for the steps, whatever our own environment says.
func TestBacktraceIsAskedFor(t *testing.T) {
	t.Setenv("BACKTRACE", "0")
	if env := environment(); !slices.Contains(env, "BACKTRACE=1") || slices.Contains(env, "BACKTRACE=0") {
		t.Error(env)
	}
}

// An enclave that is gone has ended. One that is listed and has no socket, or that may be
// there without an answer, has not.
func TestStopOfOneThatIsGone(t *testing.T) {
	gone, status := manners.NoSocket.CLI()
	silent, _ := manners.Silent.CLI()
	for name, c := range map[string]struct {
		describe cliAnswer
		good     bool
	}{
		"in no list": {cliAnswer{Stdout: "[]"}, true},
		"listed":     {cliAnswer{Stdout: `[{"EnclaveID": "i-0-enc1", "State": "EMPTY", "Flags": "NONE"}]`}, false},
		"one silent": {cliAnswer{Stdout: "[]", Stderr: silent, Code: 39}, false},
	} {
		l, _ := launcher(t, func(args []string) cliAnswer {
			if args[0] == "describe-enclaves" {
				return c.describe
			}
			return cliAnswer{Stderr: gone, Code: status}
		})
		if err := l.Stop(t.Context(), "i-0-enc1"); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A console ends with an error of nitro-cli's when its enclave does.
func TestConsoleEnds(t *testing.T) {
	for _, c := range []struct {
		failure manners.Failure
		good    bool
	}{{manners.ConsoleEnded, true}, {manners.NotDebug, false}, {manners.NoSocket, false}} {
		stderr, status := c.failure.CLI()
		l, _ := launcher(t, func([]string) cliAnswer {
			return cliAnswer{Stdout: "booted\n", Stderr: stderr, Code: status}
		})
		var out strings.Builder
		if err := l.Console(t.Context(), "i-0-enc1", &out); (err == nil) != c.good || out.String() != "booted\n" {
			t.Errorf("%v: %q, %v", c.failure, out.String(), err)
		}
	}
}

// The console is read while nitro-cli waits for the enclave, and its end is in the error:
// what is printable of its last lines.
func TestConsoleOfALaunchThatFails(t *testing.T) {
	dir := t.TempDir()
	stderr, status := manners.NoHeartbeat.Process()
	if err := errors.Join(syscall.Mkfifo(filepath.Join(dir, "go"), 0o600), os.WriteFile(filepath.Join(dir, "failed"), []byte(stderr), 0o600)); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\ncd %s\nprintf %%s '%s' >&2\nread word < go\ncat failed >&2\nexit %d\n", dir, manners.Allocating+manners.Started(17, 64, []int{1, 3}), status)
	l := &Launcher{Path: filepath.Join(dir, "nitro-cli"), Name: ourName, EIF: "our.eif", MemoryMiB: 64, CPUs: 2}
	if err := os.WriteFile(l.Path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	read, write := io.Pipe()
	dials := 0
	l.DialConsole = func(_ context.Context, cid uint32) (io.ReadCloser, error) {
		if dials++; dials == 1 || cid != 17 {
			return nil, fmt.Errorf("no console of %d yet", cid)
		}
		return read, nil
	}
	go func() {
		for i := range 1000 {
			fmt.Fprintf(write, "line %d of many that nobody has to see\r\n", i)
		}
		io.WriteString(write, "\x1b[1;31mpanic\x1b[0m:\tno \x00\x07init\xff\n"+strings.Repeat("x", 10*maxLineSize)+"\n\n")
		goOn, err := os.OpenFile(filepath.Join(dir, "go"), os.O_WRONLY, 0)
		if err == nil {
			goOn.WriteString("go\n")
			goOn.Close()
		}
		io.WriteString(write, "the very last\n") // as nitro-cli ends
		write.Close()
	}()
	_, err := l.Launch(t.Context(), true)
	e, ok := errors.AsType[*LaunchError](err)
	if !ok || e.Code != "E36" || len(e.Console) != maxLines {
		t.Fatalf("%v", err)
	}
	if got := e.Console[maxLines-3:]; got[0] != "panic: no init" || got[1] != strings.Repeat("x", maxLineSize)+"…" || got[2] != "the very last" {
		t.Errorf("the console ends with %q", got)
	}
	if !strings.Contains(err.Error(), "\nThe last lines of its console:\n| line 9") || len(err.Error()) > maxConsole {
		t.Errorf("%v", err)
	}
	// An enclave that is not in debug mode has no console that anybody reads.
	dialled := make(chan struct{}, 1000)
	l.DialConsole = func(context.Context, uint32) (io.ReadCloser, error) {
		t.Error("a console was dialled")
		dialled <- struct{}{}
		return nil, errors.New("none")
	}
	go func() {
		if goOn, err := os.OpenFile(filepath.Join(dir, "go"), os.O_WRONLY, 0); err == nil {
			select {
			case <-dialled:
			case <-time.After(100 * time.Millisecond): // time for what must not happen
			}
			goOn.WriteString("go\n")
			goOn.Close()
		}
	}()
	if _, err := l.Launch(t.Context(), false); err == nil || strings.Contains(err.Error(), "console:") {
		t.Errorf("not in debug mode: %v", err)
	}
}
