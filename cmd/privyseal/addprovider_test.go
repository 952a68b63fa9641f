package main

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"go/format"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"privyseal/internal/privval"
	"privyseal/internal/privval/privvaltest"
)

const providerPage = "../../doc/add-a-provider.md"

// The page that adds a provider is followed to the letter: its files and changes make a
// program by whose provider a node gets its signature.
func TestAddAProvider(t *testing.T) {
	page, err := os.ReadFile(providerPage)
	if err != nil {
		t.Fatal(err)
	}
	dir := diskDir(t)
	changed := followPage(t, string(page), filepath.Join(dir, "tree"))
	bin := filepath.Join(dir, "bin", "privyseal")
	buildChanged(t, bin, filepath.Join(dir, "tree"), changed)

	script := regexp.MustCompile("(?s)```sh\nmake\n(.*?)```").FindSubmatch(page)
	if script == nil {
		t.Fatal("the page does not say what to type")
	}
	signsFor(t, dir, string(script[1]))

	for _, tt := range []struct{ flag, value, want string }{
		{"--key-type", "secp256k1", "--key-type: provider paper has no secp256k1 keys; it has ed25519"},
		{"--import-key", filepath.Join(dir, "node.sock"), "--import-key: provider paper imports no keys"},
	} {
		args := []string{"init", "--home", filepath.Join(dir, "other"), "--provider", "paper", "--chain-id", "chain-1", "--node", "unix:///n", tt.flag, tt.value}
		if tt.flag == "--import-key" {
			args = append(args, "--fresh-state")
		}
		out, err := exec.Command(bin, args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), tt.want) {
			t.Errorf("%s: %v\n%s", tt.flag, err, out)
		}
		if exists(filepath.Join(dir, "other", "privyseal.toml")) {
			t.Errorf("%s: a chain was made", tt.flag)
		}
	}
}

// followPage copies what `go build` and the map of imports read into tree, and makes
// there what the page makes. It returns the files that are new or changed.
func followPage(t *testing.T, page, tree string) (changed []string) {
	t.Helper()
	copyTree(t, tree)
	block := regexp.MustCompile("(?ms)^(?:`([^`\n]+\\.go)`:\n\n)?```([a-z]+)\n(.*?)^```")
	path := ""
	for _, m := range block.FindAllStringSubmatch(page, -1) {
		name, kind, text := m[1], m[2], m[3]
		if kind != "go" && kind != "diff" {
			continue
		}
		if name != "" {
			path = name
			changed = append(changed, name)
		}
		file := filepath.Join(tree, path)
		if kind == "diff" {
			text = apply(t, path, file, text)
		}
		if nice, err := format.Source([]byte(text)); err != nil || string(nice) != text {
			t.Errorf("%s: gofmt would change it (%v)", path, err)
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if len(changed) != 4 {
		t.Fatalf("the page makes and changes %q", changed)
	}
	return changed
}

// apply returns a file with a change of the page, whose lines have to stand there once.
func apply(t *testing.T, name, file, change string) string {
	t.Helper()
	var before, after strings.Builder
	for line := range strings.Lines(change) {
		if line[0] != '+' {
			before.WriteString(line[1:])
		}
		if line[0] != '-' {
			after.WriteString(line[1:])
		}
	}
	text, err := os.ReadFile(file)
	if n := strings.Count(string(text), before.String()); err != nil || n != 1 {
		t.Fatalf("%s: the page changes lines that are there %d times (%v):\n%s", name, n, err, before.String())
	}
	return strings.Replace(string(text), before.String(), after.String(), 1)
}

// copyTree copies the Go files that programs consist of, and the test of their imports
// and words, with the pages that it reads.
func copyTree(t *testing.T, tree string) {
	t.Helper()
	root := os.DirFS("../..")
	if err := os.MkdirAll(tree, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, top := range []string{"go.mod", "go.sum", "aiakos", "cmd", "doc", "internal", "yubihsm", "Makefile", "README.md", "SECURITY.md"} {
		err := fs.WalkDir(root, top, func(name string, d fs.DirEntry, err error) error {
			to := filepath.Join(tree, name)
			isTest := strings.HasSuffix(name, "_test.go") && !strings.HasPrefix(name, "internal/arch/")
			switch {
			case err != nil:
				return err
			case d.IsDir():
				return os.MkdirAll(to, 0o700)
			case isTest || filepath.Ext(name) != ".go" && filepath.Ext(name) != ".md" && filepath.Dir(name) != ".":
				return nil
			}
			text, err := fs.ReadFile(root, name)
			if err == nil {
				err = os.WriteFile(to, text, 0o600)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// buildChanged builds the program from our own files with some of tree in their place,
// so that nothing is compiled that has not changed, and checks tree against the rules of
// its imports.
func buildChanged(t *testing.T, bin, tree string, changed []string) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	overlay := map[string]map[string]string{"Replace": {}}
	for _, name := range changed {
		overlay["Replace"][filepath.Join(root, name)] = filepath.Join(tree, name)
	}
	text, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(tree, "overlay.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []*exec.Cmd{
		inFolder(root, "go", "build", "-buildvcs=false", "-overlay", file, "-o", bin, "./cmd/privyseal"),
		inFolder(tree, "go", "test", "-vet=off", "-skip=TestWords|TestHackingHasEveryRoom", "./internal/arch"),
	} {
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
		}
	}
}

func inFolder(dir, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	return cmd
}

// signsFor types the page's commands in dir, the last of which is a signer, and has a
// node get a signature from it, by the key that is on the sheet.
func signsFor(t *testing.T, dir, script string) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(dir, "node.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	shell := inFolder(dir, "sh", "-ec", strings.Replace(script, "bin/privyseal start", "exec bin/privyseal start", 1))
	var out, log bytes.Buffer
	shell.Stdout, shell.Stderr = &out, &log
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- shell.Wait()
		l.Close() // nobody calls any more
	}()
	defer shell.Process.Kill()
	resp, req := vote(t, l)
	shell.Process.Signal(syscall.SIGTERM)
	if err := <-ended; err != nil || resp.Refused != "" {
		t.Fatalf("%v, %q\n%s%s", err, resp.Refused, &out, &log)
	}
	seed, err := os.ReadFile(filepath.Join(dir, "home", "chain-1.sheet"))
	if err != nil {
		t.Fatal(err)
	}
	public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	if !ed25519.Verify(public, req.SignBytes(), resp.Signature) {
		t.Errorf("signature %x", resp.Signature)
	}
	if printed := base64.StdEncoding.EncodeToString(public); !strings.Contains(out.String(), printed) {
		t.Errorf("init does not print %s:\n%s", printed, &out)
	}
}

// vote is a node that asks its signer for one prevote. Without a signer the refusal says
// why.
func vote(t *testing.T, l net.Listener) (privval.Response, privval.Request) {
	t.Helper()
	req := privval.Request{
		Kind: privval.KindPrevote, ChainID: "chain-1", Height: 1, Timestamp: privval.Timestamp{Seconds: 1},
		BlockID: privval.BlockID{Hash: make([]byte, 32), PartsTotal: 1, PartsHash: make([]byte, 32)},
	}
	l.(*net.UnixListener).SetDeadline(time.Now().Add(patience))
	conn, err := l.Accept()
	if err != nil {
		return privval.Response{Refused: err.Error()}, req
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	resp, err := privvaltest.Call(conn, bufio.NewReader(conn), req)
	if err != nil {
		resp.Refused = err.Error()
	}
	return resp, req
}
