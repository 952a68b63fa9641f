package monitor

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// Clusters sets how the databases do that have marks, and says in the log what has changed of
// a member since.
func (m *Monitor) Clusters(now []Cluster) {
	m.mu.Lock()
	before := m.clusters
	m.clusters = now
	m.mu.Unlock()
	for _, c := range now {
		i := slices.IndexFunc(before, func(b Cluster) bool { return b.Store == c.Store && b.Name == c.Name })
		old := Cluster{}
		if i >= 0 {
			old = before[i]
		}
		m.sayCluster(old, c)
	}
}

func (m *Monitor) sayCluster(old, now Cluster) {
	where := now.Store + " " + now.Name
	if now.Problem != "" && now.Problem != old.Problem {
		m.log.Info("the members of a database are not looked at", "database", where, "why", now.Problem)
	}
	for _, alarm := range now.Alarms {
		if !slices.Contains(old.Alarms, alarm) {
			m.log.Error("a database with marks has raised an alarm", "database", where, "alarm", alarm)
		}
	}
	for _, one := range now.Members {
		failed := ""
		if i := slices.IndexFunc(old.Members, func(b ClusterMember) bool { return b.Address == one.Address }); i >= 0 {
			failed = old.Members[i].Failed
		}
		switch {
		case one.Failed != "" && failed == "":
			m.log.Warn("a member of a database does not serve", "database", where, "member", one.Address, "error", one.Failed)
		case one.Failed == "" && failed != "":
			m.log.Info("a member of a database serves again", "database", where, "member", one.Address)
		}
	}
}

// Findings sets what a check of the databases has found, and says in the log where it is more
// than it was.
func (m *Monitor) Findings(now []Findings) {
	m.mu.Lock()
	before := m.findings
	m.findings = now
	m.mu.Unlock()
	for _, f := range now {
		worse := func(b Findings) bool { return b.Store == f.Store && b.Name == f.Name && b.Failed >= f.Failed }
		if f.Failed > 0 && !slices.ContainsFunc(before, worse) {
			m.log.Warn("something is wrong with a database: see `privyseal check`", "database", f.Store+" "+f.Name, "findings", f.Failed)
		}
	}
}

func clusterDesc(name, help string, more ...string) *prometheus.Desc {
	return prometheus.NewDesc("privyseal_cluster_"+name, help, append([]string{"store", "cluster"}, more...), nil)
}

var (
	clusterLooked  = clusterDesc("looked_timestamp_seconds", "Unix time at which this host last asked the members of a database with marks.")
	clusterVoters  = clusterDesc("voters", "Members that the database has by its own account; absent where nobody said.")
	clusterAlarms  = clusterDesc("alarms", "Alarms that the database has raised; with one it does not write, and nothing is signed. Absent where nobody said.")
	clusterExpires = clusterDesc("certificate_expiry_timestamp_seconds", "Unix time at which our certificate for the database ends.")

	clusterFindings = clusterDesc("findings", "Rows of `privyseal check` about the database that fail, or are in doubt, as of the last ten minutes.", "verdict")

	memberUp      = clusterDesc("member_up", "1 if a member serves, 0 if it did not answer or is a learner.", "member")
	memberLed     = clusterDesc("member_has_leader", "1 if the member knows a leader, 0 if it has lost the majority.", "member")
	memberLeads   = clusterDesc("member_is_leader", "1 if the member leads the others.", "member")
	memberTook    = clusterDesc("member_round_trip_seconds", "Time of a question that the member answers by itself.", "member")
	memberSize    = clusterDesc("member_database_bytes", "Size of the member's database.", "member")
	memberQuota   = clusterDesc("member_database_quota_bytes", "Size at which the member stops to write; absent before etcd 3.6, which does not say it.", "member")
	memberExpires = clusterDesc("member_certificate_expiry_timestamp_seconds", "Unix time at which the member's certificate ends.", "member")
	memberInfo    = clusterDesc("member_info", "1, with the version of the member.", "member", "version")
)

// clusterCollector reads what was seen last of all databases.
type clusterCollector struct{ m *Monitor }

// Describe implements prometheus.Collector.
func (c clusterCollector) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{clusterLooked, clusterVoters, clusterAlarms, clusterExpires, clusterFindings,
		memberUp, memberLed, memberLeads, memberTook, memberSize, memberQuota, memberExpires, memberInfo} {
		out <- desc
	}
}

// Collect implements prometheus.Collector.
func (c clusterCollector) Collect(out chan<- prometheus.Metric) {
	c.m.mu.Lock()
	clusters, findings := c.m.clusters, c.m.findings
	c.m.mu.Unlock()
	for _, f := range findings {
		out <- prometheus.MustNewConstMetric(clusterFindings, prometheus.GaugeValue, float64(f.Failed), f.Store, f.Name, "fail")
		out <- prometheus.MustNewConstMetric(clusterFindings, prometheus.GaugeValue, float64(f.Doubtful), f.Store, f.Name, "doubt")
	}
	for _, one := range clusters {
		one.collect(out)
	}
}

func (c Cluster) collect(out chan<- prometheus.Metric) {
	send := func(desc *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v, append([]string{c.Store, c.Name}, labels...)...)
	}
	if c.Problem != "" {
		return
	}
	send(clusterLooked, unixSeconds(c.Looked))
	if c.Voters > 0 {
		send(clusterVoters, float64(c.Voters))
	}
	if c.Alarms != nil {
		send(clusterAlarms, float64(len(c.Alarms)))
	}
	if !c.Expires.IsZero() {
		send(clusterExpires, unixSeconds(c.Expires))
	}
	for _, m := range c.Members {
		send(memberUp, oneIf(m.Failed == ""), m.Address)
		if m.Version == "" {
			continue
		}
		send(memberLed, oneIf(m.Led), m.Address)
		send(memberLeads, oneIf(m.Leader), m.Address)
		send(memberTook, m.Took, m.Address)
		send(memberSize, float64(m.Size), m.Address)
		send(memberInfo, 1, m.Address, m.Version)
		if m.Quota > 0 {
			send(memberQuota, float64(m.Quota), m.Address)
		}
		if !m.Expires.IsZero() {
			send(memberExpires, unixSeconds(m.Expires), m.Address)
		}
	}
}
