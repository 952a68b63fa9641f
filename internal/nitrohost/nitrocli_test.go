package nitrohost

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"privyseal/internal/nitrohost/nitrohosttest"
)

// A nitro-cli that asks the processes of enclaves and is killed before their answer
// takes them with it. So whoever stops waiting leaves it running, and the next one
// comes after it.
func TestNitroCLIIsNeverKilled(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"began", "go"} {
		if err := syscall.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	script := "#!/bin/sh\ncd " + dir + "\necho $$ > began\nread word < go\necho \"[]\"\necho $word >> ended\n"
	path := filepath.Join(dir, "nitro-cli")
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	// Kept open, so that neither end of a pipe waits for the other.
	began, err := os.OpenFile(filepath.Join(dir, "began"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer began.Close()
	goOn, err := os.OpenFile(filepath.Join(dir, "go"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer goOn.Close()
	l := &Launcher{Path: path}
	line := make([]byte, 16)

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := l.Describe(ctx)
		done <- err
	}()
	if _, err := began.Read(line); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "is left to run") {
		t.Errorf("who stopped waiting: %v", err)
	}
	// Another question does not start a second one beside it.
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := l.Describe(short); len(l.turn) > 0 || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "an earlier nitro-cli still runs") {
		t.Fatalf("a second one, which would take the words for the first: %v", err)
	}
	go func() {
		_, err := l.Describe(t.Context())
		done <- err
	}()
	goOn.WriteString("first\n")
	if _, err := began.Read(line); err != nil {
		t.Fatal(err)
	}
	goOn.WriteString("second\n")
	if err := <-done; err != nil {
		t.Errorf("the one after it: %v", err)
	}
	ended, err := os.ReadFile(filepath.Join(dir, "ended"))
	if string(ended) != "first\nsecond\n" {
		t.Errorf("ended: %q, %v", ended, err)
	}
}

// nitro-cli ends with E39 if any enclave's process on the instance is silent, after it
// has listed the others. Ours in that list is found; ours missing there is not known to
// have ended, and no second one is launched.
func TestOneSilentEnclave(t *testing.T) {
	list := func(names ...string) string {
		var all []map[string]any
		for i, name := range names {
			all = append(all, map[string]any{
				"EnclaveName": name, "EnclaveID": "i-0-" + name, "EnclaveCID": 20 + i, "State": "RUNNING", "Flags": "NONE",
				"Measurements": map[string]string{"PCR0": ourImage.PCR0, "PCR1": ourImage.PCR1, "PCR2": ourImage.PCR2},
			})
		}
		text, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	const e39 = "[ E39 ] Enclave process connection failure. Such error appears when …\n"
	for name, c := range map[string]struct {
		stdout, stderr string
		found          bool
	}{
		"another is silent":           {list("other", ourName), e39, true},
		"ours is silent":              {list("other"), e39, false},
		"ours alone, and silent":      {"[]", e39, false},
		"nothing is listed":           {"", e39, false},
		"a list that is cut":          {list(ourName)[:30], e39, false},
		"another error beside a list": {list(ourName), "[ E05 ] …\n", false},
	} {
		l, calls := launcher(t, func([]string) nitrohosttest.Answer {
			return nitrohosttest.Answer{Stdout: c.stdout, Stderr: c.stderr, Code: 39}
		})
		e, adopted, err := l.Ensure(t.Context())
		if c.found && (err != nil || !adopted || e.ID != "i-0-"+ourName) || !c.found && err == nil {
			t.Errorf("%s: %+v, adopted %v, %v", name, e, adopted, err)
		}
		alive, err := l.Alive(t.Context(), "i-0-"+ourName)
		if alive != c.found || (err == nil) != c.found {
			t.Errorf("%s: alive %v, %v", name, alive, err)
		}
		if calls := calls(); calls != nil {
			t.Errorf("%s: nitro-cli was called with %q", name, calls)
		}
	}
}

// The folder of nitro-cli's sockets is ours alone, or not one that we chose.
func TestSocketsFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := CheckSockets(dir); err != nil {
		t.Error(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Join(dir, "missing"), "/"} {
		if CheckSockets(path) == nil {
			t.Errorf("%s is taken", path)
		}
	}
	for _, mode := range []os.FileMode{0o701, 0o710, 0o750, 0o777} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if CheckSockets(dir) == nil {
			t.Errorf("mode %o is taken", mode)
		}
	}
	// What is set outside is handed on.
	t.Setenv(socketsVariable, dir)
	if got := Sockets(); got != dir || !slices.Contains(environment(), socketsVariable+"="+dir) {
		t.Errorf("nitro-cli is given %q", got)
	}
}
