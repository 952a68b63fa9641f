package daemon

import (
	"context"
	"slices"
	"time"

	"privyseal/internal/config"
	"privyseal/internal/monitor"
	"privyseal/internal/provider"
)

const (
	// lookPeriod is how often the members of databases are asked how they do. A signer uses one
	// of them, and knows nothing of the others until it needs them.
	lookPeriod = 10 * time.Second
	// lookPatience bounds one look.
	lookPatience = 5 * time.Second
)

// lookAtClusters asks the members of all databases with marks how they do, until ctx ends.
// No signer waits for it, nor the end of the process.
func (d *Daemon) lookAtClusters(ctx context.Context) {
	for {
		found := d.clusters(ctx, d.looked.Load())
		if ctx.Err() != nil {
			return // what the end cut off says nothing of a member
		}
		d.Monitor.Clusters(found)
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookPeriod):
		}
	}
}

// clusters looks once at each database in which a chain of a config has its mark.
func (d *Daemon) clusters(ctx context.Context, c *config.Config) []monitor.Cluster {
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	var all []*clusterLook
	for _, ch := range c.Chains {
		at := clusterLook{store: ch.Store, name: ch.StoreTable}
		known := slices.ContainsFunc(all, func(l *clusterLook) bool { return l.store == at.store && l.name == at.name })
		if at.look = d.Stores.Look(ch); at.look != nil && !known {
			all = append(all, &at)
		}
	}
	AtOnce(all, func(l *clusterLook) { l.found = shownCluster(l.look(ctx, c, l.name)) })
	var found []monitor.Cluster
	for _, l := range all {
		found = append(found, l.found)
	}
	return found
}

// clusterLook is a look at one database.
type clusterLook struct {
	store, name string
	look        func(ctx context.Context, c *config.Config, name string) provider.Cluster
	found       monitor.Cluster
}

// shownCluster returns a database as the monitor has it.
func shownCluster(c provider.Cluster) monitor.Cluster {
	shown := monitor.Cluster{Store: c.Store, Name: c.Name, Looked: time.Now(), Problem: c.Problem, Expires: c.Expires, Voters: c.Voters, Alarms: c.Alarms}
	for _, m := range c.Members {
		shown.Members = append(shown.Members, monitor.ClusterMember(m))
	}
	return shown
}
