package movenote

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"privyseal/internal/durable"
	"privyseal/internal/watermark"
)

func TestNote(t *testing.T) {
	state := filepath.Join(t.TempDir(), "mark")
	held, err := Hold(state)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Hold(state); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("a second command has it too: %v", err)
	}
	if n, found := held.Note(); found {
		t.Errorf("a new one says %+v", n)
	}
	n := Of(watermark.ID{ChainID: "c", Key: [32]byte{0xab}}, "etcd", "etcd", "main")
	if err := held.Write(n); err != nil {
		t.Fatal(err)
	}
	held.Release()
	if got, found := Read(state); !found || got != n {
		t.Errorf("%v, %+v", found, got)
	}
	if want := []string{"--to", "etcd", "--etcd", "main"}; !slices.Equal(n.Words(), want) {
		t.Errorf("%q", n.Words())
	}
	if held, err = Hold(state); err != nil {
		t.Fatal(err)
	}
	if got, found := held.Note(); !found || got != n {
		t.Errorf("held: %v, %+v", found, got)
	}
	back := Of(watermark.ID{ChainID: "c"}, "file", "", "")
	if err := held.Write(back); err != nil { // shorter
		t.Fatal(err)
	}
	if got, _ := held.Note(); got != back || !slices.Equal(got.Words(), []string{"--to", "file"}) {
		t.Errorf("%+v, %q", got, got.Words())
	}
	if err := held.Remove(); err != nil {
		t.Fatal(err)
	}
	// Another command takes the name; letting go of ours leaves it alone.
	other, err := Hold(state)
	if err != nil {
		t.Fatal(err)
	}
	held.Release()
	if _, err := os.Stat(pathOf(state)); err != nil {
		t.Error(err)
	}
	other.Release()
	if left, _ := filepath.Glob(state + "*"); len(left) != 0 {
		t.Errorf("%q is left", left)
	}
}

// A move that was done leaves where the state went, and no note.
func TestDone(t *testing.T) {
	state := filepath.Join(t.TempDir(), "mark")
	n := Of(watermark.ID{ChainID: "c"}, "etcd", "etcd", "main")
	for _, to := range []Note{n, Of(watermark.ID{ChainID: "c"}, "file", "", "")} {
		held, err := Hold(state)
		if err == nil {
			err = errors.Join(held.Write(to), held.Done(to))
		}
		if err != nil {
			t.Fatal(err)
		}
		held.Release()
		if _, moving := Read(state); moving {
			t.Error("the note is still there")
		}
		if got, moved := Moved(state); !moved || got != to {
			t.Errorf("%v, %+v", moved, got)
		}
	}
	if n.Leads("etcd", "main") || !n.Leads("etcd", "other") || !n.Leads("file", "") {
		t.Error("another store is not the one that a chain names")
	}
}

// What was cut off while it was written is no note.
func TestTornNote(t *testing.T) {
	state := filepath.Join(t.TempDir(), "mark")
	for _, text := range []string{"", "{", `{"chain_id":"c"}`, `{"store":"etcd","store":"file"}`, `{"store":"etcd","more":1}`, strings.Repeat(" ", maxNote+1) + `{"store":"etcd"}`} {
		if err := os.WriteFile(pathOf(state), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if n, found := Read(state); found {
			t.Errorf("%q is read as %+v", text, n)
		}
		held, err := Hold(state)
		if err != nil {
			t.Fatal(err)
		}
		if n, found := held.Note(); found {
			t.Errorf("%q is held as %+v", text, n)
		}
		held.Release()
	}
}
