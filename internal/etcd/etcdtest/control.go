package etcdtest

import (
	"encoding/json"
	"testing"
	"time"
)

// Ctl runs etcdctl as root, on all members unless args have --endpoints, and returns what
// it printed. The test fails where it fails.
func (c *Cluster) Ctl(t testing.TB, args ...string) string {
	t.Helper()
	out, err := c.ctl(c.Endpoints(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Kill ends members at once, as kill -9 does.
func (c *Cluster) Kill(list ...int) {
	for _, i := range list {
		c.members[i].kill()
	}
}

// Restart starts members again, after Kill, and waits until they serve clients. That takes
// a majority.
func (c *Cluster) Restart(t testing.TB, list ...int) {
	t.Helper()
	if err := c.run(list); err != nil {
		t.Fatal(err)
	}
}

// Pause stops a member where it is, as a machine that hangs; its connections stay open.
func (c *Cluster) Pause(t testing.TB, i int) {
	t.Helper()
	process := c.members[i].cmd.Process
	if err := process.Signal(stopSignal); err != nil {
		t.Fatal(err)
	}
	until(t, "it is stopped", func() bool { return isStopped(process.Pid) })
	c.members[i].paused = true
}

// Continue lets a paused member go on.
func (c *Cluster) Continue(t testing.TB, i int) {
	t.Helper()
	if err := c.members[i].cmd.Process.Signal(goOnSignal); err != nil {
		t.Fatal(err)
	}
	c.members[i].paused = false
}

// until waits for what another program does and announces to nobody.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v it is still not true that %s", patience, what)
		}
	}
}

// Leader waits until the members that run agree on a leader, and returns its number.
func (c *Cluster) Leader(t testing.TB) (leader int) {
	t.Helper()
	until(t, "there is a leader", func() (found bool) {
		leader, found = c.leader()
		return found
	})
	return leader
}

// Follower returns a member that runs and does not lead.
func (c *Cluster) Follower(t testing.TB) int {
	t.Helper()
	leader := c.Leader(t)
	for i, m := range c.members {
		if i != leader && m.runs() {
			return i
		}
	}
	t.Fatal("no follower runs")
	return -1
}

func (c *Cluster) leader() (int, bool) {
	var up []string
	for _, m := range c.members {
		if m.runs() {
			up = append(up, c.url(m.client))
		}
	}
	out, err := c.ctl(up, "endpoint", "status", "-w", "json")
	var list []struct {
		Endpoint string
		Status   struct {
			Header struct {
				Member uint64 `json:"member_id"`
			}
			Leader uint64
		}
	}
	if err != nil || json.Unmarshal([]byte(out), &list) != nil || len(list) != len(up) {
		return 0, false
	}
	leads := -1
	for _, one := range list {
		if one.Status.Leader != list[0].Status.Leader {
			return 0, false
		}
		if one.Status.Leader == one.Status.Header.Member {
			for i, m := range c.members {
				if c.url(m.client) == one.Endpoint {
					leads = i
				}
			}
		}
	}
	return leads, leads >= 0
}
