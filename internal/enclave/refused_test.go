package enclave

import (
	"fmt"
	"strings"
	"testing"

	"privyseal/internal/hostlink"
	"privyseal/internal/policy"
	"privyseal/internal/privval"
	"privyseal/internal/pubkey"
	"privyseal/internal/watermark"
)

// refused asks for what has to be refused with these words.
func (w *world) refused(name string, req hostlink.Request, want string) {
	w.t.Helper()
	if _, err := w.ask(req); err == nil || !strings.Contains(err.Error(), want) {
		w.t.Errorf("%s: %v does not say %q", name, err, want)
	}
}

// Bytes of a node's choice are signed where the measured policy says so, each kind
// for itself.
func TestRawBytesAreThePolicys(t *testing.T) {
	requests := map[string]privval.Request{
		"sign_bytes": {Kind: privval.KindSignBytes, Bytes: []byte("anything")},
		"raw_bytes":  {Kind: privval.KindRawBytes, ChainID: "chain-1", Bytes: []byte("anything"), UniqueID: "u"},
	}
	for allowed, change := range map[string]func(*policy.Policy){
		"none":       nil,
		"sign_bytes": func(p *policy.Policy) { p.AllowSignBytes = true },
		"raw_bytes":  func(p *policy.Policy) { p.AllowRawBytes = true },
	} {
		w := newWorld(t, change)
		w.boot("chain-1", w.create("chain-1"), "a")
		n := w.node()
		for kind, req := range requests {
			if resp, err := callNode(n, req); err != nil || (resp.Signature != nil) != (kind == allowed) {
				t.Errorf("allowed are %s: %s signed %v, %q, %v", allowed, kind, resp.Signature != nil, resp.Refused, err)
			}
		}
		w.halt()
	}
}

// What a host names goes into documents that others read.
func TestChainIDsFromTheHost(t *testing.T) {
	w := newWorld(t, nil)
	for _, id := range []string{"a/b", ".a", "a b", "a\x1b[2J", strings.Repeat("c", 51)} {
		w.refused(id, hostlink.Request{Create: &hostlink.Create{ChainID: id, KeyType: "ed25519"}}, "is not a chain id")
	}
}

// A host that asks for more than there is memory for gets nothing of it.
func TestBootsAreBounded(t *testing.T) {
	w := newWorld(t, nil)
	boot := func(chains, nodes int) hostlink.Request {
		b := &hostlink.Boot{LogLevel: "info"}
		for i := range chains {
			c := hostlink.BootChain{ID: fmt.Sprint("c", i), Wrapped: []byte("none")}
			for j := range nodes {
				c.Nodes = append(c.Nodes, hostlink.BootNode{Name: fmt.Sprint("n", j), Addr: "unix:///n"})
			}
			b.Chains = append(b.Chains, c)
		}
		return hostlink.Request{Boot: b}
	}
	w.refused("chains", boot(hostlink.MaxChains+1, 0), "chains, with those of earlier boots, more than")
	w.refused("nodes of a chain", boot(1, hostlink.MaxNodes+1), "nodes, more than")
	w.refused("nodes of all", boot(hostlink.MaxServed/hostlink.MaxNodes+1, hostlink.MaxNodes), "nodes of all chains")
	for _, b := range []hostlink.Request{boot(hostlink.MaxChains, 1), boot(hostlink.MaxServed/hostlink.MaxNodes, hostlink.MaxNodes)} {
		if _, err := w.ask(b); err != nil {
			t.Error(err)
		}
	}
	long := boot(1, 0)
	long.Boot.Chains[0].ID = strings.Repeat("c", watermark.MaxChainID+1)
	w.refused("a long chain id", long, "a chain id has 51 bytes")
	long.Boot.Chains[0].ID = ""
	w.refused("no chain id", long, "a chain id has 0 bytes")
}

// While the enclave signs with a state, no other one is made beside it.
func TestNoNewStateBesideAnother(t *testing.T) {
	w := newWorld(t, func(p *policy.Policy) { p.StateFloor = map[string]int64{"chain-1": 1000} })
	c := w.create("chain-1")
	w.boot("chain-1", c)
	req := hostlink.Request{NewState: &hostlink.NewState{ChainID: "chain-1", Wrapped: c.Wrapped, AfterHeight: 2000}}
	w.refused("beside its own", req, "signs for the chain already")
}

