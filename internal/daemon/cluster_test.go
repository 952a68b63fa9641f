package daemon

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"testing"

	"privyseal/internal/config"
	"privyseal/internal/monitor"
	"privyseal/internal/provider"
)

// A database is looked at once, whoever has marks there. What the end of the process cuts
// off is not said of a member.
func TestLookAtClusters(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	var log bytes.Buffer
	looks := map[string]int{}
	d := &Daemon{Monitor: monitor.New(slog.New(slog.NewTextHandler(&log, nil)), "test"), Stores: provider.Stores{{Name: "db", Look: func(ctx context.Context, _ *config.Config, name string) provider.Cluster {
		looks[name]++
		end()
		<-ctx.Done()
		return provider.Cluster{Store: "db", Name: name, Members: []provider.ClusterMember{{Address: "https://a", Failed: "cut off"}}}
	}}, {Name: "file"}}}
	d.looked.Store(&config.Config{Chains: []config.Chain{
		{Name: "c-1", Store: "db", StoreTable: "main"}, {Name: "c-2", Store: "db", StoreTable: "main"}, {Name: "c-3", Store: "file"},
	}})
	d.lookAtClusters(ctx)
	if got := d.Monitor.Snapshot().Clusters; len(looks) != 1 || looks["main"] != 1 || got != nil || log.Len() > 0 {
		t.Errorf("%v, %+v, %s", looks, got, log.String())
	}
}

// Whose database is named by a chain is checked, and its rows are counted, no others.
func TestFindings(t *testing.T) {
	check := func(_ context.Context, r *provider.Report) {
		r.Add(provider.Bad, 0, "db main", "too many rights", "")
		r.Add(provider.Bad, 0, "db main", "a learner", "")
		r.Add(provider.Unsure, 0, "db main", "slow", "")
		r.Add(provider.Good, 0, "db main", "fast", "")
		r.Add(provider.Bad, 0, "db maintenance", "of another one", "")
	}
	unused := func(context.Context, *provider.Report) {
		t.Error("the tables of a store that no chain has were checked")
	}
	d := &Daemon{Stores: provider.Stores{
		{Name: "db", Kind: config.Kind{Table: "db"}, Check: check}, {Name: "other", Kind: config.Kind{Table: "other"}, Check: unused}, {Name: "file"},
	}}
	got := d.findings(t.Context(), &config.Config{
		Chains: []config.Chain{{Name: "c-1", Store: "db", StoreTable: "main"}, {Name: "c-2", Store: "file"}},
		Tables: map[string]map[string]config.Section{"db": {"main": nil}, "other": {"main": nil}},
	})
	if want := []monitor.Findings{{Store: "db", Name: "main", Failed: 2, Doubtful: 1}}; !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}
