package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/filestore"
	"privyseal/internal/home"
	"privyseal/internal/key/soft"
	"privyseal/internal/key/soft/keyfile"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/watermark"
)

// initHere runs init for a chain with a tcp node, which needs an identity.
func initHere(dir string) (string, int) {
	var out bytes.Buffer
	status := run([]string{"init", "--home", dir, "--chain-id", "chain-1", "--node", "tcp://127.0.0.1:1"}, io.Discard, &out)
	return out.String(), status
}

// cutOff does the first steps of an installation: the note, key, state, identity, the
// word that the config may name them, the config.
func cutOff(t *testing.T, dir string, steps int) *home.Chain {
	t.Helper()
	in, err := home.NewInstaller(build().House(dir))
	if err != nil {
		t.Fatal(err)
	}
	key, err := soft.Generate(pubkey.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	ch := &home.Chain{Chain: config.NewChain("chain-1", ""), SoftKey: key, Saved: watermark.Saved{}}
	ch.Nodes = []config.Node{{Name: "node1", Addr: "tcp://127.0.0.1:1"}}
	if err := in.Undo.Folder(dir); err != nil {
		t.Fatal(err)
	}
	cutAt(t, in, steps,
		func(note *home.Note) error {
			list, err := ch.Unfinished(in)
			return errors.Join(err, note.Write(list))
		},
		func(*home.Note) error { return in.AddKey(ch) },
		func(*home.Note) error { return in.AddState(ch) },
		func(*home.Note) error { return in.AddIdentity(ch) },
		(*home.Note).Named,
		func(*home.Note) error { return config.WriteNew(in.Path, in.NewConfig(ch.Chain)) },
	)
	return ch
}

// cutAt begins an installation, and ends as a process does that is killed after some of
// the steps.
func cutAt(t *testing.T, in *home.Installer, steps int, list ...func(*home.Note) error) {
	t.Helper()
	if steps == 0 {
		return
	}
	note, err := home.BeginNote(home.Place{Dir: in.Dir, Config: in.Config, Kinds: in.House.Kinds, Stores: in.House.Stores, IsKey: keyfile.IsMade})
	if err != nil {
		t.Fatal(err)
	}
	defer note.Leave()
	for _, step := range list[:steps] {
		if err := step(note); err != nil {
			t.Fatal(err)
		}
	}
}

// An init that was cut off after any of its steps: the next one goes on as if it had
// never been.
func TestInitGoesOnAfterACrash(t *testing.T) {
	for steps := range 6 {
		dir := filepath.Join(diskDir(t), "home")
		ch := cutOff(t, dir, steps)
		text, status := initHere(dir)
		if status != 0 {
			t.Fatalf("after %d steps: %d: %s", steps, status, text)
		}
		// A config may have named the key, and be gone: it is the last copy then.
		aside := filepath.Join(dir, ch.Key+".unused")
		if kept := exists(aside); kept != (steps == 5) || kept != strings.Contains(text, "kept "+aside) {
			t.Errorf("after %d steps: kept %v: %s", steps, kept, text)
		}
		if key, err := provider.OpenFile(aside); steps == 5 && (err != nil || !key.PublicKey().Equal(ch.SoftKey.PublicKey())) {
			t.Errorf("not the key: %v", err)
		}
		in, err := home.NewInstaller(build().House(dir))
		if err != nil {
			t.Fatal(err)
		}
		public, err := build().House("").Providers.Public(in.Config, in.Config.Chains[0])
		if err != nil || public.Equal(ch.SoftKey.PublicKey()) {
			t.Errorf("after %d steps: the key of the run that was cut off lives: %v, %v", steps, public, err)
		}
		if info, err := filestore.Inspect(stateFile(in.Config.Path(in.Config.Chains[0].State), watermark.ID{ChainID: "chain-1", Key: public.ID()})); err != nil || info.Problem != nil {
			t.Errorf("after %d steps: %v, %v", steps, err, info.Problem)
		}
		if exists(filepath.Join(dir, home.NoteName)) {
			t.Errorf("after %d steps: the note is still there", steps)
		}
	}
}

// Key files that were cut off while they were written are no obstacle either.
func TestInitGoesOnAfterATornKey(t *testing.T) {
	for _, size := range []int64{0, 1, 10, 30, 60} {
		dir := filepath.Join(diskDir(t), "home")
		ch := cutOff(t, dir, 4) // before a config may name them
		for _, path := range []string{ch.Key, ch.Identity} {
			if err := os.Truncate(filepath.Join(dir, path), size); err != nil {
				t.Fatal(err)
			}
		}
		if text, status := initHere(dir); status != 0 {
			t.Fatalf("%d bytes: %d: %s", size, status, text)
		}
	}
}

// What a crash leaves beside a key file holds the key too, and goes.
func TestInitSweepsTheCrash(t *testing.T) {
	dir := filepath.Join(diskDir(t), "home")
	ch := cutOff(t, dir, 1)
	for _, path := range []string{ch.Key, "identity.key"} {
		left := filepath.Join(dir, path+".new0123abcd")
		if err := errors.Join(os.MkdirAll(filepath.Dir(left), 0o700), os.WriteFile(left, ch.SoftKey.Encode(), 0o600)); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if exists(left) {
				t.Errorf("%s is left", left)
			}
		}()
	}
	if text, status := initHere(dir); status != 0 {
		t.Fatalf("%d: %s", status, text)
	}
}

