package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"privyseal/internal/etcd"
	"privyseal/internal/etcd/etcdtest"
	"privyseal/internal/etcdstore"
	"privyseal/internal/filestore"
	"privyseal/internal/sharedmark"
	"privyseal/internal/watermark"
)

const recordSize = 350 // of a value in etcd, about that of a record

// harness is what etcdtest takes for a test: what makes a test fail ends the section.
type harness struct {
	testing.TB // the other methods are not called
	b          *bench
	ctx        context.Context
	folders    int
	atEnd      []func()
}

// failure is what a harness panics with.
type failure struct{ error }

func (h *harness) Helper()                   {}
func (h *harness) Fatal(args ...any)         { panic(failure{errors.New(fmt.Sprint(args...))}) }
func (h *harness) Fatalf(s string, a ...any) { panic(failure{fmt.Errorf(s, a...)}) }
func (h *harness) Log(...any)                {}
func (h *harness) Logf(string, ...any)       {}
func (h *harness) Cleanup(f func())          { h.atEnd = append(h.atEnd, f) }
func (h *harness) Context() context.Context  { return h.ctx }

// must ends the section after an error.
func (h *harness) must(err error) {
	if err != nil {
		h.Fatal(err)
	}
}

// end calls what is to be called at the end, and turns a panic of the harness into an error.
func (h *harness) end(err *error) {
	failed := recover()
	for i := range h.atEnd {
		h.atEnd[len(h.atEnd)-1-i]()
	}
	switch f, ok := failed.(failure); {
	case ok:
		*err = f.error
	case failed != nil:
		panic(failed)
	}
}

// onEtcd measures on a cluster of three members, whose files are on the disk.
func (b *bench) onEtcd(ctx context.Context, name string, o etcdtest.Options, measure func(*harness, *etcdtest.Cluster) []row) (rows []row, err error) {
	if _, err := output(ctx, filepath.Join(b.root, "scripts", "setup"), "etcd"); err != nil {
		return nil, err
	}
	dir := b.path(name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	h := &harness{b: b, ctx: ctx}
	defer h.end(&err)
	c, err := etcdtest.Launch(dir, o)
	if err != nil {
		return nil, err
	}
	h.Cleanup(c.Stop)
	return measure(h, c), nil
}

// from returns the endpoints of a cluster, that of a member first.
func from(c *etcdtest.Cluster, member int) []string {
	urls := c.Endpoints()
	return append(append([]string{}, urls[member:]...), urls[:member]...)
}

// signerTLS returns how a signer identifies itself.
func signerTLS(c *etcdtest.Cluster) func() (*tls.Config, error) { return c.Signer.Config }

// etcd compares what a signer does in etcd with what etcd's own client takes, all of it
// through the leader unless said, each on a key of its own.
func (b *bench) etcd(ctx context.Context) ([]row, error) {
	return b.onEtcd(ctx, "etcd", etcdtest.Options{}, func(h *harness, c *etcdtest.Cluster) []row {
		leader := c.Leader(h)
		urls := c.Endpoints()
		own, far, theirs := h.newWire(c, urls[leader]), h.newWire(c, urls[(leader+1)%3]), h.newOfficial(c, urls[leader])
		mark := h.newShared(c, "mark", from(c, leader)...)
		defer mark.store.Close()
		file, err := b.newStore()
		h.must(err)
		raw, err := newRawFile(b.path("store.state"))
		h.must(err)
		defer raw.f.Close()

		var write, store, swap, follower, official, floored, lost, read samples
		h.must(byTurns(ctx, []func() error{
			batch(&write, raw.write), batch(&store, file),
			batch(&swap, own.swap), batch(&lost, own.lose), batch(&read, own.read),
			batch(&follower, far.swap), batch(&official, theirs.swap), batch(&floored, mark.raise),
		}, batches))
		fmt.Printf("etcd one by one, p50 and p99: write %s, file store %s; swap by the leader %s, by a follower %s, with the floor %s, clientv3 %s\n",
			both(write), both(store), both(swap), both(follower), both(floored), both(official))
		return []row{
			atMost(1, "etcd, three members: compare-and-swap, p50", swap, 50, "clientv3", official),
			beside("the same, p99", swap, 99, "clientv3", official),
			atMost(1.3, "the same, with the floor of the host, p50", floored, 50, "compare-and-swap", swap),
			atMost(1.1, "one that is lost, p50", lost, 50, "compare-and-swap", swap),
			atMost(0.6, "a linearizable read, p50", read, 50, "compare-and-swap", swap),
			beside("compare-and-swap by a follower, p50", follower, 50, "by the leader", swap),
		}
	})
}

// batch times a batch of f.
func batch(took *samples, f func() error) func() error {
	return func() error {
		for range batchSize {
			if err := took.timed(f); err != nil {
				return err
			}
		}
		return nil
	}
}

func newRecord() []byte {
	value := make([]byte, recordSize)
	rand.Read(value)
	return value
}

// wire is our client, and a value that nobody else changes.
type wire struct {
	ctx  context.Context
	conn *etcd.Conn
	key  string
	now  etcd.Value
}

func (h *harness) newWire(c *etcdtest.Cluster, url string) *wire {
	conn, err := (&etcd.Dialer{TLS: signerTLS(c)}).Dial(h.ctx, url)
	h.must(err)
	h.Cleanup(func() { conn.Close() })
	w := &wire{ctx: h.ctx, conn: conn, key: c.Prefix() + "/wire"}
	h.must(w.swap())
	return w
}

func (w *wire) swap() error {
	next := newRecord()
	r, err := w.conn.Txn(w.ctx, etcd.Txn{Key: w.key, Old: w.now.Bytes, Revision: w.now.Modified, New: next})
	if err == nil && !r.Won {
		err = errors.New("a swap is lost that nobody competes with")
	}
	w.now = etcd.Value{Bytes: next, Modified: r.Header.Revision}
	return err
}

// lose does what a signer does that comes second.
func (w *wire) lose() error {
	r, err := w.conn.Txn(w.ctx, etcd.Txn{Key: w.key, Old: newRecord(), Revision: w.now.Modified - 1, New: newRecord()})
	if err == nil && r.Won {
		err = errors.New("a swap is won that compares with another value")
	}
	return err
}

func (w *wire) read() error {
	_, err := w.conn.Range(w.ctx, w.key, 0)
	return err
}

// official is etcd's own client, which does the same.
type official struct {
	ctx      context.Context
	client   *clientv3.Client
	key      string
	now      []byte
	revision int64
}

func (h *harness) newOfficial(c *etcdtest.Cluster, url string) *official {
	config, err := c.Signer.Config()
	h.must(err)
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{url}, TLS: config})
	h.must(err)
	h.Cleanup(func() { client.Close() })
	o := &official{ctx: clientv3.WithRequireLeader(h.ctx), client: client, key: c.Prefix() + "/official"}
	o.now = newRecord()
	r, err := client.Put(o.ctx, o.key, string(o.now))
	h.must(err)
	o.revision = r.Header.Revision
	return o
}

