package daemon

import (
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"privyseal/internal/config"
	"privyseal/internal/filestore"
	"privyseal/internal/monitor"
	"privyseal/internal/ops/file"
	"privyseal/internal/ops/soft"
	"privyseal/internal/provider"
	"privyseal/internal/watermark"
)

// sealer is a provider whose states begin with "sealed" where others have sign bytes.
type sealer struct{ soft.Holder }

func (sealer) Shown(m watermark.Mark) watermark.Mark { return m }

func (sealer) Accepts(m watermark.Mark) error {
	if !strings.HasPrefix(string(m.SignBytes), "sealed") {
		return errors.New("it was not sealed")
	}
	return nil
}

func (sealer) Lost(*config.Config, config.Chain, bool) string { return "" }

func (sealer) CheckState(*provider.Report, int, watermark.Mark) {}

// A chain whose provider changed under its state does not sign with it.
func TestStateOfAnotherProvider(t *testing.T) {
	dir, table := newHome(t)
	cfg, err := table.Kinds().Load(filepath.Join(dir, config.FileName))
	if err != nil {
		t.Fatal(err)
	}
	cc := cfg.Chains[0]
	public, err := table.Public(cfg, cc)
	if err != nil {
		t.Fatal(err)
	}
	at := filestore.Config{Path: cfg.Path(cc.State), ID: watermark.ID{ChainID: cc.ID, Key: public.ID()}, Host: filestore.HostFolders()}
	record := watermark.Mark{Height: 9, Step: watermark.StepPrevote, SignBytes: []byte("sealed vote")}
	if err := filestore.Raise(at, watermark.Saved{Mark: record}); err != nil {
		t.Fatal(err)
	}
	table = append(table, provider.Entry{Name: "sealed", Writer: "a sealer", Holder: sealer{}})
	log := slog.New(slog.DiscardHandler)
	d := &Daemon{Home: dir, Providers: table, Stores: provider.Stores{file.Store()}, Config: cfg, Log: log, Monitor: monitor.New(log, "test")}
	if err := d.open(t.Context(), false); err == nil || !strings.Contains(err.Error(), "that of a sealer, at height 9") {
		t.Errorf("opened: %v", err)
	}
	store, err := filestore.Open(t.Context(), at)
	if err != nil {
		t.Fatalf("the state stays locked: %v", err)
	}
	store.Close()
}
