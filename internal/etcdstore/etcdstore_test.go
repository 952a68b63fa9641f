package etcdstore_test

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"privyseal/internal/etcd"
	"privyseal/internal/etcd/etcdtest"
	"privyseal/internal/etcdstore"
	"privyseal/internal/filestore"
	"privyseal/internal/filestore/filestoretest"
	"privyseal/internal/sharedmark"
	"privyseal/internal/watermark"
	"privyseal/internal/watermark/storetest"
)

func TestMain(m *testing.M) { os.Exit(etcdtest.Main(m)) }

var id = watermark.ID{ChainID: "chain-1", Key: [32]byte{1, 2, 3}}

// host is one of those that share a mark: how it reaches the cluster, and its floor.
type host struct {
	t     *testing.T
	c     etcdstore.Config
	floor filestore.Config
}

// newHost returns a host with a floor that has not joined.
func newHost(t *testing.T, files etcdtest.Files, prefix string, endpoints ...string) *host {
	t.Helper()
	h := &host{t: t, c: etcdstore.Config{
		Dialer:    etcd.Dialer{TLS: func() (*tls.Config, error) { return files.Config() }},
		Endpoints: endpoints,
		Key:       etcdstore.Key(prefix, id),
	}}
	h.floor = filestore.Config{Path: filepath.Join(filestoretest.Folder(t), "state.floor"), ID: sharedmark.Config{ID: id}.FloorID()}
	if err := filestore.Create(h.floor, watermark.Saved{}); err != nil {
		t.Fatal(err)
	}
	return h
}

// config is for one use: of a signer, or of an operator's command.
func (h *host) config() sharedmark.Config {
	h.t.Helper()
	floor, err := filestore.Open(h.t.Context(), h.floor)
	if err != nil {
		h.t.Fatal(err)
	}
	return sharedmark.Config{ID: id, Engine: etcdstore.New(h.c), Floor: floor}
}

// do runs an operator's command.
func (h *host) do(command func(context.Context, sharedmark.Config) error) error {
	h.t.Helper()
	c := h.config()
	defer c.Floor.Close()
	return command(h.t.Context(), c)
}

func (h *host) must(command func(context.Context, sharedmark.Config) error) *host {
	h.t.Helper()
	if err := h.do(command); err != nil {
		h.t.Fatal(err)
	}
	return h
}

func (h *host) signer() *sharedmark.Store { return sharedmark.New(h.config()) }

func create(ctx context.Context, c sharedmark.Config) error {
	return sharedmark.Create(ctx, c, watermark.Saved{})
}

func TestSuite(t *testing.T) {
	c := etcdtest.Shared(t)
	storetest.Run(t, func(t *testing.T) watermark.Store {
		return newHost(t, c.Signer, c.Prefix(), c.Endpoints()...).must(create).signer()
	})
	storetest.RunShared(t, func(t *testing.T) (a, b watermark.Store) {
		prefix := c.Prefix()
		first := newHost(t, c.Signer, prefix, c.Endpoints()...).must(create)
		second := newHost(t, c.Signer, prefix, c.Endpoints()...).must(sharedmark.Join)
		return first.signer(), second.signer()
	})
}

// raise replaces the mark by that of the next height.
func raise(t *testing.T, s *sharedmark.Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	saved, err := s.Load(ctx)
	if err == nil {
		_, err = s.Replace(ctx, saved, watermark.Mark{Height: saved.Mark.Height + 1, Step: watermark.StepPrevote, SignBytes: []byte("vote")})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A signer goes on when the member that it uses dies or hangs, whichever that is.
func TestMembersThatFail(t *testing.T) {
	c := etcdtest.Start(t, etcdtest.Options{})
	h := newHost(t, c.Signer, c.Prefix(), c.Endpoints()...).must(create)
	s := h.signer()
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
	err := h.do(create)
	if !errors.Is(err, sharedmark.ErrRefused) || !errors.Is(err, sharedmark.ErrNotSent) {
		t.Fatal(err)
	}
	t.Log(err)
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
	for _, want := range []bool{true, false, true, false} {
		p, fresh, err := e.Ready(t.Context())
		if err != nil || fresh != want || fresh != (len(p.Members) == 3) {
			t.Fatalf("%v after the start: %v, fresh %v, %v", now, p, fresh, err)
		}
		now = now.Add(20 * time.Second)
	}
	if connections != 1 {
		t.Errorf("there were %d connections", connections)
	}
}
