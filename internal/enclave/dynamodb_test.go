package enclave

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"privyseal/internal/hostlink"
	"privyseal/internal/secret"
	"privyseal/internal/sharedmark"
	"privyseal/internal/sharedmark/enginetest"
)

// roles is a host that hands out credentials, numbered, which end after a while.
type roles struct {
	mu      sync.Mutex
	asked   []string      // what each question said of those that were refused
	ends    time.Duration // after which they end; 0: never
	problem error
}

func (r *roles) serve(conn net.Conn) {
	defer conn.Close()
	hello, err := hostlink.ReadRoleHello(conn)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, hello.Refused)
	c := secret.AWS{AccessKeyID: "AKIA" + strings.Repeat("I", len(r.asked)), SecretAccessKey: secret.New("s")}
	if r.ends != 0 {
		c.Expires = time.Now().Add(r.ends)
	}
	hostlink.AnswerRole(conn, c, r.problem)
}

// set changes what the host hands out from now on.
func (r *roles) set(ends time.Duration, problem error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ends, r.problem = ends, problem
}

// Credentials come from the host, are kept while they are good for a while yet, and are asked
// for again when AWS refuses them, or when they are about to end. Until the very end those
// that are there do.
func TestRole(t *testing.T) {
	w, d := inDynamoDB(t, nil)
	c := w.create("chain-1")
	w.mustShare(hostlink.ShareCreate, c, c.Record, nil)
	host := &roles{}
	w.role = host.serve
	uses := func(want, refused string) secret.AWS {
		t.Helper()
		got, err := d.table.Role.Credentials(t.Context())
		host.mu.Lock()
		defer host.mu.Unlock()
		if err != nil || got.AccessKeyID != want || host.asked[len(host.asked)-1] != refused {
			t.Fatalf("%s, %v, not %s; the host was asked %q", got.AccessKeyID, err, want, host.asked)
		}
		return got
	}
	uses("AKIAI", "")
	first := uses("AKIAI", "")
	d.table.Role.Refused(secret.AWS{AccessKeyID: "AKIA"}) // of somebody else
	uses("AKIAI", "")
	d.table.Role.Refused(first)
	host.set(renewAhead+time.Hour, nil)
	second := uses("AKIAII", "AKIAI")
	uses("AKIAII", "AKIAI")
	d.table.Role.Refused(second)
	host.set(renewAhead-time.Second, nil) // about to end, and nothing better is there
	uses("AKIAIII", "AKIAII")
	uses("AKIAIIII", "")
	host.set(0, errors.New("no role"))
	uses("AKIAIIII", "")
	host.set(lastMoment-time.Second, nil)
	d.table.Role.Refused(secret.AWS{AccessKeyID: "AKIAIIII"})
	uses("AKIAIIIIII", "AKIAIIII")
	host.set(0, errors.New("no role"))
	if got, err := d.table.Role.Credentials(t.Context()); err == nil || !strings.Contains(err.Error(), `the host has no credentials: "no role"`) {
		t.Errorf("at their end: %s, %v", got.AccessKeyID, err)
	}

	// A host that does not answer keeps nobody longer than the call has.
	w.role = func(net.Conn) {}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := d.table.Role.Credentials(ctx)
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			t.Error("credentials of nobody")
		}
	case <-time.After(30 * time.Second):
		t.Error("the call has ended, and who asks for credentials still waits")
	}
	w.noSecretLeft()
}

// The way to DynamoDB is one port of the host, with no word about where it leads.
func TestDialTable(t *testing.T) {
	w, d := inDynamoDB(t, nil)
	c := w.create("chain-1")
	w.mustShare(hostlink.ShareCreate, c, c.Record, nil)
	w.table = func(conn net.Conn) {
		conn.Write([]byte("table"))
		conn.Close()
	}
	conn, err := d.table.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	said := make([]byte, 5)
	if _, err := conn.Read(said); err != nil || string(said) != "table" {
		t.Errorf("%q, %v", said, err)
	}
}

// How long a call is waited for is the host's to give, within bounds.
func TestTryOfTable(t *testing.T) {
	w, d := inDynamoDB(t, nil)
	c := w.create("chain-1")
	for try, want := range map[time.Duration]time.Duration{
		0: 0, 1: 50 * time.Millisecond, 300 * time.Millisecond: 300 * time.Millisecond, time.Hour: 2 * time.Second, -1: 50 * time.Millisecond,
	} {
		d.dynamo.Try = try
		w.mustShare(hostlink.ShareCreate, c, c.Record, nil)
		if d.table.Try != want {
			t.Errorf("a try of %v: %v, not %v", try, d.table.Try, want)
		}
	}
	d.dynamo.Try = 0
	w.floors(c, w.mustShare(hostlink.ShareCreate, c, c.Record, nil).Floor)
	w.bootShared(c, "a")
	w.bootShared(c, "a")
	d.dynamo.Try = time.Second
	w.bootShared(c, "a")
	w.share("nothing", c, nil, nil)
	said := 0
	for text := ""; !strings.HasPrefix(text, "refused a request"); {
		if l := <-w.lines; l.Log != nil {
			text = l.Log.Message
		}
		if strings.Contains(text, "restarted: `restart`") {
			said++
		}
	}
	if said != 1 {
		t.Errorf("said %d times", said)
	}
}

