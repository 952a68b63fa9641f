package etcdtest

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// A cluster keeps what it was given over the loss of any member, and of all.
func TestMembersComeAndGo(t *testing.T) {
	t.Parallel()
	c := Start(t, Options{})
	c.Ctl(t, "put", "/privyseal/x", "one")
	leader := c.Leader(t)
	c.Kill(leader)
	c.Ctl(t, "--endpoints", c.Endpoints()[c.Follower(t)], "put", "/privyseal/x", "two")
	if now := c.Leader(t); now == leader {
		t.Errorf("member %d leads and is dead", now)
	}
	c.Kill(c.Follower(t))
	for i := range 3 {
		c.Kill(i)
	}
	c.Restart(t, 0, 1, 2)
	if value := c.Ctl(t, "get", "--print-value-only", "/privyseal/x"); value != "two\n" {
		t.Errorf("the value is %q", value)
	}
	leader = c.Leader(t)
	c.Pause(t, leader)
	if now := c.Leader(t); now == leader {
		t.Errorf("member %d leads and is stopped", now)
	}
	c.Continue(t, leader)
	c.Leader(t)
}

// The user of the signers has rights below the prefix of the tests, and to no other key.
func TestRights(t *testing.T) {
	c := Shared(t)
	if user := c.Ctl(t, "user", "get", "signer", "--detail"); !strings.Contains(user, "[/privyseal/, /privyseal0)") {
		t.Errorf("signer has the rights %s", user)
	}
}

func (c *Cluster) value(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(c.Ctl(t, "--endpoints", c.Endpoints()[c.Leader(t)], "get", "--print-value-only", "/privyseal/x"))
}

func (c *Cluster) id(t *testing.T) string {
	t.Helper()
	_, id, _ := strings.Cut(c.Ctl(t, "--endpoints", c.Endpoints()[c.Leader(t)], "get", "/", "-w", "json"), `"cluster_id":`)
	id, _, _ = strings.Cut(id, ",")
	return id
}

// Each way in which a cluster comes to have an older state gives that state.
func TestRestores(t *testing.T) {
	t.Parallel()
	c := Start(t, Options{})
	c.Ctl(t, "put", "/privyseal/x", "old")
	snapshot, before := c.Snapshot(t), c.id(t)
	for _, r := range []Restored{{}, {Token: "another"}, {Bump: 1000}} {
		if r.Bump > 0 && !c.CanBump() {
			continue
		}
		c.Ctl(t, "put", "/privyseal/x", "new")
		c.Restore(t, snapshot, r)
		if value := c.value(t); value != "old" {
			t.Errorf("%+v: the value is %q", r, value)
		}
		if same := c.id(t) == before; same != (c.token == "etcdtest") {
			t.Errorf("%+v: the cluster's id is the same: %v", r, same)
		}
	}
	disks := c.Copy(t, 0, 1)
	c.Kill(2)
	c.Ctl(t, "--endpoints", c.Endpoints()[c.Leader(t)], "put", "/privyseal/x", "new")
	c.PutBack(t, disks)
	if value := c.value(t); value != "old" {
		t.Errorf("out of copied disks comes %q", value)
	}
	c.Ctl(t, "--endpoints", c.Endpoints()[c.Leader(t)], "put", "/privyseal/x", "new")
	first := c.Leader(t)
	c.Ctl(t, "--endpoints", c.Endpoints()[first], "put", "/privyseal/y", "after which x is known to be committed")
	c.ForceNew(t, first)
	if value := c.value(t); value != "new" {
		t.Errorf("in a cluster of one is %q", value)
	}
	for i := range 3 {
		if i != first {
			c.Join(t, i)
			c.Await(t, i)
		}
	}
	if value := c.value(t); value != "new" {
		t.Errorf("after the others joined is %q", value)
	}
}

// A full cluster takes nothing until there is room, and slow disks are slow.
func TestDisks(t *testing.T) {
	t.Parallel()
	c := Start(t, Options{Flags: []string{"--quota-backend-bytes=8388608"}})
	c.Fill(t)
	if alarms := c.Ctl(t, "alarm", "list"); !strings.Contains(alarms, "NOSPACE") {
		t.Errorf("the alarms are %q", alarms)
	}
	c.MakeRoom(t)
	c.Ctl(t, "put", "/privyseal/x", "one")
	fast := c.SlowSyncs(t, c.Leader(t), 300*time.Millisecond)
	start := time.Now()
	c.Ctl(t, "--endpoints", c.Endpoints()[c.Leader(t)], "put", "/privyseal/x", "two")
	if took := time.Since(start); took < 300*time.Millisecond {
		t.Errorf("a put on a slow disk takes %v", took)
	}
	fast()
	c.Ctl(t, "--endpoints", c.Endpoints()[c.Leader(t)], "put", "/privyseal/x", "three")
}
