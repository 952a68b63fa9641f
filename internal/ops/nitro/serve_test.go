package nitro

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"privyseal/internal/config"
	"privyseal/internal/daemon"
	"privyseal/internal/eif"
	"privyseal/internal/key/nitrokms"
	"privyseal/internal/monitor"
	"privyseal/internal/ops/nitro/nitrotest"
	"privyseal/internal/ops/nitro/wrapped"
	"privyseal/internal/provider"
	"privyseal/internal/sharedstate"
	"privyseal/internal/watermark"
)

// closing is a store that says whether it was closed.
type closing struct {
	watermark.Store
	closed bool
}

func (c *closing) Close() error {
	c.closed = true
	return nil
}

// A host that cannot be made lets go of the states of all its chains.
func TestAHostThatFailsLocksNothing(t *testing.T) {
	image := filepath.Join(t.TempDir(), "a.eif")
	if err := os.WriteFile(image, nitrotest.Image(t, eif.AMD64, nitrotest.ProductionPolicy(t), "\x7fELF a program").Encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	c := &config.Config{Tables: Tables(map[string]Enclave{"main": NewEnclave(image)})}
	d := &daemon.Daemon{Config: c, Log: log, Monitor: monitor.New(log, "test")}
	header := nitrokms.Header{KeyARN: nitrotest.KeyARN, KeyType: "ed25519", Public: make([]byte, 32)}
	var chains []*chain
	stores := []*closing{{}, {}}
	for i, store := range stores { // both of one id
		name := fmt.Sprint("chain-", i)
		chains = append(chains, &chain{
			cfg: config.Chain{ID: "chain", Name: name}, monitor: d.Monitor.AddChain(name, "chain"), key: &wrapped.Key{Header: header},
			id: watermark.ID{ChainID: "chain"}, store: store, Guard: &daemon.Guard{},
		})
	}
	if _, err := newNitroHost(d, "main", chains); err == nil || !strings.Contains(err.Error(), "duplicate") {
		t.Fatalf("made: %v", err)
	}
	for i, store := range stores {
		if !store.closed {
			t.Errorf("the state of chain %d stays locked", i)
		}
	}
}

// An enclave reaches a state that hosts share only where it is asked for it.
func TestUnreached(t *testing.T) {
	table, ch := provider.Table{entry()}, config.Chain{Name: "c-1", Provider: providerName}
	for _, c := range []struct {
		kept    provider.Kept
		refused bool
	}{
		{provider.Kept{Shared: true, Where: "a table"}, true},
		{provider.Kept{Where: "a file"}, false},
		{provider.Kept{Shared: true, State: sharedstate.Elsewhere{}}, false},
	} {
		if err := table.Unreached(ch, c.kept); (err != nil) != c.refused {
			t.Errorf("%+v: %v", c.kept, err)
		}
	}
}