// What is sealed to an enclave is still refused if it makes no sense: each of these
// was sealed as it is.
func TestSealedImportsThatAreRefused(t *testing.T) {
	w := newWorld(t, nil)
	key, other := newKey(t, pubkey.Ed25519), newKey(t, pubkey.Ed25519)
	for name, c := range map[string]struct {
		change func(*hostlink.Import)
		want   string
	}{
		"no state":           {func(i *hostlink.Import) { i.Height, i.Step, i.SignBytes = 0, 0, nil }, "needs its state"},
		"height 0":           {func(i *hostlink.Import) { i.Height, i.SignBytes = 0, nil }, "needs its state"},
		"no step":            {func(i *hostlink.Import) { i.Step, i.SignBytes = 0, nil }, "needs its state"},
		"a step of none":     {func(i *hostlink.Import) { i.Step, i.SignBytes = 4, nil }, "needs its state"},
		"a negative round":   {func(i *hostlink.Import) { i.Round, i.SignBytes = -1, nil }, "needs its state"},
		"fresh with a state": {func(i *hostlink.Import) { i.Fresh = true }, "needs its state"},
		"fresh with bytes":   {func(i *hostlink.Import) { i.Fresh, i.Height, i.Step = true, 0, 0 }, "needs its state"},
	} {
		req := at(41)
		c.change(&req)
		sealed := w.sealed(key, req)
		w.refused(name, hostlink.Request{Import: &sealed}, c.want)
	}
	// The secret of one key under the name of another.
	exchanged := w.byKMS(key, at(41))
	exchanged.Public = other.PublicKey().Bytes()
	w.refused("another key", hostlink.Request{Import: &exchanged}, "does not belong to the public key")

	// A second import would put the state back to where the first one began.
	once := w.sealed(key, at(41))
	if _, err := w.ask(hostlink.Request{Import: &once}); err != nil {
		t.Fatal(err)
	}
	again := w.sealed(key, at(41))
	w.refused("the same again", hostlink.Request{Import: &once}, "imported the key for this chain already")
	w.refused("sealed again", hostlink.Request{Import: &again}, "imported the key for this chain already")
}

// A nonce is as long as the security module takes it.
func TestNoncesAreBounded(t *testing.T) {
	w := newWorld(t, nil)
	w.boot("chain-1", w.create("chain-1"))
	attest := func(n int) hostlink.Request {
		return hostlink.Request{Attest: &hostlink.Attest{ChainID: "chain-1", Nonce: make([]byte, n)}}
	}
	if _, err := w.ask(attest(hostlink.MaxNonce)); err != nil {
		t.Error(err)
	}
	w.refused("a byte more", attest(hostlink.MaxNonce+1), "a nonce of 513 bytes")

	// The document of a new key has the nonce of whoever asked for the key.
	create := func(nonce []byte) hostlink.Request {
		return hostlink.Request{Create: &hostlink.Create{ChainID: "chain-2", KeyType: "ed25519", Nonce: nonce}}
	}
	reply, err := w.ask(create([]byte("fresh")))
	if err != nil {
		t.Fatal(err)
	}
	if doc, _ := readDocument(t, reply.Created.Document); string(doc.Nonce) != "fresh" {
		t.Errorf("a document with the nonce %q", doc.Nonce)
	}
	w.refused("a byte more", create(make([]byte, hostlink.MaxNonce+1)), "a nonce of 513 bytes")
}

// Where keys are under no KMS key nobody can be asked; where they are, the host gets the
// answers, and no more of an error than of others.
func TestSample(t *testing.T) {
	w := newWorld(t, nil)
	ask := hostlink.Request{Sample: &hostlink.Sample{ChainID: "chain-1"}}
	w.refused("without KMS", ask, "are under no KMS key")
	w.halt()
	long := strings.Repeat("KMS says ", maxText)
	w.sample = func() []hostlink.KMSAnswer {
		return []hostlink.KMSAnswer{{Call: "Decrypt", Raw: []byte("HTTP/1.1 200 OK\r\n")}, {Call: "Decrypt", Error: long}}
	}
	w.start()
	reply, err := w.ask(ask)
	if err != nil || len(reply.Answers) != 2 || string(reply.Answers[0].Raw) != "HTTP/1.1 200 OK\r\n" || reply.Answers[1].Error != long[:maxText] {
		t.Errorf("%.100v, %v", reply.Answers, err)
	}
}
