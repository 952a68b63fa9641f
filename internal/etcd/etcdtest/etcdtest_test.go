package etcdtest

import (
	"os"
	"strings"
	"testing"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// A cluster keeps what it was given over the loss of any member, and of all.
func TestMembersComeAndGo(t *testing.T) {
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

// Who has no certificate of the CA gets nowhere, and a name without rights to no key.
func TestRights(t *testing.T) {
	c := Shared(t)
	if user := c.Ctl(t, "user", "get", "signer", "--detail"); !strings.Contains(user, "[/privyseal/, /privyseal0)") {
		t.Errorf("signer has the rights %s", user)
	}
}
