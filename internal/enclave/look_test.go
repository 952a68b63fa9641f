package enclave

import (
	"strings"
	"testing"

	"privyseal/internal/hostlink"
	"privyseal/internal/policy"
	"privyseal/internal/privval"
	"privyseal/internal/privval/privvaltest"
	"privyseal/internal/sharedmark"
)

func (w *world) look(height int64) (*hostlink.Looked, error) {
	reply, err := w.ask(hostlink.Request{Look: &hostlink.Look{ChainID: "chain-1", Height: height}})
	return reply.Looked, err
}

func (w *world) looks(height, want int64) {
	w.t.Helper()
	if m, err := w.look(height); err != nil || m.Height != want || len(m.SignBytes) == 0 {
		w.t.Fatalf("up to %d: %+v, %v, not %d", height, m, err, want)
	}
}

func (w *world) fails(height int64, want string) {
	w.t.Helper()
	if m, err := w.look(height); err == nil || !strings.Contains(err.Error(), want) {
		w.t.Fatalf("up to %d: %+v, %v, not %q", height, m, err, want)
	}
}

// twins are two enclaves with one key, whose marks are in one etcd, and a node of each.
func twins(t *testing.T) (a, b *world, c *hostlink.Created, floor []byte, nodes [2]*node) {
	t.Helper()
	a, d := inEtcd(t, func(p *policy.Policy) { p.StateFloor = map[string]int64{"chain-1": 0} })
	c = a.create("chain-1")
	floor = a.mustShare(hostlink.ShareCreate, c, c.Record, nil).Floor
	a.floors(c, floor)
	b = newWorld(t, func(p *policy.Policy) { *p = *a.policy })
	b.kms, b.db = a.kms, &db{Database: d.Database, etcd: d.etcd, dynamo: d.dynamo}
	b.halt()
	b.start()
	b.floors(c, b.mustShare(hostlink.ShareJoin, c, nil, nil).Floor)
	for i, w := range []*world{a, b} {
		if s := w.bootShared(c, "a"); s.Problem != "" {
			t.Fatal(s.Problem)
		}
		nodes[i] = w.node()
	}
	return a, b, c, floor, nodes
}

// A host that asks where the mark is hears of what another signer has made, and of what its
// own has without a question to etcd; and a precommit of its own it hears of by itself.
func TestLook(t *testing.T) {
	a, b, _, _, nodes := twins(t)
	for height := range int64(5) {
		req := prevote(height+1, 1)
		req.Kind = privval.KindPrecommit
		if resp, err := privvaltest.Call(nodes[0].conn, nodes[0].r, req); err != nil || resp.Signature == nil {
			t.Fatal(resp.Refused, err)
		}
	}
	b.looks(5, 5)
	b.looks(9, 5)
	a.looks(5, 5)
	for events := 0; events < 5; {
		if l := <-a.lines; l.Event != nil && l.Event.Kind == "precommit" {
			if events++; len(l.Event.SignBytes) == 0 {
				t.Errorf("of its own signature it says %+v", l.Event)
			}
		}
	}
	// Nothing in there has changed: the twin still has to learn it by itself, and does.
	if resp, err := nodes[1].prevote(5, 2); err != nil || resp.Refused == "" {
		t.Error("a height of the other is signed:", err)
	}
	if resp, err := nodes[1].prevote(6, 2); err != nil || resp.Signature == nil {
		t.Error(resp.Refused, err)
	}

	if _, err := b.ask(hostlink.Request{Look: &hostlink.Look{ChainID: "chain-2"}}); err == nil || !strings.Contains(err.Error(), "does not sign for the chain") {
		t.Errorf("of another chain: %v", err)
	}
	if _, err := newWorld(t, nil).look(1); err == nil || !strings.Contains(err.Error(), "names no database") {
		t.Errorf("without a database: %v", err)
	}
}

// What etcd has after a restore, an adoption elsewhere or an export is not where the mark is:
// a witness that was told so would take our own blocks for those of somebody else.
func TestLookAfterARestore(t *testing.T) {
	a, b, c, floor, nodes := twins(t)
	db := b.db.Database
	signs := func(i int, height int64) {
		t.Helper()
		if resp, err := nodes[i].prevote(height, 1); err != nil || resp.Signature == nil {
			t.Fatal(resp.Refused, err)
		}
	}
	signs(0, 1)
	before := db.Snapshot()
	signs(1, 2)
	now := db.Snapshot()
	db.Restore(before, nil)
	b.fails(3, sharedmark.ErrRestored.Error())
	b.looks(2, 2) // it has that itself

	db.Restore(now, nil)
	b.looks(3, 2)
	a.halt()
	a.start() // it signs for no chain now
	a.mustShare(hostlink.ShareAdopt, c, nil, floor)
	b.fails(200, sharedmark.ErrRestored.Error())
	db.Restore(now, nil)
	a.mustShare(hostlink.ShareExport, c, nil, a.mustShare(hostlink.ShareJoin, c, nil, nil).Floor)
	b.fails(3, sharedmark.ErrExported.Error())
}
