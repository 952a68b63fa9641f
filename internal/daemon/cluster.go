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
	// checkPeriod is how often the rows of `privyseal check` about databases are looked at. Some
	// of its questions, as those about rights, are work for all members.
	checkPeriod   = 10 * time.Minute
	checkPatience = time.Minute
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

// checkClusters checks the databases with marks now and then, as `privyseal check` does, until
// ctx ends.
func (d *Daemon) checkClusters(ctx context.Context) {
	for {
		found := d.findings(ctx, d.looked.Load())
		if ended := ctx.Err(); ended == nil { // what the end cuts off is no finding
			d.Monitor.Findings(found)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(checkPeriod):
		}
	}
}

// findings checks once the databases of those stores that a chain of a config names.
func (d *Daemon) findings(ctx context.Context, c *config.Config) (all []monitor.Findings) {
	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	for _, s := range d.Stores {
		named := func(ch config.Chain) bool { return ch.Store == s.Name }
		if s.Check == nil || !slices.ContainsFunc(c.Chains, named) {
			continue
		}
		r := &provider.Report{Config: c}
		s.Check(ctx, r)
		for name := range c.Tables[s.Kind.Table] {
			one := monitor.Findings{Store: s.Name, Name: name}
			for _, row := range r.Rows {
				switch {
				case row.Check != s.Name+" "+name:
				case row.Verdict == provider.Bad:
					one.Failed++
				case row.Verdict == provider.Unsure:
					one.Doubtful++
				}
			}
			all = append(all, one)
		}
	}
	return all
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
