package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/filestore"
	"privyseal/internal/key/soft"
	"privyseal/internal/pubkey"
	"privyseal/internal/watermark"
)

// initHere runs init for a chain with a tcp node, which needs an identity.
func initHere(home string) (string, int) {
	var out bytes.Buffer
	status := run([]string{"init", "--home", home, "--chain-id", "chain-1", "--node", "tcp://127.0.0.1:1"}, io.Discard, &out)
	return out.String(), status
}

func cutOff(t *testing.T, home string, steps int) *newChain {
	t.Helper()
	in := &installer{app: &cli.App{HomeFlag: home}, home: home, path: filepath.Join(home, config.FileName)}
	key, err := soft.Generate(pubkey.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	ch := &newChain{Chain: config.NewChain("chain-1", ""), key: key, saved: watermark.Saved{}}
	ch.Nodes = []config.Node{{Name: "node1", Addr: "tcp://127.0.0.1:1"}}
	if err := in.undo.folder(home); err != nil {
		t.Fatal(err)
	}
	if steps == 0 {
		return ch
	}
	note, err := in.begin([]*newChain{ch})
	if err != nil {
		t.Fatal(err)
	}
	note.file.Close() // as the end of the process does
	for _, step := range []func(*newChain) error{in.addKey, in.addState, in.addIdentity}[:steps-1] {
		if err := step(ch); err != nil {
			t.Fatal(err)
		}
	}
	return ch
}

// An init that was cut off after any of its steps: the next one goes on as if it had
// never been.
func TestInitGoesOnAfterACrash(t *testing.T) {
	for steps := range 5 {
		home := filepath.Join(diskDir(t), "home")
		ch := cutOff(t, home, steps)
		if text, status := initHere(home); status != 0 {
			t.Fatalf("after %d steps: %d: %s", steps, status, text)
		}
		in, err := newInstaller(&cli.App{HomeFlag: home})
		if err != nil {
			t.Fatal(err)
		}
		public, err := publicKey(in.config, in.config.Chains[0])
		if err != nil || public.Equal(ch.key.PublicKey()) {
			t.Errorf("after %d steps: the key of the run that was cut off lives: %v, %v", steps, public, err)
		}
		if info, err := filestore.Inspect(stateFile(in.config.Path(in.config.Chains[0].State), watermark.ID{ChainID: "chain-1", Key: public.ID()})); err != nil || info.Problem != nil {
			t.Errorf("after %d steps: %v, %v", steps, err, info.Problem)
		}
		if exists(filepath.Join(home, unfinishedName)) {
			t.Errorf("after %d steps: the note is still there", steps)
		}
	}
}

// Key files that were cut off while they were written are no obstacle either.
func TestInitGoesOnAfterATornKey(t *testing.T) {
	for _, size := range []int64{0, 1, 10, 30, 60} {
		home := filepath.Join(diskDir(t), "home")
		ch := cutOff(t, home, 4)
		for _, path := range []string{ch.Key, ch.Identity} {
			if err := os.Truncate(filepath.Join(home, path), size); err != nil {
				t.Fatal(err)
			}
		}
		if text, status := initHere(home); status != 0 {
			t.Fatalf("%d bytes: %d: %s", size, status, text)
		}
	}
}

// What is not as it was made is somebody's: a key that was put there, a state that has
// moved.
func TestInitLeavesWhatItHasNotMade(t *testing.T) {
	home := filepath.Join(diskDir(t), "home")
	ch := cutOff(t, home, 3)
	path := filepath.Join(home, ch.Key)
	other, err := soft.Generate(pubkey.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := soft.Create(path, other); err != nil {
		t.Fatal(err)
	}
	if text, status := initHere(home); status == 0 || !strings.Contains(text, "never overwritten") {
		t.Errorf("a key of somebody: %d: %s", status, text)
	}
	if key, err := openFile(path); err != nil || !key.PublicKey().Equal(other.PublicKey()) {
		t.Errorf("the key is gone: %v", err)
	}

	home = filepath.Join(diskDir(t), "home")
	ch = cutOff(t, home, 3)
	fc := stateFile(filepath.Join(home, ch.State), watermark.ID{ChainID: "chain-1", Key: ch.key.PublicKey().ID()})
	if err := filestore.Raise(fc, watermark.Saved{Mark: watermark.Floor(5)}); err != nil {
		t.Fatal(err)
	}
	if text, status := initHere(home); status == 0 {
		t.Errorf("a state that has moved: %d: %s", status, text)
	}
	if info, err := filestore.Inspect(fc); err != nil || info.Saved.Mark.Height != 5 {
		t.Errorf("the state is gone: %v, %v", info.Saved.Mark, err)
	}
}

// Two at once exclude each other.
func TestTwoInitsAtOnce(t *testing.T) {
	home := filepath.Join(diskDir(t), "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	u := &unfinished{path: filepath.Join(home, unfinishedName)}
	if err := u.lock(); err != nil {
		t.Fatal(err)
	}
	if text, status := initHere(home); status != cli.Failed || !strings.Contains(text, "another command makes a chain in this home") {
		t.Errorf("%d: %s", status, text)
	}
	if err := u.end(); err != nil {
		t.Fatal(err)
	}
	if text, status := initHere(home); status != 0 {
		t.Errorf("%d: %s", status, text)
	}
}

// The real program, killed wherever it is.
func TestInitIsKilled(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(t.TempDir(), "privyseal")
	if err := os.Symlink(self, bin); err != nil {
		t.Fatal(err)
	}
	root := diskDir(t)
	for i := range 25 {
		home := filepath.Join(root, "home", string(rune('a'+i)))
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*2*time.Millisecond)
		_ = exec.CommandContext(ctx, bin, "init", "--home", home, "--chain-id", "chain-1", "--node", "tcp://127.0.0.1:1").Run() // killed, or done
		cancel()
		if text, status := initHere(home); status != 0 && !strings.Contains(text, "is in "+filepath.Join(home, config.FileName)+" already") {
			t.Fatalf("killed after %d ms: %d: %s", 2*i, status, text)
		}
		if text, status := initHere(home); !strings.Contains(text, "already") {
			t.Fatalf("killed after %d ms, the second time: %d: %s", 2*i, status, text)
		}
	}
}