// What a host gives has to be for the database of the measured policy, and for no other.
func TestDatabaseOfThePolicy(t *testing.T) {
	etcd, table := &hostlink.BootEtcd{}, &hostlink.BootDynamoDB{}
	for _, c := range []struct {
		policy string
		etcd   *hostlink.BootEtcd
		table  *hostlink.BootDynamoDB
		want   string
	}{
		{"", etcd, nil, "the host has the marks in etcd, and the measured policy names no database"},
		{"", nil, table, "the host has the marks in DynamoDB, and the measured policy names no database"},
		{"etcd", nil, nil, "the measured policy has the marks in etcd, and the host names no database"},
		{"etcd", nil, table, "the measured policy has the marks in etcd, and the host names DynamoDB"},
		{"dynamodb", nil, nil, "the measured policy has the marks in DynamoDB, and the host names no database"},
		{"dynamodb", etcd, nil, "the measured policy has the marks in DynamoDB, and the host names etcd"},
		{"dynamodb", etcd, table, "the host names two databases"},
		{"", etcd, table, "the host names two databases"},
	} {
		w := map[string]func() *world{
			"":         func() *world { w := newWorld(t, nil); w.db = &db{Database: enginetest.NewDatabase()}; return w },
			"etcd":     func() *world { w, _ := inEtcd(t, nil); return w },
			"dynamodb": func() *world { w, _ := inDynamoDB(t, nil); return w },
		}[c.policy]()
		created := w.create("chain-1")
		w.db.etcd, w.db.dynamo = c.etcd, c.table
		_, boot := w.ask(hostlink.Request{Boot: &hostlink.Boot{LogLevel: "info", Etcd: c.etcd, DynamoDB: c.table,
			Chains: []hostlink.BootChain{{ID: "chain-1", Wrapped: created.Wrapped}}}})
		_, share := w.share(hostlink.ShareCreate, created, created.Record, nil)
		for _, err := range []error{boot, share} {
			if err == nil || !strings.Contains(err.Error(), c.want) && !(c.policy == "" && strings.Contains(err.Error(), "the measured policy names no database")) {
				t.Errorf("%q, %v, %v: %v", c.policy, c.etcd != nil, c.table != nil, err)
			}
		}
		if w.db.At().Value != nil {
			t.Error("it was written to")
		}
	}
}

// Whoever may write to the table can put an old mark back. A host that has not seen a newer one
// signs again then: the limit of a database whose rights are the host's, which a document shows
// by a start below an earlier mark. A host that shows what it has seen signs nothing.
func TestTableIsSetBack(t *testing.T) {
	w, d := inDynamoDB(t, nil)
	c := w.create("chain-1")
	floor := w.floors(c, w.mustShare(hostlink.ShareCreate, c, c.Record, nil).Floor)
	seen := func() []byte {
		saved, err := floor.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return saved.Mark.SignBytes
	}
	if s := w.bootShared(c, "a"); s.Problem != "" {
		t.Fatal(s.Problem)
	}
	n := w.node()
	signs := func(height int64, block byte) {
		t.Helper()
		if resp, err := n.prevote(height, block); err != nil || resp.Signature == nil {
			t.Fatal(height, resp.Refused, err)
		}
	}
	signs(5, 1)
	old, oldFloor := d.Snapshot(), seen()
	signs(6, 1)
	newFloor := seen()
	w.halt()
	d.Restore(old, func(p *sharedmark.Position) { p.Index = 1000 }) // a table has no such thing

	w.start()
	w.floors(c, newFloor)
	if s := w.bootShared(c, "a"); !strings.Contains(s.Problem, "restored") {
		t.Errorf("with what the host has seen: %+v", s)
	}
	w.halt()
	w.start()
	w.floors(c, oldFloor)
	if s := w.bootShared(c, "a"); s.Problem != "" || s.Mark != "5/0/prevote" {
		t.Fatalf("with what it had seen before: %+v", s)
	}
	n = w.node()
	signs(6, 2) // a second time
	reply, err := w.ask(hostlink.Request{Attest: &hostlink.Attest{ChainID: "chain-1"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, cl := readDocument(t, reply.Document); !strings.HasPrefix(cl.Start, "5/0/prevote/") {
		t.Errorf("the document says %+v", cl)
	}
}
