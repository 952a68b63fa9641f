package main

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// operatorSide are the packages that once were one, with the commands and all providers
// in it. Main is only measured because Go wants it: it is every command's, and what it has
// run when the program exits depends on the scheduler.
const operatorSide = "privyseal/cmd/privyseal,privyseal/internal/cli,privyseal/internal/command,privyseal/internal/daemon," +
	"privyseal/internal/home,privyseal/internal/ops/...,privyseal/internal/provider"

// enclaveRooms are those that all kinds of enclaves share. They came out of internal/ops/nitro
// when there was a second kind, and are counted apart, so that neither bound hides the other.
const enclaveRooms = "privyseal/internal/enclaveask,privyseal/internal/enclavechain,privyseal/internal/enclavecommand,privyseal/internal/enclavekey"

// mostShared is how many files of them it may cross.
const mostShared = 5

// mostCrossed is how many files of the operator's side `init --provider nitro` may run a
// statement of, beside those statements that `version` runs too. Whoever has to follow a
// key into an enclave reads these.
const mostCrossed = 9

// TestInitCrossesFewFiles counts them, by the coverage of the first init of the script
// nitro-init. `go test -v -run TestInitCrossesFewFiles ./cmd/privyseal` lists them.
func TestInitCrossesFewFiles(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the program once more: not with -short")
	}
	dir := diskDir(t)
	for _, folder := range []string{"bin", "before", "version", "init"} {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-cover", "-coverpkg="+operatorSide+","+enclaveRooms, "-o", filepath.Join(dir, "bin", "privyseal"), ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build the program: %v\n%s", err, out)
	}
	script := filepath.Join(dir, "crossing.txtar")
	if err := os.WriteFile(script, []byte(firstInit(t, dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	// In a group, as testscript runs scripts in parallel with what comes after them.
	t.Run("group", func(t *testing.T) {
		testscript.Run(t, testscript.Params{
			Files:               []string{script},
			WorkdirRoot:         dir,
			RequireExplicitExec: true,
			Setup: func(env *testscript.Env) error {
				env.Setenv("PATH", filepath.Join(dir, "bin")+":"+env.Getenv("PATH"))
				env.Setenv("PRIVYSEAL_RUN", filepath.Join(env.WorkDir, "run"))
				return errors.Join(writeNitroParts(env.WorkDir), nitroSetup(env.Setenv, env.Defer))
			},
		})
	})
	counted, all := statements(t, filepath.Join(dir, "init")), 0
	for block := range statements(t, filepath.Join(dir, "version")) {
		delete(counted, block)
	}
	files, shared := map[string]int{}, 0
	for block, n := range counted {
		file, _, _ := strings.Cut(strings.TrimPrefix(block, "privyseal/"), ":")
		if !strings.HasPrefix(file, "cmd/") {
			files[file] += n
			all += n
		}
	}
	for _, file := range slices.Sorted(maps.Keys(files)) {
		t.Logf("%5d statements of %s", files[file], file)
		if strings.HasPrefix(file, "internal/enclave") {
			shared++
		}
	}
	own := len(files) - shared
	t.Logf("%5d statements of %d files, and %d that all kinds of enclaves share", all, own, shared)
	if own > mostCrossed || own == 0 {
		t.Errorf("init --provider nitro crosses %d files, and no more than %d are allowed", own, mostCrossed)
	}
	if shared > mostShared || shared == 0 {
		t.Errorf("init --provider nitro crosses %d files of the rooms that enclaves share, and no more than %d are allowed", shared, mostShared)
	}
}

// firstInit returns the script nitro-init up to its first init, with the coverage of that,
// and of `version`, in folders of their own.
func firstInit(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/script/nitro-init.txtar")
	if err != nil {
		t.Fatal(err)
	}
	to := func(folder string) string { return "env GOCOVERDIR=" + filepath.Join(dir, folder) + "\n" }
	script := to("before")
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "exec privyseal init ") {
			return script + to("version") + "exec privyseal version --home home\n" + to("init") + line
		}
		script += line
	}
	t.Fatal("the script has no init")
	return ""
}

// statements returns the blocks of code that have run, as coverage names them, with how
// many statements each has.
func statements(t *testing.T, covered string) map[string]int {
	t.Helper()
	profile := covered + ".txt"
	if out, err := exec.Command("go", "tool", "covdata", "textfmt", "-i="+covered, "-o="+profile).CombinedOutput(); err != nil {
		t.Fatalf("cannot read the coverage: %v\n%s", err, out)
	}
	text, err := os.ReadFile(profile)
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[string]int{}
	for line := range strings.Lines(string(text)) {
		// privyseal/cmd/privyseal/main.go:24.13,26.2 3 1
		words := strings.Fields(line)
		if len(words) != 3 || words[2] == "0" {
			continue
		}
		n, err := strconv.Atoi(words[1])
		if err != nil {
			t.Fatalf("a line of the coverage: %q", line)
		}
		blocks[words[0]] = n
	}
	if len(blocks) == 0 {
		t.Fatal("nothing has run")
	}
	return blocks
}
