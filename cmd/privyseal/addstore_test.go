package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"privyseal/internal/provider"
)

const storePage = "../../doc/add-a-store.md"

// The page that adds a store is followed to the letter: its files and changes make a store
// that passes the suite of all stores, and a program that signs with it.
func TestAddAStore(t *testing.T) {
	page, err := os.ReadFile(storePage)
	if err != nil {
		t.Fatal(err)
	}
	dir := diskDir(t)
	tree := filepath.Join(dir, "tree")
	changed := followPage(t, string(page), tree)
	buildChanged(t, filepath.Join(dir, "bin", "privyseal"), tree, changed)
	passesSuite(t, tree)

	script := regexp.MustCompile("(?s)```sh\nmake\n(.*?)```").FindSubmatch(page)
	if script == nil {
		t.Fatal("the page does not say what to type")
	}
	out := keepsFor(t, dir, string(script[1]))
	for _, want := range []string{
		"state      " + filepath.Join(dir, "marks", "chain-1"), // state show
		"shelf main", "ok    chain-1 state ", // check
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if !exists(filepath.Join(dir, "marks", "chain-1", "00000000000000000002")) {
		t.Errorf("the mark of the signature is not on the shelf")
	}
	storeOfInit(t, dir)
}

// storeOfInit types what else `init` knows of the store: its table is there, or comes by
// flags, and no flag of it goes without it.
func storeOfInit(t *testing.T, dir string) {
	t.Helper()
	for _, tt := range []struct{ home, flags, want string }{
		{"home", "--store shelf", ""},
		{"home", "--store shelf --shelf-folder b", "--shelf-folder: there is a [shelf.main] in privyseal.toml already; change it there, or give the new one another name, --shelf NAME"},
		{"home", "--store shelf --shelf other --shelf-folder b", ""},
		{"home", "--shelf-folder b", "--shelf-folder goes with --store shelf"},
		{"new", "--store shelf", "--shelf-folder is missing: there is no [shelf.main] in privyseal.toml yet"},
		{"new", "--store shelves", `--store "shelves" is not in this build, which has file, shelf, etcd or dynamodb`},
		{"new", "--store shelf --shelf-folder b --provider nitro", "--store shelf: with provider nitro the state begins in store file"},
	} {
		chain := strings.ReplaceAll("chain"+tt.flags, " ", "")
		args := append([]string{"init", "--home", tt.home, "--chain-id", chain, "--node", "unix:///" + chain}, strings.Fields(tt.flags)...)
		out, err := inFolder(dir, "bin/privyseal", args...).CombinedOutput()
		if (err == nil) != (tt.want == "") || !strings.Contains(string(out), tt.want) {
			t.Errorf("%s: %v\n%s", tt.flags, err, out)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "home", "privyseal.toml"))
	if err != nil || strings.Count(string(text), `store = "shelf"`) != 3 || strings.Count(string(text), `shelf = "main"`) != 2 || exists(filepath.Join(dir, "new")) {
		t.Errorf("%v\n%s", err, text)
	}
}

// passesSuite runs the suite of all stores for that of the page.
func passesSuite(t *testing.T, tree string) {
	t.Helper()
	const test = `package shelf

import (
	"testing"

	"privyseal/internal/watermark"
	"privyseal/internal/watermark/storetest"
)

func open(t *testing.T) watermark.Store {
	s := &Shelf{Dir: t.TempDir(), ID: watermark.ID{ChainID: "c"}}
	if err := s.Create(watermark.Saved{}); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, open)
	storetest.RunShared(t, func(t *testing.T) (a, b watermark.Store) {
		a = open(t)
		return a, &Shelf{Dir: a.(*Shelf).Dir, ID: a.(*Shelf).ID}
	})
}
`
	if err := os.WriteFile(filepath.Join(tree, "internal/shelf/shelf_test.go"), []byte(test), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := inFolder(tree, "go", "test", "./internal/shelf").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// keepsFor types the page's commands in dir, the last of which is a signer, has a node get
// a signature from it, and returns what was printed.
func keepsFor(t *testing.T, dir, script string) string {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(dir, "node.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	shell := inFolder(dir, "sh", "-ec", strings.Replace(script, "bin/privyseal start", "exec bin/privyseal start", 1))
	var out bytes.Buffer
	shell.Stdout, shell.Stderr = &out, &out
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
		t.Fatalf("%v, %q\n%s", err, resp.Refused, &out)
	}
	public, err := provider.PublicOf(filepath.Join(dir, "home", "keys", "chain-1.key"))
	if err != nil || !public.Verify(req.SignBytes(), resp.Signature) {
		t.Errorf("signature %x, %v", resp.Signature, err)
	}
	return out.String()
}
