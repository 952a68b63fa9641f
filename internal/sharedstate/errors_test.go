package sharedstate

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"privyseal/internal/filestore"
	"privyseal/internal/provider"
	"privyseal/internal/sharedmark"
)

// names are those of the reasons in testdata/cures.txt.
var names = map[error]string{
	sharedmark.ErrMissing: "mark missing", sharedmark.ErrUnjoined: "mark unjoined", sharedmark.ErrExists: "mark exists", sharedmark.ErrForeign: "mark foreign",
	sharedmark.ErrDamaged: "mark damaged", sharedmark.ErrRestored: "mark restored", sharedmark.ErrExported: "mark exported", sharedmark.ErrTwin: "mark twin",
	sharedmark.ErrBelow: "mark below", filestore.ErrLocked: "floor locked", filestore.ErrTwin: "floor twin", filestore.ErrUnsafe: "floor unsafe",
	filestore.ErrDamaged: "floor damaged", filestore.ErrForeign: "floor foreign", filestore.ErrCopied: "floor copied", filestore.ErrRestored: "floor restored",
	filestore.ErrMissing: "floor missing", filestore.ErrBelow: "floor below", sharedmark.ErrOther: "another database", sharedmark.ErrPlace: "another place",
}

// Each reason for which a mark, or the floor of this host, is not used has one message and its
// own next step: testdata/cures.txt, to proof-read. The commands are typed by the scripts of
// cmd/privyseal/testdata/etcd.
func TestCures(t *testing.T) {
	raw, err := os.ReadFile("testdata/cures.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for part := range strings.SplitSeq(string(raw), "\n\n") {
		if name, text, is := strings.Cut(strings.TrimSpace(part), "\n"); is && !strings.HasPrefix(name, "#") {
			want[name] = text
		}
	}
	p := place{chain: "c-1", home: "my home", floor: "my home/state/c-1.mark.floor", where: "etcd main, /p/c-1/00"}
	for _, r := range reasons {
		failed := error(&sharedmark.Error{Op: "load", Err: r.of})
		if strings.HasPrefix(names[r.of], "floor") {
			failed = fmt.Errorf("the floor of this host: %w", &filestore.Error{Op: "open", Path: p.floor, Err: r.of, Cure: "what the file of a mark needs"})
		}
		err := p.explain(failed)
		if !errors.Is(err, r.state) || !errors.Is(err, r.of) {
			t.Errorf("%s: %v is not %v", names[r.of], err, r.state)
		}
		if got := err.Error(); got != want[names[r.of]] {
			t.Errorf("%s\n%s", names[r.of], got)
		}
		if again := p.explain(fmt.Errorf("again: %w", err)); again.Error() != "again: "+err.Error() {
			t.Errorf("explained twice: %v", again)
		}
		delete(want, names[r.of])
	}
	for name := range want {
		t.Errorf("%s is no reason", name)
	}
	away := errors.New("connection refused")
	if err := p.explain(away); provider.StateRefused(err) || err.Error() != "etcd main, /p/c-1/00: connection refused" {
		t.Errorf("that nobody answers: %v", err)
	}
	if p.explain(nil) != nil {
		t.Error("no failure is one")
	}
}
