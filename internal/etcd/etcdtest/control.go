package etcdtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
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

// Update has a member go on as a program of another line, such as "3.6". Without that the test
// is skipped.
func (c *Cluster) Update(t testing.TB, i int, line string) {
	t.Helper()
	_, version, err := programs(line)
	skipOrFail(t, err)
	c.Kill(i)
	c.members[i].version = version
	c.Restart(t, i)
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

// Away returns the URL of a member that is so far away: what is sent either way arrives
// that much later. It is there until the test ends.
func (c *Cluster) Away(t testing.TB, member int, oneWay time.Duration) string {
	t.Helper()
	l, err := newLink(c.host, c.members[member].client, oneWay)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return c.url(l.addr())
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

// Leader waits until the members that serve clients agree on a leader, and returns its
// number.
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
	up := c.serving(-1)
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

// serving returns the URLs of the members that serve clients, but for one.
func (c *Cluster) serving(but int) (urls []string) {
	for i, m := range c.members {
		if i != but && m.serves() {
			urls = append(urls, c.url(m.client))
		}
	}
	return urls
}

// ID returns the id of a member, in hex, as etcdctl takes it.
func (c *Cluster) ID(t testing.TB, i int) string {
	t.Helper()
	list, err := c.ctl(c.serving(-1), "member", "list")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(list) { // a name it has only once it serves clients
		if fields := strings.Split(line, ", "); len(fields) > 3 && fields[3] == c.url(c.members[i].reached) {
			return fields[0]
		}
	}
	t.Fatalf("member %d is none", i)
	return ""
}

// Fill writes values outside of /privyseal/ until etcd is out of space. Give it a small
// quota: Options.Flags "--quota-backend-bytes=16777216".
func (c *Cluster) Fill(t testing.TB) {
	t.Helper()
	value := strings.Repeat("x", 120<<10) // what a command line may have
	for i := range 1000 {
		_, err := c.ctl(c.Endpoints(), "put", "/filling", value)
		if err != nil && strings.Contains(err.Error(), "database space exceeded") {
			t.Logf("out of space after %d values", i)
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("etcd is not out of space after 120 MB")
}

// MakeRoom is what an operator does then: compaction, defragmentation, and the end of the
// alarm.
func (c *Cluster) MakeRoom(t testing.TB) {
	t.Helper()
	c.Compact(t)
	c.Ctl(t, "defrag")
	c.Ctl(t, "alarm", "disarm")
}

// Renew gives a member that runs another certificate, which is valid for a year.
func (c *Cluster) Renew(t testing.TB, i int) {
	t.Helper()
	renewed, err := c.CA.server([]string{c.host, "127.0.0.1"})
	if err == nil {
		err = errors.Join(os.Rename(renewed.Key, c.members[i].certificate.Key), os.Rename(renewed.Certificate, c.members[i].certificate.Certificate))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Compact forgets all revisions but the newest.
func (c *Cluster) Compact(t testing.TB) {
	t.Helper()
	var got struct{ Header struct{ Revision int64 } }
	if err := json.Unmarshal([]byte(c.Ctl(t, "get", "/", "-w", "json")), &got); err != nil {
		t.Fatal(err)
	}
	c.Ctl(t, "compaction", strconv.FormatInt(got.Header.Revision, 10), "--physical")
}

// SlowSyncs makes each fdatasync of a member take longer, until the returned function is
// called or the test ends. The test is skipped where strace may not do that.
func (c *Cluster) SlowSyncs(t testing.TB, i int, by time.Duration) (fast func()) {
	t.Helper()
	cmd := exec.Command("strace", "-f", "-q", "-p", strconv.Itoa(c.members[i].cmd.Process.Pid), "-o", os.DevNull,
		"-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_enter="+strconv.FormatInt(by.Microseconds(), 10))
	cmd.SysProcAttr = endsWithUs()
	if err := cmd.Start(); err != nil {
		skipOrFail(t, fmt.Errorf("%w: %v; `scripts/setup debian` brings it", errNoStrace, err))
	}
	var once sync.Once
	ended := make(chan struct{})
	fast = func() {
		once.Do(func() {
			cmd.Process.Signal(os.Interrupt) // it lets go of the member
			<-ended
		})
	}
	t.Cleanup(fast)
	go func() { cmd.Wait(); close(ended) }()
	until(t, "strace has the member", func() bool {
		select {
		case <-ended:
			skipOrFail(t, fmt.Errorf("%w: it may not trace a process that it has not started (ptrace), which `make test` cannot change", errNoStrace))
		default:
		}
		return isTraced(c.members[i].cmd.Process.Pid)
	})
	return fast
}
