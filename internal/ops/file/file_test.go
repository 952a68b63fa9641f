package file

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"privyseal/internal/config"
	"privyseal/internal/filestore"
	"privyseal/internal/filestore/filestoretest"
	"privyseal/internal/provider"
	"privyseal/internal/watermark"
)

// diskDir returns a folder on a disk, on a host that remembers nothing of earlier tests.
func diskDir(t *testing.T) string {
	t.Helper()
	dir := filestoretest.Folder(t)
	t.Setenv("PRIVYSEAL_RUN", filepath.Join(dir, "run"))
	return dir
}

func stateIn(dir, name string, key byte) provider.Kept {
	at := provider.Place{
		Chain: config.Chain{ID: "chain-1", Name: "my chain", State: "state/" + name},
		Path:  func(p string) string { return filepath.Join(dir, p) },
	}
	return Store().State(at, watermark.ID{ChainID: "chain-1", Key: [32]byte{key}})
}

// Whatever a file is refused for, the operator's side branches on its own reason, reads
// the file's words, and is given a command for the chain by its name and in its home.
func TestReasons(t *testing.T) {
	dir := diskDir(t)
	kept := stateIn(dir, "mark", 1)
	failed := func(err error, reason error, words string) {
		t.Helper()
		e, ok := errors.AsType[*provider.StateError](err)
		if !ok || e.Reason != reason || !errors.Is(err, reason) {
			t.Errorf("%v, want %v", err, reason)
		} else if text := err.Error(); !strings.Contains(text, words) || !strings.HasPrefix(text, "cannot ") || e.Cure != "" && strings.Count(text, "\n"+e.Cure) != 1 {
			t.Errorf("%q, want %q, and the cure once", text, words)
		}
	}
	inspect := func() error {
		info, err := kept.Inspect(t.Context())
		return errors.Join(err, info.Problem)
	}
	in := "--home " + dir + " --chain-id 'my chain'"
	failed(inspect(), provider.ErrMissing, "`privyseal state init "+in+" --fresh-state`")
	if err := kept.Create(t.Context(), watermark.Saved{Mark: watermark.Floor(7)}); err != nil {
		t.Fatal(err)
	}
	for _, path := range kept.Files {
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("%v", err)
		}
	}
	if made, _ := filepath.Glob(filepath.Join(dir, "state", "mark*")); len(made) != len(kept.Files) || kept.Where != kept.Files[0] {
		t.Errorf("%q was made, and %q is said to be", made, kept.Files)
	}
	failed(kept.Create(t.Context(), watermark.Saved{}), provider.ErrExists, "`privyseal state show "+in+"`")
	failed(kept.Raise(t.Context(), watermark.Saved{Mark: watermark.Floor(6)}), provider.ErrBelow, "the state is at 7")

	open, err := kept.Open(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	_, err = kept.Open(t.Context(), false)
	failed(err, provider.ErrLocked, "--standby")
	other := stateIn(dir, "other", 1)
	if err := other.Create(t.Context(), watermark.Saved{Mark: watermark.Floor(7)}); err != nil {
		t.Fatal(err)
	}
	_, err = other.Open(t.Context(), false)
	failed(err, provider.ErrTwin, "for good")
	if err := os.Chmod(kept.Where, 0o644); err != nil {
		t.Fatal(err)
	}
	failed(inspect(), provider.ErrUnsafe, "`chmod 600 "+kept.Where+"`")
	if err := errors.Join(os.Chmod(kept.Where, 0o600), open.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := kept.State.(provider.Mover).Export(t.Context()); err != nil {
		t.Fatal(err)
	}
	failed(inspect(), provider.ErrExported, "`privyseal state import "+in+" FILE`")
	if err := os.Truncate(kept.Where, 1); err != nil {
		t.Fatal(err)
	}
	failed(inspect(), provider.ErrDamaged, "`privyseal state init "+in+" --after-height H`")
}

// What a store's load fails with is explained too, and what the system says stays there.
func TestLoadExplains(t *testing.T) {
	dir := diskDir(t)
	kept := stateIn(dir, "mark", 1)
	if err := kept.Create(t.Context(), watermark.Saved{Mark: watermark.Floor(7)}); err != nil {
		t.Fatal(err)
	}
	open, err := kept.Open(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if saved, err := open.Load(t.Context()); err != nil || saved.Mark.Height != 7 {
		t.Fatalf("%v, %v", saved, err)
	}
	if err := os.Rename(kept.Where, kept.Where+".aside"); err != nil {
		t.Fatal(err)
	}
	_, err = open.Load(t.Context())
	if e, ok := errors.AsType[*provider.StateError](err); !ok || provider.StateRefused(err) {
		t.Errorf("%v, %v", err, e)
	}
	in := state{place: provider.Place{Path: filepath.Clean}}
	if err := in.explain(&filestore.Error{Op: "open", Path: "x", Err: syscall.EMFILE}); !errors.Is(err, syscall.EMFILE) || provider.StateRefused(err) {
		t.Errorf("%v", err)
	}
	if err := in.explain(watermark.ErrMoved); err != watermark.ErrMoved {
		t.Errorf("%v", err)
	}
}

// Each reason that filestore exports is known to the operator's side, but for that of a
// platform without it.
func TestEveryReason(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "../../filestore/errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	exported := 0
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(v.Names[0].Name, "Err") && v.Names[0].Name != "ErrPlatform" {
			exported++
		}
		return true
	})
	if exported != len(reasons) {
		t.Errorf("filestore has %d reasons, and %d are known", exported, len(reasons))
	}
}