func (o *official) swap() error {
	next := newRecord()
	r, err := o.client.Txn(o.ctx).
		If(clientv3.Compare(clientv3.Value(o.key), "=", string(o.now)), clientv3.Compare(clientv3.ModRevision(o.key), "=", o.revision)).
		Then(clientv3.OpPut(o.key, string(next))).Else(clientv3.OpGet(o.key)).Commit()
	if err != nil {
		return err
	}
	if !r.Succeeded {
		return errors.New("a swap of clientv3 is lost that nobody competes with")
	}
	o.now, o.revision = next, r.Header.Revision
	return nil
}

// shared is a mark in etcd as a signer has it, its floor on the disk.
type shared struct {
	ctx   context.Context
	store *sharedmark.Store
	saved watermark.Saved
}

// newShared makes a mark and opens it, by the members in that order.
func (h *harness) newShared(c *etcdtest.Cluster, name string, endpoints ...string) *shared {
	id := watermark.ID{ChainID: name}
	key := etcdstore.Key(c.Prefix(), id)
	floor := filestore.Config{Path: h.b.path(name + ".floor"), ID: sharedmark.Config{ID: id}.FloorID()}
	h.must(filestore.Create(floor, watermark.Saved{}))
	opened := h.config(c, id, key, floor, endpoints)
	h.must(sharedmark.Create(h.ctx, opened, watermark.Saved{}))
	h.must(opened.Floor.Close())
	return h.open(h.config(c, id, key, floor, endpoints))
}

func (h *harness) config(c *etcdtest.Cluster, id watermark.ID, key string, floor filestore.Config, endpoints []string) sharedmark.Config {
	opened, err := filestore.Open(h.ctx, floor)
	h.must(err)
	return sharedmark.Config{ID: id, Floor: opened, Engine: etcdstore.New(etcdstore.Config{
		Dialer: etcd.Dialer{TLS: signerTLS(c)}, Endpoints: endpoints, Key: key,
	})}
}

func (h *harness) open(c sharedmark.Config) *shared {
	m := &shared{ctx: h.ctx, store: sharedmark.New(c)}
	h.must(m.load())
	return m
}

func (m *shared) load() (err error) {
	m.saved, err = m.store.Load(m.ctx)
	return err
}

// raise writes the mark of the next height.
func (m *shared) raise() error {
	saved, err := m.store.Replace(m.ctx, m.saved, watermark.Mark{Height: m.saved.Mark.Height + 1, Step: watermark.StepPrecommit, SignBytes: make([]byte, 110)})
	if err == nil {
		m.saved = saved
	}
	return err
}
