package enclave

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"privyseal/internal/claims"
	"privyseal/internal/hostlink"
	"privyseal/internal/policy"
	"privyseal/internal/sharedmark"
	"privyseal/internal/sharedmark/enginetest"
	"privyseal/internal/watermark"
	"privyseal/internal/watermark/storetest"
)

// db is a policy's database, without TLS: that is tested on real ones, in test/nitro.
type db struct {
	*enginetest.Database
	members Members // that the enclave has asked for last
	table   Table
	key     *hostlink.Created // of the client
	etcd    *hostlink.BootEtcd
	dynamo  *hostlink.BootDynamoDB
}

// in returns a world whose policy has the marks in some database.
type in func(t *testing.T, change func(*policy.Policy)) (*world, *db)

// inEach runs a test with the marks in each database.
func inEach(t *testing.T, test func(t *testing.T, in in)) {
	t.Run("etcd", func(t *testing.T) { test(t, inEtcd) })
	t.Run("dynamodb", func(t *testing.T) { test(t, inDynamoDB) })
}

// inDynamoDB returns a world whose policy has the marks there.
func inDynamoDB(t *testing.T, change func(*policy.Policy)) (*world, *db) {
	t.Helper()
	w := newWorld(t, func(p *policy.Policy) {
		p.DynamoDB = policy.DynamoDB{Table: "marks", TableID: "0-1", TableRegion: "eu-central-1", TableEndpoint: "dynamodb.eu-central-1.amazonaws.com:443"}
		if change != nil {
			change(p)
		}
	})
	w.db = &db{Database: enginetest.NewDatabase(), dynamo: &hostlink.BootDynamoDB{}}
	return w, w.db
}

// inEtcd returns a world whose policy has the marks in etcd.
func inEtcd(t *testing.T, change func(*policy.Policy)) (*world, *db) {
	t.Helper()
	d := &db{Database: enginetest.NewDatabase()}
	w := newWorld(t, func(p *policy.Policy) {
		id := d.position(t).Medium
		p.Etcd = policy.Etcd{CA: p.TLSRoots, ServerNames: []string{"etcd.test"}, ClusterID: hex.EncodeToString(id[:8]), Prefix: "/privyseal"}
		if change != nil {
			change(p)
		}
	})
	w.db = d
	reply, err := w.ask(hostlink.Request{Create: &hostlink.Create{KeyType: "ed25519"}})
	if err != nil {
		t.Fatal(err)
	}
	d.key = reply.Created
	d.etcd = &hostlink.BootEtcd{Endpoints: []string{"https://10.0.0.1:2379"}, Key: d.key.Wrapped, Certificate: certificateOf(t, d.key.Public)}
	return w, d
}

