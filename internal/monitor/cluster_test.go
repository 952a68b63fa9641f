package monitor

import (
	"bytes"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"privyseal/internal/watermark"
)

// What is known of each member has its series, and what is not has none.
func TestClusterMetrics(t *testing.T) {
	m, _ := newTestChain("chain-1", "chain-1", watermark.Saved{})
	before := series(t, m)
	at := func(seconds int64) time.Time { return time.Unix(seconds, 0) }
	m.Clusters([]Cluster{
		{Store: "etcd", Name: "main", Looked: at(1000), Expires: at(2000), Voters: 3, Alarms: []string{"NOSPACE of member 1"}, Members: []ClusterMember{
			{Address: "https://a", Version: "3.7.3", Leader: true, Led: true, Took: 0.25, Size: 7, Quota: 9, Expires: at(3000)},
			{Address: "https://b", Version: "3.5.28", Took: 0.5, Size: 8},
			{Address: "https://c", Failed: "gone"},
		}},
		{Store: "etcd", Name: "enclaves", Looked: at(1000), Problem: "the key is wrapped"},
		{Store: "etcd", Name: "quiet", Looked: at(1001), Alarms: []string{}},
		{Store: "etcd", Name: "torn", Looked: at(1002), Voters: 5},
	})
	m.Findings([]Findings{{Store: "etcd", Name: "main", Failed: 2, Doubtful: 1}})
	got := map[string]string{}
	for name, value := range series(t, m) {
		if _, was := before[name]; !was {
			got[strings.ReplaceAll(strings.TrimPrefix(name, "privyseal_cluster_"), `,store="etcd"`, "")] = value
		}
	}
	want := map[string]string{
		`looked_timestamp_seconds{cluster="quiet"}`:                                      "1001",
		`alarms{cluster="quiet"}`:                                                        "0",
		`looked_timestamp_seconds{cluster="torn"}`:                                       "1002",
		`voters{cluster="torn"}`:                                                         "5",
		`looked_timestamp_seconds{cluster="main"}`:                                       "1000",
		`findings{cluster="main",verdict="fail"}`:                                        "2",
		`findings{cluster="main",verdict="doubt"}`:                                       "1",
		`voters{cluster="main"}`:                                                         "3",
		`alarms{cluster="main"}`:                                                         "1",
		`certificate_expiry_timestamp_seconds{cluster="main"}`:                           "2000",
		`member_up{cluster="main",member="https://a"}`:                                   "1",
		`member_up{cluster="main",member="https://b"}`:                                   "1",
		`member_up{cluster="main",member="https://c"}`:                                   "0",
		`member_has_leader{cluster="main",member="https://a"}`:                           "1",
		`member_has_leader{cluster="main",member="https://b"}`:                           "0",
		`member_is_leader{cluster="main",member="https://a"}`:                            "1",
		`member_is_leader{cluster="main",member="https://b"}`:                            "0",
		`member_round_trip_seconds{cluster="main",member="https://a"}`:                   "0.25",
		`member_round_trip_seconds{cluster="main",member="https://b"}`:                   "0.5",
		`member_database_bytes{cluster="main",member="https://a"}`:                       "7",
		`member_database_bytes{cluster="main",member="https://b"}`:                       "8",
		`member_database_quota_bytes{cluster="main",member="https://a"}`:                 "9",
		`member_certificate_expiry_timestamp_seconds{cluster="main",member="https://a"}`: "3000",
		`member_info{cluster="main",member="https://a",version="3.7.3"}`:                 "1",
		`member_info{cluster="main",member="https://b",version="3.5.28"}`:                "1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	m.Clusters(nil)
	m.Findings(nil)
	for _, name := range slices.Sorted(maps.Keys(series(t, m))) {
		if strings.Contains(name, "cluster") {
			t.Errorf("%s is still there", name)
		}
	}
}

// The log says once what has changed.
func TestClusterIsSaidOnce(t *testing.T) {
	look := func(failed string, alarms ...string) []Cluster {
		return []Cluster{{Store: "etcd", Name: "main", Alarms: alarms, Members: []ClusterMember{{Address: "https://a", Failed: failed}}}}
	}
	unseen := []Cluster{{Store: "etcd", Name: "main", Problem: "the key is wrapped"}}
	var log bytes.Buffer
	m := New(slog.New(slog.NewTextHandler(&log, nil)), "v1")
	for _, now := range [][]Cluster{look(""), look("gone"), look("no answer"), look("", "NOSPACE"), look("", "NOSPACE"), unseen, unseen} {
		m.Clusters(now)
	}
	for _, failed := range []int{0, 2, 2, 1, 0} {
		m.Findings([]Findings{{Store: "etcd", Name: "main", Failed: failed, Doubtful: 1}})
	}
	var got []string
	for line := range strings.Lines(log.String()) {
		_, text, _ := strings.Cut(strings.TrimSpace(line), " level=")
		got = append(got, text)
	}
	want := []string{
		`WARN msg="a member of a database does not serve" database="etcd main" member=https://a error=gone`,
		`ERROR msg="a database with marks has raised an alarm" database="etcd main" alarm=NOSPACE`,
		`INFO msg="a member of a database serves again" database="etcd main" member=https://a`,
		`INFO msg="the members of a database are not looked at" database="etcd main" why="the key is wrapped"`,
		"WARN msg=\"something is wrong with a database: see `privyseal check`\" database=\"etcd main\" findings=2",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
