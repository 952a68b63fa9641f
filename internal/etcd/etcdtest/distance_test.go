package etcdtest

import (
	"testing"
	"time"
)

// A request takes a round trip to a member that is away; a write takes one more where the
// members are apart.
func TestDistance(t *testing.T) {
	const oneWay = 50 * time.Millisecond
	c := Start(t, Options{Apart: oneWay})
	leader := c.Leader(t)
	for url, least := range map[string]time.Duration{
		c.Endpoints()[leader]:     2 * oneWay,
		c.Away(t, leader, oneWay): 4 * oneWay,
	} {
		start := time.Now()
		if _, err := c.ctl([]string{url}, "put", c.Prefix(), "x"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < least {
			t.Errorf("a write by %s takes %v", url, took)
		}
	}
}