func (d *db) position(t *testing.T) sharedmark.Position {
	t.Helper()
	p, _, err := (&enginetest.Memory{DB: d.Database}).Ready(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// engine is what the enclave gets.
func (w *world) engine(m Members) sharedmark.Engine {
	w.db.members = m
	return &enginetest.Memory{DB: w.db.Database}
}

func (w *world) engineOfTable(t Table) (sharedmark.Engine, error) {
	w.db.table = t
	return &enginetest.Memory{DB: w.db.Database}, nil
}

// certificateOf returns one of a client key, from a CA of nobody.
func certificateOf(t *testing.T, public []byte) []byte {
	t.Helper()
	_, ca, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "signer"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, ed25519.PublicKey(public), ca)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// share asks for something with the mark of a chain.
func (w *world) share(do string, c *hostlink.Created, state, floor []byte) (*hostlink.Shared, error) {
	reply, err := w.ask(hostlink.Request{Share: &hostlink.Share{Do: do, ChainID: "chain-1", Wrapped: c.Wrapped, State: state, Floor: floor, AfterHeight: 100, Etcd: w.db.etcd, DynamoDB: w.db.dynamo}})
	return reply.Shared, err
}

func (w *world) mustShare(do string, c *hostlink.Created, state, floor []byte) *hostlink.Shared {
	w.t.Helper()
	s, err := w.share(do, c, state, floor)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// floors keeps floors for the enclave, from this one on.
func (w *world) floors(c *hostlink.Created, floor []byte) *storetest.Fake {
	w.t.Helper()
	m, err := hostlink.HostMark(floor)
	if err != nil {
		w.t.Fatal(err)
	}
	id := sharedmark.Config{ID: watermark.ID{ChainID: "chain-1", Key: [32]byte(c.Public)}}.FloorID()
	fake := storetest.NewFake(m)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keepers[id] = &hostlink.Keeper{ID: id, Store: fake}
	return fake
}

func (w *world) bootShared(c *hostlink.Created, node string) hostlink.ChainStatus {
	w.t.Helper()
	reply, err := w.ask(hostlink.Request{Boot: &hostlink.Boot{LogLevel: "debug", Etcd: w.db.etcd, DynamoDB: w.db.dynamo, Chains: []hostlink.BootChain{
		{ID: "chain-1", Wrapped: c.Wrapped, Nodes: []hostlink.BootNode{{Name: node, Addr: "unix:///" + node}}},
	}}})
	if err != nil {
		w.t.Fatal(err)
	}
	return reply.Status.Chains[0]
}

// A key whose mark is in etcd, from its first record on. A floor of the host that is old
// brings nothing back, at no boot, and the document names the store.
func TestLifeInADatabase(t *testing.T) {
	inEach(t, func(t *testing.T, in in) {
		w, d := in(t, nil)
		c := w.create("chain-1")
		if s := w.bootShared(c, "a"); !strings.Contains(s.Problem, "no such state") {
			t.Fatalf("it signs with the state that the host keeps: %+v", s)
		}
		w.halt()
		w.start()
		first := w.mustShare(hostlink.ShareCreate, c, c.Record, nil)
		w.floors(c, first.Floor)
		if s := w.bootShared(c, "a"); s.Problem != "" {
			t.Fatal(s.Problem)
		}
		n := w.node()
		for height := range int64(20) {
			if resp, err := n.prevote(height+1, 1); err != nil || resp.Signature == nil {
				t.Fatal(height, resp.Refused, err)
			}
		}
		if m, at := d.members, d.table; d.etcd != nil && (m.Prefix != "/privyseal" || m.ID.ChainID != "chain-1" || len(m.Endpoints) != 1) ||
			d.dynamo != nil && (at.Policy != w.policy || at.ID.ChainID != "chain-1") {
			t.Errorf("the engine is for %+v, %+v", m, at)
		}
		reply, err := w.ask(hostlink.Request{Attest: &hostlink.Attest{ChainID: "chain-1"}})
		if err != nil {
			t.Fatal(err)
		}
		_, cl := readDocument(t, reply.Document)
		lineage, err := hex.DecodeString(first.Lineage)
		if err != nil || cl.Store != claims.StoreTag([16]byte(lineage)) || !strings.HasPrefix(cl.Mark, "20/0/prevote/") {
			t.Errorf("the document says %+v, the lineage is %s", cl, first.Lineage)
		}

		// The old floor, at the next boot.
		w.halt()
		w.start()
		w.floors(c, first.Floor)
		if s := w.bootShared(c, "a"); s.Problem != "" || s.Mark != "20/0/prevote" {
			t.Fatalf("with an old floor: %+v", s)
		}
		n = w.node()
		for height := range int64(20) {
			if resp, err := n.prevote(height+1, 2); err != nil || resp.Refused == "" {
				t.Errorf("height %d is signed again: %v", height+1, err)
			}
		}
		if resp, err := n.prevote(21, 2); err != nil || resp.Signature == nil {
			t.Error(resp.Refused, err)
		}
		w.noSecretLeft()
	})
}

// The state that was the host's is no floor, and a floor no state: both have their own id
// under the MAC.
func TestStateIsNoFloor(t *testing.T) {
	inEach(t, func(t *testing.T, in in) {
		w, _ := in(t, nil)
		c := w.create("chain-1")
		floor := w.mustShare(hostlink.ShareCreate, c, c.Record, nil).Floor
		if _, err := w.share(hostlink.ShareCreate, c, floor, nil); err == nil || !strings.Contains(err.Error(), "does not authenticate") {
			t.Errorf("a floor for a state: %v", err)
		}
		if _, err := w.share(hostlink.ShareExport, c, nil, c.Record); err == nil || !strings.Contains(err.Error(), "does not authenticate") {
			t.Errorf("a state for a floor: %v", err)
		}
		w.floors(c, c.Record)
		if s := w.bootShared(c, "a"); !strings.Contains(s.Problem, "does not authenticate") {
			t.Errorf("booted: %+v", s)
		}
	})
}

// Two enclaves with one key, each with a host that keeps its floor apart and shows it
// nothing of the other: each height is signed once.
func TestTwinsInADatabase(t *testing.T) {
	inEach(t, func(t *testing.T, in in) {
		a, d := in(t, nil)
		c := a.create("chain-1")
		a.floors(c, a.mustShare(hostlink.ShareCreate, c, c.Record, nil).Floor)
		b := newWorld(t, func(p *policy.Policy) { *p = *a.policy })
		b.kms, b.db = a.kms, &db{Database: d.Database, etcd: d.etcd, dynamo: d.dynamo}
		b.halt()
		b.start()
		b.floors(c, b.mustShare(hostlink.ShareJoin, c, nil, nil).Floor)
		for _, w := range []*world{a, b} {
			if s := w.bootShared(c, "a"); s.Problem != "" {
				t.Fatal(s.Problem)
			}
		}
		nodes := []*node{a.node(), b.node()}
		for height := range int64(20) {
			signed := 0
			for i := range nodes {
				block := (i + int(height)) % 2
				resp, err := nodes[block].prevote(height+1, byte(block))
				if err != nil {
					t.Fatal(err)
				}
				if resp.Signature != nil {
					signed++
				}
			}
			if signed != 1 {
				t.Fatalf("height %d is signed %d times", height+1, signed)
			}
		}
		// One that was idle knows what the other has raised.
		for height := range int64(5) {
			if resp, err := nodes[0].prevote(21+height, 1); err != nil || resp.Signature == nil {
				t.Fatal(resp.Refused, err)
			}
		}
		if resp, err := nodes[1].prevote(28, 1); err != nil || resp.Signature == nil {
			t.Error("after it was idle:", resp.Refused, err)
		}
	})
}

// A record that others made, whoever may write to etcd, is none.
func TestForgedInADatabase(t *testing.T) {
	inEach(t, func(t *testing.T, in in) {
		w, d := in(t, nil)
		c := w.create("chain-1")
		for name, mac := range map[string]*[32]byte{"without a key": nil, "with another one": {}} {
			d.Database = enginetest.NewDatabase()
			err := sharedmark.Create(t.Context(), sharedmark.Config{
				ID: watermark.ID{ChainID: "chain-1", Key: [32]byte(c.Public)}, Engine: &enginetest.Memory{DB: d.Database}, Floor: &carried{}, MAC: mac,
			}, watermark.Saved{})
			if err != nil {
				t.Fatal(err)
			}
			for _, do := range []string{hostlink.ShareJoin, hostlink.ShareCreate} {
				if s, err := w.share(do, c, c.Record, nil); err == nil {
					t.Errorf("%s, made %s: %+v", do, name, s)
				}
			}
		}
	})
}

// What a host asks for with the mark in etcd: out of the file and back, again after each
// cut, and a restore, which only a measured floor brings back to life.
func TestShare(t *testing.T) {
	inEach(t, func(t *testing.T, in in) {
		w, d := in(t, nil)
		c := w.create("chain-1")
		if _, err := w.share(hostlink.ShareJoin, c, nil, nil); err == nil || !strings.Contains(err.Error(), "there is no mark") {
			t.Errorf("joins nothing: %v", err)
		}
		if _, err := w.share("steal", c, nil, nil); err == nil {
			t.Error("does anything")
		}
		w.mustShare(hostlink.ShareCreate, c, c.Record, nil)
		// Cut off before the host had the floor, and again; also with a state that is older.
		floor := w.mustShare(hostlink.ShareCreate, c, c.Record, nil).Floor
		w.floors(c, floor)
		w.bootShared(c, "a")
		if resp, err := w.node().prevote(7, 1); err != nil || resp.Signature == nil {
			t.Fatal(resp.Refused, err)
		}
		if _, err := w.share(hostlink.ShareExport, c, nil, floor); err == nil || !strings.Contains(err.Error(), "signs for the chain already") {
			t.Errorf("exports what it signs with: %v", err)
		}
		w.halt()
		w.start()
		if s := w.mustShare(hostlink.ShareCreate, c, c.Record, floor); s.Mark != "7/0/prevote" {
			t.Errorf("created again, it is at %s", s.Mark)
		}
		before := d.Database.Snapshot()
		out := w.mustShare(hostlink.ShareExport, c, nil, floor)
		if again := w.mustShare(hostlink.ShareExport, c, nil, out.Floor); again.Mark != out.Mark || len(again.State) != len(out.State) {
			t.Errorf("exported twice: %+v, %+v", out, again)
		}
		if r, err := hostlink.ReadRecord(out.State); err != nil || r.Mark.Height != 7 || len(r.Mark.SignBytes) == 0 {
			t.Errorf("the state that came out is %+v, %v", r, err)
		}
		w.floors(c, out.Floor)
		if s := w.bootShared(c, "a"); !strings.Contains(s.Problem, "exported") {
			t.Errorf("signs with what was exported: %+v", s)
		}
		w.halt()
		w.start()
		back := w.mustShare(hostlink.ShareCreate, c, out.State, out.Floor)
		w.floors(c, back.Floor)
		if s := w.bootShared(c, "a"); s.Problem != "" || s.Mark != "7/0/prevote" {
			t.Errorf("back in etcd: %+v", s)
		}

		w.halt()
		d.Database.Restore(before, nil)
		w.start()
		if s := w.bootShared(c, "a"); !strings.Contains(s.Problem, "restored") {
			t.Errorf("signs after a restore: %+v", s)
		}
		w.halt()
		w.start()
		if _, err := w.share(hostlink.ShareAdopt, c, nil, back.Floor); err == nil || !strings.Contains(err.Error(), "no state_floor") {
			t.Errorf("adopts without a floor: %v", err)
		}
		w.halt()
		w.policy.StateFloor = map[string]int64{"chain-1": 101}
		w.start()
		if _, err := w.share(hostlink.ShareAdopt, c, nil, back.Floor); err == nil || !strings.Contains(err.Error(), "below the measured state_floor") {
			t.Errorf("adopts below the floor: %v", err)
		}
		w.halt()
		w.policy.StateFloor["chain-1"] = 100
		w.start()
		adopted := w.mustShare(hostlink.ShareAdopt, c, nil, back.Floor)
		w.floors(c, adopted.Floor)
		if s := w.bootShared(c, "a"); s.Problem != "" || !strings.HasPrefix(s.Mark, "100/") || adopted.Lineage == back.Lineage {
			t.Errorf("adopted %+v: %+v", adopted, s)
		}
	})
}

// What a policy says of etcd binds the host.
func TestPolicyOfEtcd(t *testing.T) {
	t.Run("another cluster", func(t *testing.T) {
		w, _ := inEtcd(t, func(p *policy.Policy) { p.Etcd.ClusterID = "00000000000000ff" })
		c := w.create("chain-1")
		if _, err := w.share(hostlink.ShareCreate, c, c.Record, nil); err == nil || !strings.Contains(err.Error(), "not the cluster of the measured policy") {
			t.Error(err)
		}
		if w.db.At().Value != nil {
			t.Error("it was written to")
		}
	})
	t.Run("no members", func(t *testing.T) {
		w, _ := inEtcd(t, nil)
		c := w.create("chain-1")
		_, err := w.ask(hostlink.Request{Boot: &hostlink.Boot{LogLevel: "info", Chains: []hostlink.BootChain{{ID: "chain-1", Wrapped: c.Wrapped}}}})
		if err == nil || !strings.Contains(err.Error(), "the host names no database") {
			t.Error(err)
		}
	})
	t.Run("no etcd", func(t *testing.T) {
		w := newWorld(t, nil)
		w.db = &db{Database: enginetest.NewDatabase(), etcd: &hostlink.BootEtcd{}}
		c := w.create("chain-1")
		_, err := w.ask(hostlink.Request{Boot: &hostlink.Boot{LogLevel: "info", Etcd: w.db.etcd, DynamoDB: w.db.dynamo, Chains: []hostlink.BootChain{{ID: "chain-1", Wrapped: c.Wrapped}}}})
		if err == nil || !strings.Contains(err.Error(), "names no database") {
			t.Error(err)
		}
		if _, err := w.share(hostlink.ShareCreate, c, c.Record, nil); err == nil || !strings.Contains(err.Error(), "names no database") {
			t.Error(err)
		}
		identity, err := w.ask(hostlink.Request{Create: &hostlink.Create{KeyType: "ed25519"}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.ask(hostlink.Request{Certify: &hostlink.Certify{Key: identity.Created.Wrapped, Name: "signer-1"}})
		if err == nil || !strings.Contains(err.Error(), "names no etcd") {
			t.Error(err)
		}
	})
}

// Each way leads to the cluster of the policy, also the one that is tried after a refusal.
func TestPinned(t *testing.T) {
	database := enginetest.NewDatabase()
	p := &pinned{Engine: &enginetest.Memory{DB: database}, cluster: [8]byte{255}}
	for range 3 {
		if at, _, err := p.Ready(t.Context()); !errors.Is(err, sharedmark.ErrRefused) {
			t.Errorf("another cluster: %+v, %v", at, err)
		}
	}
	medium := (&db{Database: database}).position(t).Medium
	p.cluster = [8]byte(medium[:8])
	for range 3 {
		if _, _, err := p.Ready(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// What a host gives for the client: members, a key, a certificate of that key.
func TestClientOfEtcd(t *testing.T) {
	w, d := inEtcd(t, nil)
	c := w.create("chain-1")
	good := *d.etcd
	other := certificateOf(t, c.Public)
	for name, change := range map[string]func(*hostlink.BootEtcd){
		"no members":          func(b *hostlink.BootEtcd) { b.Endpoints = nil },
		"too many":            func(b *hostlink.BootEtcd) { b.Endpoints = make([]string, hostlink.MaxEndpoints+1) },
		"without TLS":         func(b *hostlink.BootEtcd) { b.Endpoints = []string{"http://10.0.0.1:2379"} },
		"a long name":         func(b *hostlink.BootEtcd) { b.Endpoints = []string{"https://" + strings.Repeat("a", 300)} },
		"the key of a chain":  func(b *hostlink.BootEtcd) { b.Key = c.Wrapped },
		"no key":              func(b *hostlink.BootEtcd) { b.Key = nil },
		"no certificate":      func(b *hostlink.BootEtcd) { b.Certificate = nil },
		"that of another key": func(b *hostlink.BootEtcd) { b.Certificate = other },
		"garbage":             func(b *hostlink.BootEtcd) { b.Certificate = []byte("garbage") },
		"garbage after it":    func(b *hostlink.BootEtcd) { b.Certificate = append(bytes.Clone(b.Certificate), "garbage"...) },
		"garbage before it":   func(b *hostlink.BootEtcd) { b.Certificate = append([]byte("garbage\n"), b.Certificate...) },
		"nine of them":        func(b *hostlink.BootEtcd) { b.Certificate = bytes.Repeat(b.Certificate, 9) },
		"longer than it may be": func(b *hostlink.BootEtcd) {
			b.Certificate = append(bytes.Clone(b.Certificate), make([]byte, 16<<10)...)
		},
		"something else than a leaf": func(b *hostlink.BootEtcd) {
			b.Certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}})
		},
		"a certificate and a new key": func(b *hostlink.BootEtcd) {
			b.Certificate = append(bytes.Clone(b.Certificate), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}})...)
		},
	} {
		*d.etcd = good
		change(d.etcd)
		if _, err := w.share(hostlink.ShareCreate, c, c.Record, nil); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	*d.etcd = good
	w.floors(c, w.mustShare(hostlink.ShareCreate, c, c.Record, nil).Floor)
	w.bootShared(c, "a")
	one, err := d.members.TLS()
	if err != nil {
		t.Fatal(err)
	}
	// A certificate that was renewed is used from the next connection on.
	d.etcd.Certificate = certificateOf(t, d.key.Public)
	w.bootShared(c, "a")
	two, err := d.members.TLS()
	if err != nil || bytes.Equal(one.Certificates[0].Certificate[0], two.Certificates[0].Certificate[0]) {
		t.Errorf("the renewed certificate is not used: %v", err)
	}
	d.etcd.Certificate = other
	if _, err := w.ask(hostlink.Request{Boot: &hostlink.Boot{LogLevel: "info", Etcd: d.etcd}}); err == nil {
		t.Error("renewed by the certificate of another key")
	}
	if one.VerifyConnection(tls.ConnectionState{}) == nil {
		t.Error("a member without a certificate is taken")
	}
}

// How long a member is waited for is the host's to give, within bounds; where the enclave
// reaches etcd already, it says when other members or another time will count.
func TestTryOfEtcd(t *testing.T) {
	w, d := inEtcd(t, nil)
	c := w.create("chain-1")
	for try, want := range map[time.Duration]time.Duration{
		0: 0, 1: 150 * time.Millisecond, 200 * time.Millisecond: 200 * time.Millisecond, time.Hour: 300 * time.Millisecond, -1: 150 * time.Millisecond,
	} {
		d.etcd.Try = try
		w.mustShare(hostlink.ShareCreate, c, c.Record, nil)
		if d.members.Try != want {
			t.Errorf("a try of %v: %v, not %v", try, d.members.Try, want)
		}
	}
	d.etcd.Try = 0
	w.floors(c, w.mustShare(hostlink.ShareCreate, c, c.Record, nil).Floor)
	w.bootShared(c, "a")
	w.bootShared(c, "a")
	d.etcd.Try = 200 * time.Millisecond
	w.bootShared(c, "a")
	d.etcd.Try, d.etcd.Endpoints = 0, []string{"https://10.0.0.2:2379"}
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
	if said != 2 {
		t.Errorf("said %d times", said)
	}
}

// The request that a CA signs is of the key that stays inside.
func TestCertify(t *testing.T) {
	w, d := inEtcd(t, nil)
	ask := func(name string, key []byte) ([]byte, error) {
		reply, err := w.ask(hostlink.Request{Certify: &hostlink.Certify{Key: key, Name: name}})
		return reply.Request, err
	}
	text, err := ask("signer-1", d.key.Wrapped)
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(text)
	if block == nil || len(rest) > 0 {
		t.Fatalf("%s", text)
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || r.CheckSignature() != nil || r.Subject.CommonName != "signer-1" || !ed25519.PublicKey(d.key.Public).Equal(r.PublicKey) {
		t.Errorf("%+v, %v", r, err)
	}
	for _, name := range []string{"", "a b", "a,CN=root", "a\n", strings.Repeat("a", 65)} {
		if _, err := ask(name, d.key.Wrapped); err == nil {
			t.Errorf("a request for %q", name)
		}
	}
	if _, err := ask("signer", w.create("chain-1").Wrapped); err == nil {
		t.Error("a request of a consensus key")
	}
	w.noSecretLeft()
}

// The way to a member is asked for by its address, and the host may say no.
func TestDialMember(t *testing.T) {
	w, d := inEtcd(t, nil)
	c := w.create("chain-1")
	w.mustShare(hostlink.ShareCreate, c, c.Record, nil)
	asked := make(chan hostlink.EtcdHello, 1)
	w.member = func(conn net.Conn) {
		defer conn.Close()
		hello, err := hostlink.ReadEtcdHello(conn)
		if err == nil && hello.Address == "10.0.0.1:2379" {
			hostlink.AnswerNode(conn, nil)
			conn.Write([]byte("member"))
		} else {
			hostlink.AnswerNode(conn, net.ErrClosed)
		}
		asked <- hello
	}
	conn, err := d.members.Dial(context.Background(), "10.0.0.1:2379")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	said := make([]byte, 6)
	if _, err := conn.Read(said); err != nil || string(said) != "member" || (<-asked).Address != "10.0.0.1:2379" {
		t.Errorf("%q, %v", said, err)
	}
	if _, err := d.members.Dial(context.Background(), "10.0.0.2:2379"); err == nil || !strings.Contains(err.Error(), "the host says") {
		t.Errorf("to another member: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := d.members.Dial(ctx, "10.0.0.1:2379"); err == nil {
		t.Error("after the end")
	}
}

// Whatever a host gives as a certificate, it is one of the key or an error.
func FuzzClientCertificate(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := clientCertificate(text, key)
		if err != nil {
			return
		}
		if len(c.Certificate) == 0 || len(c.Certificate) > maxChain || len(text) > hostlink.MaxCertificate || !key.Public().(ed25519.PublicKey).Equal(c.Leaf.PublicKey) {
			t.Fatalf("%q is taken", text)
		}
	})
}
