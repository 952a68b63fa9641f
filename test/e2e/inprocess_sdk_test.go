package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"privyseal/test/e2e/rig"
	"privyseal/test/e2e/story"
)

const (
	sdk       = "github.com/cosmos/cosmos-sdk"
	sdkModule = "../inprocess/sdk"
	sdkPage   = "../../doc/in-process.md"
)

// A chain of the Cosmos SDK makes blocks, with the lines of doc/in-process.md in the SDK's
// server/start.go, and with its handler and no fork. With the page's lines each version that
// it names compiles. It builds for minutes, and is a part of `make test-peers`.
func TestInProcessSDK(t *testing.T) {
	if os.Getenv("PRIVYSEAL_EVERY_VERSION") != "1" {
		t.Skip("it builds for minutes; type: make test-peers")
	}
	t.Parallel()
	page, err := os.ReadFile(sdkPage)
	check(t, err)
	patch := blockOf(t, string(page), "diff")
	for _, m := range regexp.MustCompile(`(?m)^\| (v0\.[0-9.]+) \|`).FindAllStringSubmatch(string(page), -1) {
		t.Run(m[1], func(t *testing.T) { compilesFork(t, m[1], string(page)) })
	}
	code, err := os.ReadFile(filepath.Join(sdkModule, "handler.go"))
	check(t, err)
	if !strings.HasSuffix(string(code), blockOf(t, string(page), "go")) {
		t.Errorf("the page's handler is not that of %s", sdkModule)
	}
	for name, modules := range map[string]string{"v0.50": "v050.mod", "v0.53": "go.mod"} {
		t.Run("chain of "+name+", handler", func(t *testing.T) { sdkChain(t, buildInside(t, "sdk", modules), "start-inside") })
		t.Run("chain of "+name+", line", func(t *testing.T) { sdkChain(t, buildPatched(t, modules, patch), "start") })
	}
}

// blockOf returns the first block of code of a kind on a page.
func blockOf(t *testing.T, page, kind string) string {
	t.Helper()
	_, rest, found := strings.Cut(page, "```"+kind+"\n")
	block, _, ends := strings.Cut(rest, "```")
	if !found || !ends {
		t.Fatalf("the page has no block of %s", kind)
	}
	return block
}

// sdkFolder fetches a version of the SDK, and returns where it is.
func sdkFolder(t *testing.T, version string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", sdk+"@"+version)
	cmd.Dir = sdkModule
	out, err := cmd.Output()
	check(t, err)
	var m struct{ Dir string }
	check(t, json.Unmarshal(out, &m))
	return m.Dir
}

// patched returns the SDK's server/start.go with a patch, whose hunks begin with @@ and
// have one line each that is there before, and is there once. Indentation does not count.
func patched(t *testing.T, folder, patch string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, "server", "start.go"))
	check(t, err)
	lines := strings.Split(string(text), "\n")
	for _, hunk := range strings.Split(patch, "@@\n")[1:] {
		var before string
		var after []string
		for line := range strings.Lines(hunk) {
			line = strings.TrimSuffix(line, "\n")
			if line[0] != '+' {
				before = strings.TrimSpace(line[1:])
			}
			if line[0] != '-' {
				after = append(after, line[1:])
			}
		}
		at := -1
		for i, line := range lines {
			switch {
			case strings.TrimSpace(line) != before:
			case at >= 0:
				t.Fatalf("%q is there twice in %s", before, folder)
			default:
				at = i
			}
		}
		if at < 0 {
			t.Fatalf("no %q in %s", before, folder)
		}
		lines[at] = strings.Join(after, "\n")
	}
	return strings.Join(lines, "\n")
}

// fork makes a fork of the SDK below dir, as the page has it, and returns where it is.
func fork(t *testing.T, dir, folder, patch string) string {
	t.Helper()
	to := filepath.Join(dir, "cosmos-sdk")
	_, err := rig.Output(t.Context(), "cp", "-r", "--no-preserve=mode", folder, to)
	check(t, err)
	check(t, os.WriteFile(filepath.Join(to, "server", "start.go"), []byte(patched(t, folder, patch)), 0o600))
	goDoes(t, to, "mod", "edit", "-require=privyseal@v0.0.0")
	return to
}

// goDoes runs the go command in a folder.
func goDoes(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// root is the folder of our module.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	check(t, err)
	return dir
}

// What the page says of single versions.
var (
	oldLanguage = regexp.MustCompile("(v0\\.\\d+) has `go [0-9.]+` in its `go.mod`(?s:[^`]*)`go (mod edit -go=[0-9.]+)` in the fork")
	oldSonic    = regexp.MustCompile("With it (v0\\.\\d+) needs a newer\n`[^`]*`: type `go (get [^`]+)`")
)

