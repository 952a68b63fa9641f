package nitrohost

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"privyseal/internal/nitrohost/nitrohosttest"
)

// cliAnswer is what nitro-cli prints, and its exit status.
type cliAnswer = nitrohosttest.Answer

func TestMain(m *testing.M) { nitrohosttest.Main(m) }

const ourName = "privyseal-main"

var ourImage = Measurements{PCR0: strings.Repeat("a0", 48), PCR1: strings.Repeat("a1", 48), PCR2: strings.Repeat("a2", 48)}

// launcher returns a launcher whose nitro-cli answers as the test says, and what nitro-cli
// was asked to do, descriptions aside.
func launcher(t *testing.T, answer func(args []string) nitrohosttest.Answer) (l *Launcher, calls func() []string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "cli") // short enough for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var mu sync.Mutex
	var list []string
	path := nitrohosttest.Serve(t, dir, func(args []string) nitrohosttest.Answer {
		mu.Lock()
		defer mu.Unlock()
		if args[0] != "describe-enclaves" {
			list = append(list, strings.Join(args, " "))
		}
		return answer(args)
	})
	return &Launcher{Path: path, Name: ourName, EIF: "/images/our.eif", MemoryMiB: 64, CPUs: 2, Want: ourImage}, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(list)
	}
}

func TestLaunchErrors(t *testing.T) {
	e19 := "[ E19 ] File operation failure. Such error appears when …\nFile: '%s', failing operation: 'Open'.\n\nFor more details, please visit …\n"
	for _, c := range []struct {
		stderr, code, cure string
	}{
		{fmt.Sprintf(e19, "/dev/nitro_enclaves"), "E19", "usermod -aG ne"},
		{fmt.Sprintf(e19, "/sys/module/nitro_enclaves/parameters/ne_cpus"), "E19", "enable --now nitro-enclaves-allocator"},
		{fmt.Sprintf(e19, "/images/our.eif"), "E19", "/images/our.eif"},
		{"[ E22 ] Insufficient CPUs available in the pool.", "E22", "cpu_count to 2 or more"},
		{"[ E26 ] Insufficient memory requested.", "E26", "four times the image"},
		{"Start allocating memory...\n[ E27 ] Insufficient memory available.\n\nFailed connections: 1\n[ E39 ] Enclave process connection failure.", "E27", "memory_mib to 64 or more"},
		{"[ E29 ] Ioctl failure.", "E29", "CID 20 may belong"},
		{"[ E36 ] Enclave boot failure.", "E36", "nitro measure"},
		{"[ E39 ] Enclave process connection failure.", "E39", "ps -C nitro-cli"},
		{"something else\n", "", "/var/log/nitro_enclaves/nitro_enclaves.log"},
		{"", "", " run-enclave` as this user, and look at /var/log/nitro_enclaves/nitro_enclaves.log"},
	} {
		l, _ := launcher(t, func(args []string) nitrohosttest.Answer {
			if args[0] == "run-enclave" {
				return nitrohosttest.Answer{Stderr: c.stderr, Code: 1}
			}
			return nitrohosttest.Answer{Stdout: "[]"}
		})
		l.CID, l.pauses = 20, []time.Duration{}
		_, _, err := l.Ensure(t.Context())
		e, ok := errors.AsType[*LaunchError](err)
		if !ok || e.Code != c.code || !strings.Contains(e.Cure, c.cure) || (e.Detail == "") != (c.stderr == "") {
			t.Errorf("%.20q: %v", c.stderr, err)
		}
	}
}

func TestLauncherMissing(t *testing.T) {
	l := &Launcher{Name: ourName}
	for _, path := range []string{"no-such-nitro-cli", "/no/such/nitro-cli"} {
		l.Path = path
		if _, _, err := l.Ensure(t.Context()); err == nil || !strings.Contains(err.Error(), "aws-nitro-enclaves-cli") {
			t.Errorf("%s: %v", path, err)
		}
	}
	l.Path = t.TempDir()
	if _, _, err := l.Ensure(t.Context()); err == nil {
		t.Error("a folder was run")
	}
}

