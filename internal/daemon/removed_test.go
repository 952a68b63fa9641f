package daemon

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/filestore"
	"privyseal/internal/home"
	softkey "privyseal/internal/key/soft"
	"privyseal/internal/monitor"
	"privyseal/internal/ops/file"
	"privyseal/internal/ops/soft"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
)

// newHome returns a home folder with a chain that this process can sign for, on a file
// system that may hold its state, and the providers that it takes.
func newHome(t *testing.T) (dir string, table provider.Table) {
	t.Helper()
	t.Setenv("PRIVYSEAL_RUN", t.TempDir())
	table = provider.Table{{Name: "soft", Holder: soft.Holder{}}}
	key, err := softkey.Generate(pubkey.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{os.TempDir(), "."} { // the usual one may be a tmpfs
		made, err := os.MkdirTemp(root, "privyseal-test-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(made) })
		dir = filepath.Join(made, "home")
		in, err := home.NewInstaller(&provider.House{App: &cli.App{HomeFlag: dir, Kinds: table.Kinds()}, Providers: table, Stores: provider.Stores{file.Store()}})
		if err != nil {
			t.Fatal(err)
		}
		ch := &home.Chain{Chain: config.NewChain("a", ""), SoftKey: key}
		ch.Nodes = []config.Node{{Name: "a", Addr: "unix://" + filepath.Join(dir, "a.sock")}}
		if err = in.Install(ch); err == nil {
			return dir, table
		}
		t.Logf("%s: %v", dir, err)
	}
	t.Fatal("no folder on a local disk; set TMPDIR to one")
	return "", nil
}

// A session that is not done when its node is removed keeps key and state of the chain,
// also when the chain is removed next.
func TestARemovedNodeIsStillAtWork(t *testing.T) {
	defer func(before time.Duration) { drainTimeout = before }(drainTimeout)
	drainTimeout = time.Millisecond
	dir, table := newHome(t)
	cfg, err := table.Kinds().Load(filepath.Join(dir, config.FileName))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	d := &Daemon{Home: dir, Providers: table, Stores: provider.Stores{file.Store()}, Config: cfg, Log: log, Monitor: monitor.New(log, "test")}
	if err := d.open(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	c := d.chains[0]
	session := &running{cancel: func() {}, done: make(chan struct{})}
	c.sessions["a"] = session
	at := filestore.Config{Path: cfg.Path(c.cfg.State), ID: c.id(), Host: filestore.HostFolders()}
	change := c.cfg
	change.Nodes = nil
	d.ChangeChain(t.Context(), Change{Chain: change, Remove: []string{"a"}})
	d.StopChain("a")
	if _, err := filestore.Open(t.Context(), at); !errors.Is(err, filestore.ErrLocked) {
		t.Errorf("the state was given free while a signature was in work: %v", err)
	}
	d.chains = []*chain{c}
	close(session.done)
	d.StopChain("a")
	store, err := filestore.Open(t.Context(), at)
	if err != nil {
		t.Fatalf("the state is held although nothing is in work: %v", err)
	}
	store.Close()
}
