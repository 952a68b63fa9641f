package enclave

import (
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"privyseal/internal/claims"
	"privyseal/internal/hostlink"
	"privyseal/internal/key/soft"
	"privyseal/internal/oplog"
	"privyseal/internal/policy"
	"privyseal/internal/privval"
	"privyseal/internal/pubkey"
	"privyseal/internal/secret"
	"privyseal/internal/signer"
	"privyseal/internal/watermark"
)

// bounded has a policy with a floor of 1000 and a highest height of 2000.
func bounded(p *policy.Policy) {
	p.MaxHeight, p.StateFloor, p.Chains = 2000, map[string]int64{"chain-1": 1000}, []string{"chain-1"}
}

func newKey(t *testing.T, typ pubkey.Type) *soft.Key {
	t.Helper()
	key, err := soft.Generate(typ)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// byKMS returns an import of a plain ciphertext, as a host can make it up but for the
// key in it.
func (w *world) byKMS(key *soft.Key, req hostlink.Import) hostlink.Import {
	req.KMS = w.kms.aead.Seal(nil, make([]byte, 12), key.Secret(), nil)
	req.KeyType, req.Public = string(key.Type()), key.PublicKey().Bytes()
	return req
}

// sealed returns an import that is sealed to the enclave of now.
func (w *world) sealed(key *soft.Key, req hostlink.Import) hostlink.Import {
	w.t.Helper()
	reply, err := w.ask(hostlink.Request{ImportKey: &hostlink.ImportKey{}})
	if err != nil {
		w.t.Fatal(err)
	}
	doc, _ := readDocument(w.t, reply.Document)
	to, err := x509.ParsePKIXPublicKey(doc.PublicKey)
	if err != nil {
		w.t.Fatal(err)
	}
	req.KeyType, req.Public = string(key.Type()), key.PublicKey().Bytes()
	if err := req.Seal(to.(*rsa.PublicKey), key.Secret()); err != nil {
		w.t.Fatal(err)
	}
	return req
}

// at is an import's state: a prevote for block 1.
func at(height int64) hostlink.Import {
	req := prevote(height, 1)
	return hostlink.Import{ChainID: "chain-1", Height: height, Step: uint8(watermark.StepPrevote), SignBytes: req.SignBytes()}
}

// A measured bound holds for a mark that came with a key as for any other: a host that
// imports says what "was signed", and so what would be signed again for whoever asks.
func TestImportedMarksAreBounded(t *testing.T) {
	key := newKey(t, pubkey.Ed25519)
	for way, make := range map[string]func(*world, *soft.Key, hostlink.Import) hostlink.Import{
		"KMS": (*world).byKMS, "sealed": (*world).sealed,
	} {
		for height, repeats := range map[int64]bool{1: false, 900: false, 1000: false, 1001: way == "sealed", 2000: way == "sealed", 2001: false, 1_000_000: false} {
			w := newWorld(t, bounded)
			req := make(w, key, at(height))
			reply, err := w.ask(hostlink.Request{Import: &req})
			if err != nil {
				t.Fatalf("%s at %d: %v", way, height, err)
			}
			w.keeper("chain-1", reply.Created)
			if s := w.boot("chain-1", reply.Created, "a"); s.Problem != "" {
				t.Fatalf("%s at %d: %s", way, height, s.Problem)
			}
			n := w.node()
			for block := range byte(3) { // 1 is what the import said
				resp, err := n.prevote(height, block)
				if err != nil || (resp.Signature != nil) != (repeats && block == 1) {
					t.Errorf("%s at %d, block %d: signed %v, refused %q, %v", way, height, block, resp.Signature != nil, resp.Refused, err)
				}
			}
			w.halt()
		}
	}
}

// From such a mark signing goes on within the bounds, and nowhere else.
func TestImportedMarkGoesOn(t *testing.T) {
	for height, next := range map[int64]map[int64]string{
		900:       {901: "height_floor", 1000: "height_floor", 1001: ""},
		1999:      {2001: "height_max", 2000: ""},
		2000:      {2001: "height_max"},
		1_000_000: {1500: "height_regression", 1_000_001: "height_max"},
	} {
		w := newWorld(t, bounded)
		req := w.byKMS(newKey(t, pubkey.Ed25519), at(height))
		reply, err := w.ask(hostlink.Request{Import: &req})
		if err != nil {
			t.Fatal(err)
		}
		w.keeper("chain-1", reply.Created)
		for ask, want := range next {
			w.boot("chain-1", reply.Created, fmt.Sprint(ask))
			resp, err := w.node().prevote(ask, 1)
			if ask == 1001 { // the first after a load is more than one above the mark
				want = "height_gap"
			}
			if err != nil || (resp.Signature != nil) != (want == "") || !strings.Contains(resp.Refused, want) {
				t.Errorf("%d after %d: signed %v, refused %q, want %q, %v", ask, height, resp.Signature != nil, resp.Refused, want, err)
			}
		}
		w.halt()
	}
}

// A record of an earlier image, whose policy had no bounds, is signed again only within
// those of now.
func TestOldRecordUnderANewPolicy(t *testing.T) {
	for name, change := range map[string]func(*policy.Policy){
		"height_floor": func(p *policy.Policy) { p.StateFloor = map[string]int64{"chain-1": 1000} },
		"height_max":   func(p *policy.Policy) { p.MaxHeight = 800 },
	} {
		w := newWorld(t, nil)
		c := w.create("chain-1")
		w.boot("chain-1", c, "a")
		if resp, err := w.node().prevote(900, 1); err != nil || resp.Signature == nil {
			t.Fatal(resp, err)
		}
		w.halt()
		change(w.policy)
		w.start()
		w.boot("chain-1", c, "a")
		if resp, err := w.node().prevote(900, 1); err != nil || resp.Signature != nil || !strings.Contains(resp.Refused, name) {
			t.Errorf("%s: signed %v, refused %q, %v", name, resp.Signature != nil, resp.Refused, err)
		}
	}
}

// Sign bytes that come sealed are those of the mark and of the chain.
func TestSealedSignBytesAreThoseOfTheMark(t *testing.T) {
	w := newWorld(t, nil)
	key := newKey(t, pubkey.Ed25519)
	other := func(change func(*privval.Request)) []byte {
		req := prevote(41, 1)
		change(&req)
		return req.SignBytes()
	}
	for name, bytes := range map[string][]byte{
		"another chain":  other(func(r *privval.Request) { r.ChainID = "chain-2" }),
		"no chain":       other(func(r *privval.Request) { r.ChainID = "" }),
		"another height": other(func(r *privval.Request) { r.Height = 40 }),
		"another round":  other(func(r *privval.Request) { r.Round = 1 }),
		"another step":   other(func(r *privval.Request) { r.Kind = privval.KindPrecommit }),
		"a proposal":     other(func(r *privval.Request) { r.Kind, r.POLRound = privval.KindProposal, -1 }),
		"no message":     []byte("what a chain takes for something else"),
		"more than one":  append(other(func(*privval.Request) {}), 0),
	} {
		state := at(41)
		state.SignBytes = bytes
		req := w.sealed(key, state)
		if _, err := w.ask(hostlink.Request{Import: &req}); err == nil || !strings.Contains(err.Error(), "the state's sign bytes are") {
			t.Errorf("%s: %v", name, err)
		}
	}
	req := w.sealed(key, at(41))
	if _, err := w.ask(hostlink.Request{Import: &req}); err != nil {
		t.Errorf("those of the mark: %v", err)
	}
}

// A key whose signing time depends on it is not made, imported or opened inside.
func TestVariableTimeKeysStayOutside(t *testing.T) {
	w := newWorld(t, nil)
	for _, typ := range []pubkey.Type{pubkey.Secp256k1, pubkey.Secp256k1Eth} {
		key := newKey(t, typ)
		byKMS, sealed := w.byKMS(key, at(5)), w.sealed(key, at(5))
		for name, req := range map[string]hostlink.Request{
			"made":                {Create: &hostlink.Create{ChainID: "chain-1", KeyType: string(typ)}},
			"imported from KMS":   {Import: &byKMS},
			"imported and sealed": {Import: &sealed},
		} {
			if _, err := w.ask(req); err == nil || !strings.Contains(err.Error(), "how long it takes to sign depends on the secret") {
				t.Errorf("%s %s: %v", typ, name, err)
			}
		}
		wrapped := w.wrap("chain-1", key)
		s := w.boot("chain-1", &hostlink.Created{Wrapped: wrapped}, "a")
		if !strings.Contains(s.Problem, "how long it takes to sign depends on the secret") || s.Cure == "" || s.Seq != 0 {
			t.Errorf("%s booted: %+v", typ, s)
		}
	}
	if _, err := w.ask(hostlink.Request{Create: &hostlink.Create{ChainID: "chain-1", KeyType: "ml_dsa_65"}}); err != nil {
		t.Errorf("ml_dsa_65: %v", err)
	}
}

// wrap returns a key as an image that does not ask would have wrapped it.
func (w *world) wrap(chainID string, key *soft.Key) []byte {
	w.t.Helper()
	wrapped, err := w.kms.Wrap(w.t.Context(), secret.AWS{}, secret.Key{
		ChainID: chainID, KeyType: string(key.Type()), Public: key.PublicKey().Bytes(), Secret: secret.NewBytes(key.Secret()), Origin: claims.Generated,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return wrapped
}

// Who we are to nodes is an ed25519 key, whatever somebody wrapped as one.
func TestIdentityIsEd25519(t *testing.T) {
	w := newWorld(t, nil)
	for _, typ := range []string{"ml_dsa_65", "secp256k1", "secp256k1eth"} {
		_, err := w.ask(hostlink.Request{Create: &hostlink.Create{KeyType: typ}})
		if err == nil || !strings.Contains(err.Error(), "an identity is an ed25519 key") {
			t.Errorf("made of type %s: %v", typ, err)
		}
	}
	c := w.create("chain-1")
	boot := func(identity []byte) hostlink.ChainStatus {
		reply, err := w.ask(hostlink.Request{Boot: &hostlink.Boot{LogLevel: "debug", Chains: []hostlink.BootChain{{
			ID: "chain-1", Wrapped: c.Wrapped, Identity: identity, Nodes: []hostlink.BootNode{{Name: "a", Addr: "tcp://127.0.0.1:1"}},
		}}}})
		if err != nil {
			t.Fatal(err)
		}
		return reply.Status.Chains[0]
	}
	if s := boot(w.wrap("", newKey(t, pubkey.MLDSA65))); !strings.Contains(s.Problem, "identity") {
		t.Errorf("of type ml_dsa_65: %+v", s)
	}
	if s := boot(w.wrap("", newKey(t, pubkey.Secp256k1))); !strings.Contains(s.Problem, "identity") {
		t.Errorf("of type secp256k1: %+v", s)
	}
	if s := boot(w.wrap("chain-1", newKey(t, pubkey.Ed25519))); !strings.Contains(s.Problem, "identity") {
		t.Errorf("a key of a chain: %+v", s)
	}
	if s := boot(w.wrap("", newKey(t, pubkey.Ed25519))); s.Problem != "" {
		t.Errorf("of type ed25519: %s", s.Problem)
	}
}

// The first record of a state has a number above every one that an earlier state of the
// key can have reached at a million signatures a second.
func TestFirstNumber(t *testing.T) {
	w := newWorld(t, func(p *policy.Policy) { p.StateFloor = map[string]int64{"chain-1": 10} })
	before := time.Now().Unix()
	c := w.create("chain-1")
	reply, err := w.ask(hostlink.Request{NewState: &hostlink.NewState{ChainID: "chain-1", Wrapped: c.Wrapped, AfterHeight: 20}})
	if err != nil {
		t.Fatal(err)
	}
	after := time.Now().Unix()
	for name, made := range map[string]*hostlink.Created{"of a new key": c, "of a new state": reply.Created} {
		r, err := hostlink.ReadRecord(made.Record)
		if err != nil {
			t.Fatal(err)
		}
		_, cl := readDocument(t, made.Document)
		if sec := int64(r.Seq >> 20); sec < before || sec > after || r.Seq&(1<<20-1) != 0 || cl.Seq != r.Seq {
			t.Errorf("%s: %d, in the document %d", name, r.Seq, cl.Seq)
		}
	}
}

// What the host learns of times is coarse, and nothing at all of what it can have as
// often as it likes.
func TestTimesAreCoarse(t *testing.T) {
	w := newWorld(t, nil)
	w.boot("chain-1", w.create("chain-1"), "a")
	n := w.node()
	for height := range int64(20) {
		for range 2 {
			if resp, err := n.prevote(height+1, 1); err != nil || resp.Signature == nil {
				t.Fatal(resp, err)
			}
		}
	}
	for signed, repeated := 0, 0; signed+repeated < 40; {
		var l hostlink.Line
		select {
		case l = <-w.lines:
		case <-time.After(time.Minute):
			t.Fatalf("%d events of signatures and %d of repeats", signed, repeated)
		}
		if l.Event == nil {
			continue
		}
		times := []time.Duration{l.Event.Queue, l.Event.Store, l.Event.Sign, l.Event.All}
		for _, d := range times {
			if d%time.Millisecond != 0 || l.Event.Repeated && d != 0 {
				t.Errorf("repeated %v: %v", l.Event.Repeated, times)
			}
		}
		if l.Event.Repeated {
			repeated++
		} else {
			signed++
		}
	}
}

// A repeat says nothing of times, however long it took.
func TestRepeatsTellNoTimes(t *testing.T) {
	lines := make(chan hostlink.Line, 1)
	e := &enclave{lines: oplog.NewQueue(func(l hostlink.Line) bool { lines <- l; return true }, lostLines)}
	defer e.lines.Close()
	const long = 7_400 * time.Microsecond
	req := prevote(1, 1)
	ev := signer.Event{Request: &req, Queue: long, Store: long, Sign: long, All: long}
	for repeated, want := range map[bool]time.Duration{false: 7 * time.Millisecond, true: 0} {
		ev.Repeated = repeated
		e.observe("chain-1", ev)
		if got := (<-lines).Event; got.Queue != want || got.Store != want || got.Sign != want || got.All != want {
			t.Errorf("repeated %v: %+v", repeated, got)
		}
	}
}

// The limit that the threat model states: authenticated is not fresh. A twin that is
// booted from the first record, and never asked for a document, signs again what was
// attested long before, and the documents of the other stay in perfect order. A store
// or a witness outside the host is the cure; nothing in here can be.
func TestATwinThatIsNeverAttested(t *testing.T) {
	a := newWorld(t, nil)
	c := a.create("chain-1")
	a.boot("chain-1", c, "a")
	node := a.node()
	var last claims.Claims
	attest := func() {
		t.Helper()
		reply, err := a.ask(hostlink.Request{Attest: &hostlink.Attest{ChainID: "chain-1", Nonce: []byte("mine")}})
		if err != nil {
			t.Fatal(err)
		}
		_, cl := readDocument(t, reply.Document)
		if last.Boot != "" && (cl.Boot != last.Boot || cl.Seq <= last.Seq || cl.Start != last.Start) {
			t.Errorf("the documents are not in order: %+v, then %+v", last, cl)
		}
		last = cl
	}
	const heights = 10
	for h := range int64(heights) {
		if resp, err := node.prevote(h+1, 1); err != nil || resp.Signature == nil {
			t.Fatal(resp, err)
		}
		attest()
	}

	b := newWorld(t, func(p *policy.Policy) { *p = *a.policy })
	b.kms = a.kms
	b.halt()
	b.start()
	b.keeper("chain-1", c)
	b.boot("chain-1", c, "a")
	twin := b.node()
	for h := range int64(heights) {
		if resp, err := twin.prevote(h+1, 2); err != nil || resp.Signature == nil {
			t.Errorf("the threat model says that this works: height %d, %q, %v", h+1, resp.Refused, err)
		}
	}

	if resp, err := node.prevote(heights+1, 1); err != nil || resp.Signature == nil {
		t.Fatal(resp, err)
	}
	attest()
	// The twin's own document would show it.
	reply, err := b.ask(hostlink.Request{Attest: &hostlink.Attest{ChainID: "chain-1"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, cl := readDocument(t, reply.Document); cl.Boot == last.Boot || cl.Start != (watermark.Mark{}).String() {
		t.Errorf("the twin's document does not tell: %+v", cl)
	}
}