// compilesFork compiles the server of a version of the SDK with the page's lines in it, as a
// dependency, and with what the page says of this version.
func compilesFork(t *testing.T, version, page string) {
	t.Helper()
	language, sonic := oldLanguage.FindStringSubmatch(page), oldSonic.FindStringSubmatch(page)
	if language == nil || sonic == nil {
		t.Fatalf("the page does not say what single versions need: %q, %q", language, sonic)
	}
	dir := newDir(t)
	forked := fork(t, dir, sdkFolder(t, version), blockOf(t, page, "diff"))
	check(t, os.WriteFile(filepath.Join(dir, "main.go"), fmt.Appendf(nil, "package main\n\nimport _ %q\n\nfunc main() {}\n", sdk+"/server"), 0o600))
	check(t, os.WriteFile(filepath.Join(dir, "go.mod"), fmt.Appendf(nil, "module fork\n\ngo 1.26.0\n\nrequire (\n\t%[1]s %[2]s\n\tprivyseal v0.0.0\n)\n\nreplace (\n\t%[1]s => %[3]s\n\tprivyseal => %[4]s\n)\n",
		sdk, version, forked, root(t)), 0o600))
	if strings.HasPrefix(version, language[1]+".") {
		goDoes(t, forked, strings.Fields(language[2])...)
	}
	if strings.HasPrefix(version, sonic[1]+".") {
		goDoes(t, dir, strings.Fields(sonic[2])...)
	}
	goDoes(t, dir, "build", "-mod=mod", "-buildvcs=false", "-o", os.DevNull, ".")
}

// buildPatched builds the chain of a file of modules with a fork of the SDK, as the page has it.
func buildPatched(t *testing.T, modules, patch string) string {
	t.Helper()
	dir := newDir(t)
	text, err := os.ReadFile(filepath.Join(sdkModule, modules))
	check(t, err)
	version := regexp.MustCompile(`(?m)^\t` + sdk + ` (v\S+)$`).FindStringSubmatch(string(text))
	if version == nil {
		t.Fatalf("%s has no version of the SDK", modules)
	}
	sums, err := os.ReadFile(filepath.Join(sdkModule, strings.TrimSuffix(modules, ".mod")+".sum"))
	check(t, err)
	ours := filepath.Join(dir, "fork.mod")
	check(t, os.WriteFile(ours, text, 0o600))
	check(t, os.WriteFile(filepath.Join(dir, "fork.sum"), sums, 0o600))
	forked := fork(t, dir, sdkFolder(t, version[1]), patch)
	goDoes(t, dir, "mod", "edit", "-replace="+sdk+"="+forked, "-replace=privyseal="+root(t), ours)
	return buildInside(t, "sdk", ours)
}

// sdkChain makes a chain of one validator whose signer is inside, and waits for blocks.
func sdkChain(t *testing.T, sdkProgram, start string) {
	t.Helper()
	ctx := story.Within(t, time.Minute)
	home := filepath.Join(newDir(t), "node")
	signer, err := rig.InitSigner(ctx, program, filepath.Join(home, "privyseal"), "sdk-1", []string{"unix://" + filepath.Join(home, "privval.sock")})
	check(t, err)
	key, _ := showKey(ctx, t, signer)
	public, err := signer.Key(ctx, "base64")
	check(t, err)
	_, err = rig.Output(ctx, sdkProgram, "init", "sdk-1", public, "--home", home)
	check(t, err)
	n := &rig.Node{Home: home, RPC: freeAddr(t)}
	n.Process, err = rig.StartProcess("the SDK's node", filepath.Join(home, "node.log"), sdkProgram, start, "--home", home,
		"--rpc.laddr", "tcp://"+n.RPC, "--p2p.laddr", "tcp://"+freeAddr(t), "--rpc.pprof_laddr", "", "--grpc.enable=false", "--minimum-gas-prices", "0stake")
	check(t, err)
	t.Cleanup(func() {
		if err := n.Stop(time.Minute); err != nil {
			t.Errorf("the node ended: %v", err)
		}
		story.Tail(t, n.Process)
	})
	check(t, n.WaitHeight(ctx, 4))
	verifyCommit(ctx, t, n, key, 3)
	metrics, err := signer.Metrics(ctx)
	check(t, err)
	if name := fmt.Sprintf("privyseal_signed_total{chain_id=%q,kind=%q}", "sdk-1", "precommit"); metrics[name] < 3 {
		t.Errorf("%s is %v", name, metrics[name])
	}
}
