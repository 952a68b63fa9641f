package daemon

import (
	"bytes"
	"context"
	"log/slog"
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