// What is not as it was made is somebody's: a key that was put there, a state that has
// moved.
func TestInitLeavesWhatItHasNotMade(t *testing.T) {
	dir := filepath.Join(diskDir(t), "home")
	ch := cutOff(t, dir, 3)
	path := filepath.Join(dir, ch.Key)
	other, err := soft.Generate(pubkey.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := keyfile.Create(path, other); err != nil {
		t.Fatal(err)
	}
	if text, status := initHere(dir); status == 0 || !strings.Contains(text, "never overwritten") {
		t.Errorf("a key of somebody: %d: %s", status, text)
	}
	if key, err := provider.OpenFile(path); err != nil || !key.PublicKey().Equal(other.PublicKey()) {
		t.Errorf("the key is gone: %v", err)
	}

	dir = filepath.Join(diskDir(t), "home")
	ch = cutOff(t, dir, 3)
	fc := stateFile(filepath.Join(dir, ch.State), watermark.ID{ChainID: "chain-1", Key: ch.SoftKey.PublicKey().ID()})
	if err := filestore.Raise(fc, watermark.Saved{Mark: watermark.Floor(5)}); err != nil {
		t.Fatal(err)
	}
	if text, status := initHere(dir); status == 0 {
		t.Errorf("a state that has moved: %d: %s", status, text)
	}
	if info, err := filestore.Inspect(fc); err != nil || info.Saved.Mark.Height != 5 {
		t.Errorf("the state is gone: %v, %v", info.Saved.Mark, err)
	}
	if key, err := provider.OpenFile(filepath.Join(dir, ch.Key)); err != nil || !key.PublicKey().Equal(ch.SoftKey.PublicKey()) {
		t.Errorf("the key of a state that has signed is gone: %v", err)
	}
}

// A file that a config names is in use, whatever the chain is called there.
func TestInitLeavesWhatAConfigNames(t *testing.T) {
	dir := filepath.Join(diskDir(t), "home")
	ch := cutOff(t, dir, 4)
	other := ch.Chain
	other.Name, other.ID = "other", "other"
	other.State, other.Identity, other.Nodes = "state/other.mark", "", []config.Node{{Name: "n", Addr: "unix:///n"}}
	if err := config.WriteNew(filepath.Join(dir, config.FileName), build().House("").Kinds.New(other)); err != nil {
		t.Fatal(err)
	}
	if text, status := initHere(dir); status == 0 || !strings.Contains(text, "never overwritten") {
		t.Errorf("%d: %s", status, text)
	}
	if key, err := provider.OpenFile(filepath.Join(dir, ch.Key)); err != nil || !key.PublicKey().Equal(ch.SoftKey.PublicKey()) {
		t.Errorf("the key of a chain is gone: %v", err)
	}
}

// An installation that was finished but for the note, used for a while, and whose config
// is gone: the key that has signed stays.
func TestInitLeavesWhatHasSigned(t *testing.T) {
	dir := filepath.Join(diskDir(t), "home")
	ch := cutOff(t, dir, 6)
	if err := os.Remove(filepath.Join(dir, config.FileName)); err != nil {
		t.Fatal(err)
	}
	fc := stateFile(filepath.Join(dir, ch.State), watermark.ID{ChainID: "chain-1", Key: ch.SoftKey.PublicKey().ID()})
	if err := filestore.Raise(fc, watermark.Saved{Mark: watermark.Floor(5)}); err != nil {
		t.Fatal(err)
	}
	if text, status := initHere(dir); status == 0 {
		t.Errorf("%d: %s", status, text)
	}
	if key, err := provider.OpenFile(filepath.Join(dir, ch.Key)); err != nil || !key.PublicKey().Equal(ch.SoftKey.PublicKey()) {
		t.Errorf("the key that has signed is gone: %v", err)
	}
}

// What is no file at the place of one: nothing waits for a writer, and it stays.
func TestInitMeetsNoFile(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"fifo":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"device":    func(path string) error { return os.Symlink("/dev/zero", path) },
		"socket": func(path string) error {
			l, err := net.Listen("unix", path)
			if err == nil {
				l.(*net.UnixListener).SetUnlinkOnClose(false)
				err = l.Close()
			}
			return err
		},
	} {
		for _, file := range []func(*home.Chain) string{
			func(ch *home.Chain) string { return ch.Key },
			func(ch *home.Chain) string { return ch.Identity },
			func(ch *home.Chain) string { return ch.State },
			func(*home.Chain) string { return home.NoteName },
		} {
			t.Run(name, func(t *testing.T) {
				dir := filepath.Join(diskDir(t), "home")
				ch := cutOff(t, dir, 4)
				path := filepath.Join(dir, file(ch))
				if err := errors.Join(os.Remove(path), put(path)); err != nil {
					t.Fatal(err)
				}
				done := make(chan int, 1)
				go func() {
					_, status := initHere(dir)
					done <- status
				}()
				select {
				case status := <-done:
					if status == 0 || !exists(path) {
						t.Errorf("%s: exit status %d", path, status)
					}
				case <-time.After(patience):
					t.Fatalf("%s: init hangs", path)
				}
			})
		}
	}
}

