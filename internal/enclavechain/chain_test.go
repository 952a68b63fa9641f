package enclavechain

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"privyseal/internal/config"
	"privyseal/internal/daemon"
	"privyseal/internal/enclavehost"
	"privyseal/internal/monitor"
	"privyseal/internal/policy"
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

// noLauncher launches nothing.
type noLauncher struct{ enclavehost.Launcher }

// allows is a world whose enclaves allow everything.
type allows struct{}

func (allows) Keys(*config.Config, config.Chain) (Keys, error) {
	return Keys{Disallowed: func(*policy.Policy) (why, cure string) { return "", "" }}, nil
}

func (allows) Host(d *daemon.Daemon, _ string) (enclavehost.Config, *policy.Policy, error) {
	return enclavehost.Config{Launcher: noLauncher{}, Log: d.Log}, &policy.Policy{}, nil
}

func (allows) Words() Words { return Words{} }

// A host that cannot be made lets go of the states of all its chains.
func TestAHostThatFailsLocksNothing(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	d := &daemon.Daemon{Config: &config.Config{}, Log: log, Monitor: monitor.New(log, "test")}
	var chains []*chain
	stores := []*closing{{}, {}}
	for i, store := range stores { // both of one id
		name := fmt.Sprint("chain-", i)
		keys, _ := allows{}.Keys(nil, config.Chain{})
		chains = append(chains, &chain{
			cfg: config.Chain{ID: "chain", Name: name}, monitor: d.Monitor.AddChain(name, "chain"), keys: keys,
			id: watermark.ID{ChainID: "chain"}, store: store, Guard: &daemon.Guard{},
		})
	}
	if _, err := newHost(allows{}, d, "main", chains); err == nil || !strings.Contains(err.Error(), "duplicate") {
		t.Fatalf("made: %v", err)
	}
	for i, store := range stores {
		if !store.closed {
			t.Errorf("the state of chain %d stays locked", i)
		}
	}
}