// Whatever nitro-cli prints: an error, and nothing is launched on a guess.
func TestNitroCLIPrintsSomethingElse(t *testing.T) {
	entry := func(keys string) string {
		return `[{"EnclaveName": "privyseal-main", "EnclaveID": "i-0-enc1", "EnclaveCID": 17, "State": "RUNNING", "Flags": "NONE"` + keys + `}]`
	}
	for name, stdout := range map[string]string{
		"nothing":         "",
		"no array":        `{"EnclaveID": "x"}`,
		"two values":      "[] []",
		"cut off":         entry("")[:50],
		"without id":      `[{"State": "RUNNING"}]`,
		"without state":   `[{"EnclaveID": "x"}]`,
		"a huge CID":      `[{"EnclaveID": "x", "State": "RUNNING", "EnclaveCID": 4294967296}]`,
		"a short PCR":     entry(`, "Measurements": {"PCR0": "00"}`),
		"a PCR of others": entry(`, "Measurements": {"PCR2": "` + strings.Repeat("zz", 48) + `"}`),
		"too much":        `[` + strings.Repeat(" ", maxOutput) + `]`,
		"too many":        `[` + strings.Repeat(`{"EnclaveID": "x", "State": "RUNNING"},`, maxEnclaves) + `{"EnclaveID": "x", "State": "RUNNING"}]`,
	} {
		t.Run(name, func(t *testing.T) {
			l, calls := launcher(t, func([]string) nitrohosttest.Answer { return nitrohosttest.Answer{Stdout: stdout} })
			if _, _, err := l.Ensure(t.Context()); err == nil {
				t.Error("accepted")
			}
			if calls := calls(); calls != nil {
				t.Errorf("nitro-cli was called with %q", calls)
			}
		})
	}
}

func FuzzDescription(f *testing.F) {
	f.Add([]byte(`[{"EnclaveName": "privyseal-main", "EnclaveID": "i-0-enc1", "ProcessID": 7, "EnclaveCID": 17, "State": "RUNNING", "Flags": "NONE", "Measurements": {"HashAlgorithm": "Sha384 { ... }", "PCR0": "` + ourImage.PCR0 + `"}, "Metadata": {}}]`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parseDescription(data)
		if err != nil {
			return
		}
		for _, e := range list {
			if e.ID == "" || e.State == "" || len(e.Measured.PCR0) != 0 && len(e.Measured.PCR0) != 96 {
				t.Fatalf("accepted %+v", e)
			}
		}
	})
}

func TestDebugModeIsForRunOnly(t *testing.T) {
	debug := fmt.Sprintf(`[{"EnclaveName": %q, "EnclaveID": "i-0-enc1", "EnclaveCID": 17, "State": "RUNNING", "Flags": "DEBUG_MODE"}]`, ourName)
	ended := false
	l, _ := launcher(t, func(args []string) nitrohosttest.Answer {
		switch {
		case args[0] == "describe-enclaves":
			return nitrohosttest.Answer{Stdout: debug}
		case args[0] == "run-enclave" && slices.Contains(args, "--debug-mode"):
			return nitrohosttest.Answer{Stdout: `{"EnclaveID": "i-0-enc1"}`}
		case args[0] == "terminate-enclave" && args[2] == "i-0-enc1" && !ended:
			ended = true
			return nitrohosttest.Answer{Stdout: `{"EnclaveID": "i-0-enc1", "Terminated": true}`}
		}
		return nitrohosttest.Answer{Stderr: "[ E11 ] no such enclave\n", Code: 11}
	})
	e, err := l.Launch(t.Context(), true)
	if err != nil || !e.Debug {
		t.Fatalf("%+v, %v", e, err)
	}
	if _, _, err := l.Ensure(t.Context()); !errors.Is(err, errTaken) {
		t.Errorf("adopted in debug mode: %v", err)
	}
	if err := l.Stop(t.Context(), e.ID); err != nil {
		t.Error(err)
	}
	if err := l.Stop(t.Context(), e.ID); err == nil {
		t.Error("stopped twice")
	}
}
