package etcdstore_test

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"privyseal/internal/etcd"
	"privyseal/internal/etcd/etcdtest"
	"privyseal/internal/etcdstore"
	"privyseal/internal/sharedmark"
	"privyseal/internal/sharedmark/enginetest"
	"privyseal/internal/watermark"
)

func TestMain(m *testing.M) { os.Exit(etcdtest.Main(m)) }

var id = watermark.ID{ChainID: "chain-1", Key: [32]byte{1, 2, 3}}

// host is one of those that share a mark, and how it reaches the cluster.
type host struct {
	*enginetest.Host
	c     etcdstore.Config
	shows atomic.Pointer[etcdtest.Files] // its certificate, as of the next connection
}

// newHost returns a host that has not joined.
func newHost(t *testing.T, files etcdtest.Files, prefix string, endpoints ...string) *host {
	t.Helper()
	h := &host{}
	h.shows.Store(&files)
	h.c = etcdstore.Config{
		Dialer:    etcd.Dialer{TLS: func() (*tls.Config, error) { return h.shows.Load().Config() }},
		Endpoints: endpoints,
		Key:       etcdstore.Key(prefix, id),
	}
	h.Host = enginetest.NewHost(t, id, func() sharedmark.Engine { return etcdstore.New(h.c) })
	return h
}

func TestSuite(t *testing.T) {
	c := etcdtest.Shared(t)
	enginetest.Suite(t, id, func(t *testing.T) func() sharedmark.Engine {
		prefix := c.Prefix()
		return func() sharedmark.Engine {
			return etcdstore.New(etcdstore.Config{
				Dialer:    etcd.Dialer{TLS: func() (*tls.Config, error) { return c.Signer.Config() }},
				Endpoints: c.Endpoints(), Key: etcdstore.Key(prefix, id),
				// Nothing fails here; on a busy machine an answer is late, and not lost.
				Try: time.Minute,
			})
		}
	})
}

// raise replaces the mark by that of the next height.
func raise(t *testing.T, s *sharedmark.Store) {
	t.Helper()
	if err := enginetest.Raise(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}

// A signer goes on when the member that it uses dies or hangs, whichever that is.
func TestMembersThatFail(t *testing.T) {
	c := etcdtest.Start(t, etcdtest.Options{})
	h := newHost(t, c.Signer, c.Prefix(), c.Endpoints()...).Must(enginetest.Create)
	s := h.Signer()
	defer s.Close()
	raise(t, s)
	for range 2 {
		leader := c.Leader(t)
		c.Kill(leader)
		raise(t, s)
		c.Restart(t, leader)
		follower := c.Follower(t)
		c.Pause(t, follower)
		raise(t, s)
		c.Continue(t, follower)
		leader = c.Leader(t)
		c.Pause(t, leader)
		raise(t, s)
		c.Continue(t, leader)
		c.Leader(t)
	}
}

// Rights that are taken away end a call at once, with one message.
func TestRights(t *testing.T) {
	c := etcdtest.Shared(t)
	h := newHost(t, c.Signer, "/others", c.Endpoints()...)
	err := h.Do(enginetest.Create)
	if !errors.Is(err, sharedmark.ErrRefused) || !errors.Is(err, sharedmark.ErrNotSent) {
		t.Fatal(err)
	}
	t.Log(err)
}

// Another prefix is another place: what this host shares is not there, whether there is a mark or
// none, and nobody adopts it. Another way to the same one is none.
func TestPlace(t *testing.T) {
	c := etcdtest.Shared(t)
	prefix := c.Prefix()
	h := newHost(t, c.Signer, prefix, c.Endpoints()...)
	h.Must(enginetest.Create)
	other := newHost(t, c.Signer, prefix+"/other", c.Endpoints()...)
	right := h.c.Key
	for range 2 {
		h.c.Key = other.c.Key
		for _, do := range []func(context.Context, sharedmark.Config) error{sharedmark.Adopt, sharedmark.Join, enginetest.Create} {
			if err := h.Do(do); !errors.Is(err, sharedmark.ErrPlace) {
				t.Fatal(err)
			}
		}
		s := h.Signer()
		_, err := s.Load(t.Context())
		s.Close()
		if !errors.Is(err, sharedmark.ErrPlace) {
			t.Fatal(err)
		}
		h.c.Key, h.c.Endpoints = right, c.Endpoints()[1:]
		s = h.Signer()
		raise(t, s)
		s.Close()
		if other.Do(sharedmark.Join) != nil {
			other.Must(enginetest.Create)
		}
	}
}

// A look at the cluster does not count for ever, and another one is on the same connection.
func TestLooksAgain(t *testing.T) {
	c := etcdtest.Shared(t)
	h := newHost(t, c.Signer, c.Prefix(), c.Endpoints()...)
	connections := 0
	h.c.Dialer.TLS = func() (*tls.Config, error) { connections++; return c.Signer.Config() }
	h.c.Try = time.Minute
	e := etcdstore.New(h.c)
	defer e.Close()
	now := time.Now()
	e.SetClock(func() time.Time { return now })
	for _, step := range []struct {
		after time.Duration
		fresh bool
	}{{0, true}, {20 * time.Second, false}, {20 * time.Second, true}, {20 * time.Second, false}, {-24 * time.Hour, true}} {
		now = now.Add(step.after)
		p, fresh, err := e.Ready(t.Context())
		if err != nil || fresh != step.fresh || fresh != (len(p.Members) == 3) {
			t.Fatalf("%v after the one before: %v, fresh %v, %v", step.after, p, fresh, err)
		}
	}
	if connections != 1 {
		t.Errorf("there were %d connections", connections)
	}
}
