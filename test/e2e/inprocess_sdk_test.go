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
)

const (
	sdk       = "github.com/cosmos/cosmos-sdk"
	sdkModule = "../inprocess/sdk"
	sdkPage   = "../../doc/in-process.md"
)

// A chain of the Cosmos SDK makes blocks, with the lines of doc/in-process.md in the SDK's
// server/start.go, and with its handler and no fork. The page's lines go into each version
// that it names, of which one is compiled. It builds for minutes, and is a part of `make test-peers`.
func TestInProcessSDK(t *testing.T) {
	if os.Getenv("PRIVYSEAL_EVERY_VERSION") != "1" {
		t.Skip("it is for make test-peers")
	}
	t.Parallel()
	page, err := os.ReadFile(sdkPage)
	check(t, err)
	patch := blockOf(t, string(page), "diff")
	for _, m := range regexp.MustCompile(`(?m)^\| (v0\.[0-9.]+) \|`).FindAllStringSubmatch(string(page), -1) {
		t.Run(m[1], func(t *testing.T) { patched(t, sdkFolder(t, m[1]), patch) })
	}
	t.Run("handler", func(t *testing.T) {
		code, err := os.ReadFile(filepath.Join(sdkModule, "handler.go"))
		check(t, err)
		if !strings.HasSuffix(string(code), blockOf(t, string(page), "go")) {
			t.Errorf("the page's handler is not that of %s", sdkModule)
		}
		sdkChain(t, buildInside(t, "sdk", ""), "start-inside")
	})
	t.Run("line", func(t *testing.T) { sdkChain(t, buildPatched(t, patch), "start") })
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

// sdkFolder fetches a version of the SDK, "" for that of the chain, and returns where it is.
func sdkFolder(t *testing.T, version string) string {
	t.Helper()
	args := []string{"list", "-m", "-f", "{{.Dir}}", sdk}
	if version != "" {
		args = []string{"mod", "download", "-json", sdk + "@" + version}
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = sdkModule
	out, err := cmd.Output()
	check(t, err)
	if version == "" {
		return strings.TrimSpace(string(out))
	}
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

// buildPatched builds the chain with a fork of the SDK, as the page has it.
func buildPatched(t *testing.T, patch string) string {
	t.Helper()
	dir := newDir(t)
	fork := filepath.Join(dir, "cosmos-sdk")
	folder := sdkFolder(t, "")
	_, err := rig.Output(t.Context(), "cp", "-r", "--no-preserve=mode", folder, fork)
	check(t, err)
	check(t, os.WriteFile(filepath.Join(fork, "server", "start.go"), []byte(patched(t, folder, patch)), 0o600))
	root, err := filepath.Abs("../..")
	check(t, err)
	modules := filepath.Join(dir, "fork.mod")
	for name, to := range map[string]string{"go.mod": modules, "go.sum": filepath.Join(dir, "fork.sum")} {
		text, err := os.ReadFile(filepath.Join(sdkModule, name))
		check(t, err)
		check(t, os.WriteFile(to, text, 0o600))
	}
	for _, args := range [][]string{
		{"-require=privyseal@v0.0.0", filepath.Join(fork, "go.mod")},
		{"-replace=" + sdk + "=" + fork, "-replace=privyseal=" + root, modules},
	} {
		_, err := rig.Output(t.Context(), "go", append([]string{"mod", "edit"}, args...)...)
		check(t, err)
	}
	return buildInside(t, "sdk", modules)
}

// sdkChain makes a chain of one validator whose signer is inside, and waits for blocks.
func sdkChain(t *testing.T, sdkProgram, start string) {
	t.Helper()
	ctx := within(t, time.Minute)
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
		tail(t, n.Process)
	})
	check(t, n.WaitHeight(ctx, 4))
	verifyCommit(ctx, t, n, key, 3)
	metrics, err := signer.Metrics(ctx)
	check(t, err)
	if name := fmt.Sprintf("privyseal_signed_total{chain_id=%q,kind=%q}", "sdk-1", "precommit"); metrics[name] < 3 {
		t.Errorf("%s is %v", name, metrics[name])
	}
}
