package etcdtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Snapshot has a member write a snapshot, as operators make them, and returns its path.
func (c *Cluster) Snapshot(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "snapshot.db")
	if _, err := c.ctl(c.Endpoints()[c.Leader(t):][:1], "snapshot", "save", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// Restored says how a cluster comes out of a snapshot.
type Restored struct {
	Token string // of the new cluster, and so its id; unless said that of before
	Bump  uint64 // by how much the revision is raised; what was before counts as compacted
}

// Restore replaces what all members have by a snapshot, and starts them.
func (c *Cluster) Restore(t testing.TB, snapshot string, r Restored) {
	t.Helper()
	c.Kill(c.all()...)
	if r.Token != "" {
		c.token = r.Token
	}
	tool := "etcdutl"
	if c.isOld() {
		tool = "etcdctl"
	}
	for _, m := range c.members {
		if err := os.RemoveAll(m.data()); err != nil {
			t.Fatal(err)
		}
		args := []string{"snapshot", "restore", snapshot, "--name", m.name, "--data-dir", m.data(),
			"--initial-cluster", c.initial(c.members), "--initial-cluster-token", c.token, "--initial-advertise-peer-urls", c.url(m.reached)}
		if r.Bump != 0 {
			args = append(args, "--bump-revision", fmt.Sprint(r.Bump), "--mark-compacted")
		}
		if _, err := c.tool(tool, args); err != nil {
			t.Fatal(err)
		}
	}
	c.Restart(t, c.all()...)
}

// CanBump reports whether the line of etcd can raise revisions as it restores.
func (c *Cluster) CanBump() bool {
	out, _ := c.tool("etcdutl", []string{"snapshot", "restore", "--help"})
	return strings.Contains(out, "--bump-revision")
}

// Disks are copies of what members had on their disks, as of a machine that is restored
// whole.
type Disks struct{ of map[int]string }

// Copy kills members, copies their disks and starts them again.
func (c *Cluster) Copy(t testing.TB, list ...int) Disks {
	t.Helper()
	c.Kill(list...)
	disks := Disks{of: map[int]string{}}
	for _, i := range list {
		disks.of[i] = filepath.Join(t.TempDir(), "disk")
		copyFolder(t, c.members[i].data(), disks.of[i])
	}
	c.Restart(t, list...)
	return disks
}

// PutBack kills the members of whom there are copies, and starts them with those, together
// with others that are dead and have what they had. A minority may end by itself: it has
// forgotten what the leader knows that it has.
func (c *Cluster) PutBack(t testing.TB, disks Disks, others ...int) {
	t.Helper()
	list := others
	for i, disk := range disks.of {
		c.Kill(i)
		if err := os.RemoveAll(c.members[i].data()); err != nil {
			t.Fatal(err)
		}
		copyFolder(t, disk, c.members[i].data())
		list = append(list, i)
	}
	if len(list) > len(c.members)/2 {
		c.Restart(t, list...)
		return
	}
	for _, i := range list {
		if err := c.begin(i); err != nil {
			t.Fatal(err)
		}
		if err := c.members[i].wait(); err != nil && !c.members[i].hasEnded() {
			t.Fatal(err)
		}
	}
}

func copyFolder(t testing.TB, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// ForceNew kills all members and makes a cluster of one alone, by --force-new-cluster: what
// that one does not know to be committed is lost. That may be the last thing which clients
// know to be written, even if it led. The others stay dead until Join.
func (c *Cluster) ForceNew(t testing.TB, i int) {
	t.Helper()
	c.Kill(c.all()...)
	if err := c.run([]int{i}, "--force-new-cluster"); err != nil {
		t.Fatal(err)
	}
	// Started with that flag again it would throw out who has joined.
	c.Kill(i)
	c.Restart(t, i)
}

// Join adds a dead member, without what it had, to those that run. It follows the leader
// then, and serves clients only seconds later: Await. The flags are those of `member add`,
// such as --learner.
func (c *Cluster) Join(t testing.TB, i int, flags ...string) {
	t.Helper()
	m := c.members[i]
	if err := os.RemoveAll(m.data()); err != nil {
		t.Fatal(err)
	}
	peers := []*member{m}
	for _, other := range c.members {
		if other.runs() {
			peers = append(peers, other)
		}
	}
	if _, err := c.ctl(c.serving(i), append([]string{"member", "add", m.name, "--peer-urls", c.url(m.reached)}, flags...)...); err != nil {
		t.Fatal(err)
	}
	err := c.begin(i, "--initial-cluster-state", "existing", "--initial-cluster", c.initial(peers))
	if err == nil {
		err = m.waitFor(m.led, "have a leader")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Await waits until members that have joined serve clients.
func (c *Cluster) Await(t testing.TB, list ...int) {
	t.Helper()
	for _, i := range list {
		if err := c.members[i].wait(); err != nil {
			t.Fatal(err)
		}
	}
}

// Remove takes a member out of the cluster, for good: it ends by itself if it runs. The
// others have to be a majority with it and without it, and have a leader afterwards.
func (c *Cluster) Remove(t testing.TB, i int) {
	t.Helper()
	c.Leader(t) // without one etcd drops a change of members
	m := c.members[i]
	ran, others := m.runs(), c.serving(i)
	id := c.ID(t, i)
	if _, err := c.ctl(others, "member", "remove", id); err != nil {
		t.Fatal(err)
	}
	if ran {
		until(t, "the member that was removed has ended", m.hasEnded)
	}
	c.Kill(i)
	c.Leader(t)
}

// Promote makes a voter of a learner, once that knows what the others know.
func (c *Cluster) Promote(t testing.TB, i int) {
	t.Helper()
	others := c.serving(i)
	id := c.ID(t, i)
	until(t, "the learner is promoted", func() bool {
		_, err := c.ctl(others, "member", "promote", id)
		return err == nil
	})
}
