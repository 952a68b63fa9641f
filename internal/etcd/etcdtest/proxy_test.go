package etcdtest

import (
	"strings"
	"testing"
)

// Each fate has the effect that it promises, at the member and at the client.
func TestProxy(t *testing.T) {
	c := Shared(t)
	key := c.Prefix() + "/x"
	for _, r := range []struct {
		fate     Fate
		executed bool // at once
		released bool // at Release
		waits    bool // the client, until the connection ends
	}{
		{Pass, true, true, false},
		{Lose, false, false, true},
		{LoseAnswer, true, true, true},
		{Cut, false, false, false},
		{CutAnswer, true, true, false},
		{CutHalf, true, true, false},
		{Hold, false, true, true},
		{Double, true, true, false},
	} {
		p := c.Proxy(t, 0, c.Signer)
		c.Ctl(t, "put", key, "before")
		p.Next("Put", r.fate)
		done := make(chan error)
		go func() {
			_, err := c.ctl([]string{p.URL}, "put", key, "ours")
			done <- err
		}()
		if r.fate != Pass && p.Struck(t) != r.fate {
			t.Errorf("another fate than %v struck", r.fate)
		}
		check := func(when string, executed bool) {
			t.Helper()
			if value := strings.TrimSpace(c.Ctl(t, "get", "--print-value-only", key)); (value == "ours") != executed {
				t.Errorf("fate %d, %s: the value is %q", r.fate, when, value)
			}
		}
		if !r.waits {
			if err := <-done; (err == nil) != (r.fate == Pass || r.fate == Double) {
				t.Errorf("fate %d: the client says %v", r.fate, err)
			}
		}
		check("at once", r.executed)
		if r.waits && r.fate != Hold {
			p.Drop()
			<-done
		}
		if r.fate == Double {
			c.Ctl(t, "put", key, "after")
		}
		p.Release(t)
		check("then", r.released)
		if r.fate == Hold {
			<-done
		}
	}
}
