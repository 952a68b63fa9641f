package status

import (
	"fmt"
	"strings"
	"time"

	"privyseal/internal/command/screen"
	"privyseal/internal/cure"
	"privyseal/internal/monitor"
)

// stale is how old a look at a database may be before its age is said.
const stale = time.Minute

// clusterRows returns what there is to say of a database with marks.
func clusterRows(c monitor.Cluster, now time.Time) (rows []pageRow) {
	if c.Problem != "" {
		return []pageRow{{label: "members", word: "not seen:", text: strings.ReplaceAll(c.Problem, "\n", "; "), tone: screen.Doubt}}
	}
	if now.Sub(c.Looked) > stale {
		rows = append(rows, pageRow{label: "members", word: "last seen", text: Age(c.Looked, now) + " ago", tone: screen.Doubt})
	}
	for _, alarm := range c.Alarms {
		rows = append(rows, pageRow{label: "alarm", word: alarm + ",", text: "so that nothing can be signed", tone: screen.Alarm})
	}
	for _, m := range c.Members {
		rows = append(rows, memberRow(c.Store, m))
	}
	if c.Voters > 0 && c.Voters != len(c.Members) {
		rows = append(rows, pageRow{label: "members", text: fmt.Sprintf("%d by its own account, and %d in the config", c.Voters, len(c.Members))})
	}
	return rows
}

// findingRows returns whether `privyseal check` has more to say of a database.
func findingRows(c monitor.Cluster, all []monitor.Findings) (rows []pageRow) {
	for _, f := range all {
		if f.Store == c.Store && f.Name == c.Name && f.Failed > 0 {
			rows = append(rows, pageRow{label: "check", word: "failed:", text: "privyseal check has " + cure.Count(f.Failed, "finding"), tone: screen.Alarm})
		}
	}
	return rows
}

func memberRow(store string, m monitor.ClusterMember) pageRow {
	if m.Failed != "" {
		text := strings.ReplaceAll(m.Failed, "\n", "; ")
		if !strings.Contains(text, m.Address) {
			text = m.Address + ": " + text
		}
		return pageRow{label: "member", word: "failed:", text: text, tone: screen.Alarm}
	}
	role, tone := "follower", screen.Fine
	switch {
	case !m.Led:
		role, tone = "without a leader", screen.Alarm
	case m.Leader:
		role = "leader"
	}
	size := cure.Size(m.Size)
	if m.Quota > 0 {
		size += " of " + cure.Size(m.Quota)
	}
	return pageRow{label: "member", word: "up", tone: tone, text: fmt.Sprintf("%s, %s, %s %s, %s, answers in %v", m.Address, role, store, m.Version, size, seconds(m.Took))}
}