// Two at once exclude each other.
func TestTwoInitsAtOnce(t *testing.T) {
	dir := filepath.Join(diskDir(t), "home")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	note, err := home.BeginNote(home.Place{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if text, status := initHere(dir); status != cli.Failed || !strings.Contains(text, "another command is creating a chain in this home") {
		t.Errorf("%d: %s", status, text)
	}
	if err := note.End(); err != nil {
		t.Fatal(err)
	}
	if text, status := initHere(dir); status != 0 {
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
		dir := filepath.Join(root, "home", string(rune('a'+i)))
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*2*time.Millisecond)
		_ = exec.CommandContext(ctx, bin, "init", "--home", dir, "--chain-id", "chain-1", "--node", "tcp://127.0.0.1:1").Run() // killed, or done
		cancel()
		if text, status := initHere(dir); status != 0 && !strings.Contains(text, "is in "+filepath.Join(dir, config.FileName)+" already") {
			t.Fatalf("killed after %d ms: %d: %s", 2*i, status, text)
		}
		if text, status := initHere(dir); !strings.Contains(text, "already") {
			t.Fatalf("killed after %d ms, the second time: %d: %s", 2*i, status, text)
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// stateFile is the state at path, on this host.
func stateFile(path string, id watermark.ID) filestore.Config {
	return filestore.Config{Path: path, ID: id, Host: filestore.HostFolders()}
}
