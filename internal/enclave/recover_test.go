package enclave

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"privyseal/internal/claims"
	"privyseal/internal/hostlink"
	"privyseal/internal/key/sgxseal"
	"privyseal/internal/kwp"
	"privyseal/internal/policy"
	"privyseal/internal/pubkey"
	"privyseal/internal/secret"
)

// holder is who has the recovery key, offline.
type holder struct{ sgxseal.Recovery }

func newHolder(t *testing.T) holder {
	t.Helper()
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return holder{sgxseal.Recovery{X25519: private}}
}

// seals makes a policy one of SGX, whose backups the holder can open.
func (h holder) seals(p *policy.Policy) {
	p.KMSKey, p.KMSEndpoint, p.KMSServerName, p.TLSRoots = "", "", "", ""
	p.SGX = policy.SGX{Seal: policy.SealMRENCLAVE, RecoveryKey: "hpke-x25519:" + base64.StdEncoding.EncodeToString(h.X25519.PublicKey().Bytes())}
}

// key opens the key of a backup, and encrypts it to the wrap key of a document.
func (h holder) key(t *testing.T, backup, document []byte) []byte {
	t.Helper()
	doc, c := readDocument(t, document)
	if c.Purpose != claims.PurposeWrap || c.Recipient != h.Recipient().ID() {
		t.Fatalf("encrypts to the wrap key of %+v", c)
	}
	to, err := x509.ParsePKIXPublicKey(doc.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := h.Key(backup)
	if err != nil {
		t.Fatal(err)
	}
	encrypted, err := kwp.WrapRSA(to.(*rsa.PublicKey), key)
	if err != nil {
		t.Fatal(err)
	}
	return encrypted
}

// spy is a sealer that remembers the secrets that went through it.
type spy struct {
	*sgxseal.Sealer
	w *world
}

func (s spy) Wrap(ctx context.Context, c secret.AWS, k secret.Key) ([]byte, error) {
	s.w.kms.secrets = append(s.w.kms.secrets, bytes.Clone(k.Secret.Reveal()))
	return s.Sealer.Wrap(ctx, c, k)
}

// onSGX gives an enclave what one of SGX has.
func (w *world) onSGX(c *Config) {
	w.t.Helper()
	if w.cpu == nil {
		w.cpu = []byte("the key of a CPU")
	}
	s, err := sgxseal.New(sgxseal.Config{Policy: w.policy, Key: func(string) ([]byte, error) { return bytes.Clone(w.cpu), nil }})
	if err != nil {
		w.t.Fatal(err)
	}
	c.Wrapper, c.Recovery = spy{s, w}, s
	if w.recovery != nil {
		c.Recovery = w.recovery
	}
}

func (w *world) cloudWrap() *hostlink.WrapKey {
	w.t.Helper()
	reply, err := w.ask(hostlink.Request{CloudWrap: &hostlink.CloudWrap{Nonce: []byte("fresh")}})
	if err != nil {
		w.t.Fatal(err)
	}
	if doc, _ := readDocument(w.t, reply.WrapKey.Document); string(doc.Nonce) != "fresh" {
		w.t.Errorf("a document with the nonce %q", doc.Nonce)
	}
	return reply.WrapKey
}

// The whole life of a sealed key: made inside, signs; the CPU is exchanged, or its microcode
// updated; what was sealed does not open; the backup does, and with the record that the host
// kept it signs on from its mark.
func TestRecover(t *testing.T) {
	h := newHolder(t)
	w := newWorld(t, h.seals)
	c := w.create("chain-1")
	_, cl := readDocument(t, c.Document)
	if cl.Purpose != claims.PurposeCreate || cl.Origin != claims.Generated || cl.KMSKey != "" || cl.Seal != "mrenclave" || cl.Recipient != h.Recipient().ID() {
		t.Errorf("the document of the new key says %+v", cl)
	}
	w.boot("chain-1", c, "a")
	n := w.node()
	for height := range int64(5) {
		if resp, err := n.prevote(height+1, 1); err != nil || resp.Signature == nil {
			t.Fatal(resp, err)
		}
	}
	w.halt()
	w.cpu = []byte("of another CPU!!")
	w.start()
	s := w.boot("chain-1", c, "a")
	if !strings.Contains(s.Problem, "does not open here") || !strings.Contains(s.Cure, "`privyseal sgx recover`") {
		t.Fatalf("on another CPU: %+v", s)
	}

	wrapKey := w.cloudWrap()
	req := hostlink.Recover{ChainID: "chain-1", Public: c.Public, WrapKey: wrapKey.Wrapped, Encrypted: h.key(t, c.Backup, wrapKey.Document), Backup: c.Backup}
	rehearsal := req
	rehearsal.Check = true
	reply, err := w.ask(hostlink.Request{Recover: &rehearsal})
	if err != nil {
		t.Fatal(err)
	}
	if r := reply.Created; !bytes.Equal(r.Public, c.Public) || r.KeyType != "ed25519" || r.Wrapped != nil || r.Document != nil || r.Record != nil || r.Backup != nil {
		t.Errorf("a rehearsal gives %+v", r)
	}
	// The wrap key stays good across a restart: the holder may take a day.
	w.halt()
	w.start()
	if reply, err = w.ask(hostlink.Request{Recover: &req}); err != nil {
		t.Fatal(err)
	}
	r := reply.Created
	_, cl = readDocument(t, r.Document)
	if cl.Purpose != claims.PurposeRecover || cl.Origin != claims.RecoveredGenerated || cl.Chain != "chain-1" || cl.Key != claims.EncodeKey(c.Public) || cl.Seq != 0 || cl.Mark != "" {
		t.Errorf("the document of the recovered key says %+v", cl)
	}
	if r.Record != nil || r.Backup != nil || bytes.Equal(r.Wrapped, c.Wrapped) {
		t.Errorf("recovering gives %+v", r)
	}
	if s := w.boot("chain-1", r, "a"); s.Problem != "" || s.Mark != "5/0/prevote" {
		t.Fatalf("%+v", s)
	}
	n = w.node()
	if resp, err := n.prevote(5, 2); err != nil || resp.Refused == "" {
		t.Errorf("a second block at height 5: %v, %v", resp, err)
	}
	if resp, err := n.prevote(6, 2); err != nil || resp.Signature == nil {
		t.Error(resp.Refused, err)
	}
	if reply, err = w.ask(hostlink.Request{Attest: &hostlink.Attest{ChainID: "chain-1"}}); err != nil {
		t.Fatal(err)
	}
	if _, cl := readDocument(t, reply.Document); cl.Origin != claims.RecoveredGenerated || cl.Recipient != h.Recipient().ID() {
		t.Errorf("the attestation of a recovered key says %+v", cl)
	}
	w.noSecretLeft()
}

// An imported key and an identity have backups too, which say what they are of.
func TestEachKeyHasABackup(t *testing.T) {
	h := newHolder(t)
	w := newWorld(t, h.seals)
	key := newKey(t, pubkey.Ed25519)
	imported := w.sealed(key, at(41))
	reply, err := w.ask(hostlink.Request{Import: &imported})
	if err != nil {
		t.Fatal(err)
	}
	identity, err := w.ask(hostlink.Request{Create: &hostlink.Create{KeyType: "ed25519"}})
	if err != nil {
		t.Fatal(err)
	}
	wrapKey := w.cloudWrap()
	for name, c := range map[string]struct {
		created        *hostlink.Created
		chain, origin  string
		recoveredAs    string
		documentedSeal string
	}{
		"imported": {reply.Created, "chain-1", claims.Imported, claims.RecoveredImported, "mrenclave"},
		"identity": {identity.Created, "", claims.Generated, claims.RecoveredGenerated, "mrenclave"},
	} {
		b, err := sgxseal.InspectBackup(c.created.Backup)
		if err != nil || b.ChainID != c.chain || b.Origin != c.origin || !bytes.Equal(b.Public, c.created.Public) || b.Recipient != h.Recipient().ID() {
			t.Errorf("%s: %+v, %v", name, b, err)
		}
		req := hostlink.Recover{ChainID: c.chain, Public: c.created.Public, WrapKey: wrapKey.Wrapped, Encrypted: h.key(t, c.created.Backup, wrapKey.Document), Backup: c.created.Backup}
		again, err := w.ask(hostlink.Request{Recover: &req})
		if err != nil {
			t.Fatal(err)
		}
		if _, cl := readDocument(t, again.Created.Document); cl.Origin != c.recoveredAs || cl.Seal != c.documentedSeal || cl.Chain != c.chain {
			t.Errorf("%s: recovered as %+v", name, cl)
		}
	}
	// A ciphertext of KMS is the one way in that there is not.
	byKMS := w.byKMS(key, at(41))
	w.refused("by KMS", hostlink.Request{Import: &byKMS}, "has no KMS")
	w.noSecretLeft()
}

// tmkms-light's weakness 9: its recover writes the consensus key where the identity belongs.
// Here each request says which key it means, and gets no other one.
func TestRecoverIsOfTheKeyThatIsMeant(t *testing.T) {
	h := newHolder(t)
	w := newWorld(t, func(p *policy.Policy) { h.seals(p); p.Chains = []string{"chain-1", "chain-2"} })
	consensus, other := w.create("chain-1"), w.create("chain-2")
	identity, err := w.ask(hostlink.Request{Create: &hostlink.Create{KeyType: "ed25519"}})
	if err != nil {
		t.Fatal(err)
	}
	wrapKey := w.cloudWrap()
	recover := func(chain string, public []byte, of *hostlink.Created) hostlink.Recover {
		return hostlink.Recover{ChainID: chain, Public: public, WrapKey: wrapKey.Wrapped, Encrypted: h.key(t, of.Backup, wrapKey.Document), Backup: of.Backup}
	}
	for _, c := range []struct {
		name string
		req  hostlink.Recover
		says string
	}{
		{"the consensus key as the identity", recover("", consensus.Public, consensus), `the backup is of the key of chain "chain-1", not of an identity`},
		{"the identity as the consensus key", recover("chain-1", identity.Created.Public, identity.Created), `the backup is of an identity, not of the key of chain "chain-1"`},
		{"another chain's", recover("chain-1", consensus.Public, other), `the backup is of the key of chain "chain-2", not of the key of chain "chain-1"`},
		{"another key", recover("chain-2", consensus.Public, other), "the backup is of the public key " + claims.EncodeKey(other.Public) + ", not of " + claims.EncodeKey(consensus.Public)},
		{"no key", recover("chain-2", nil, other), "the backup is of the public key"},
	} {
		for _, check := range []bool{false, true} {
			c.req.Check = check
			w.refused(c.name, hostlink.Request{Recover: &c.req}, c.says)
		}
	}
	w.halt()
	w.policy.Chains = []string{"chain-1"}
	w.start()
	gone := recover("chain-2", other.Public, other)
	w.refused("a chain that the policy does not name", hostlink.Request{Recover: &gone}, "does not name chain")
}

// A host that knows a secret can make a backup of it, and its own key with it. It gets the
// key sealed, as by an import, and no document that says it was made inside.
func TestForgedBackup(t *testing.T) {
	h := newHolder(t)
	w := newWorld(t, h.seals)
	key := newKey(t, pubkey.Ed25519)
	// What a host can do with the public half of the recovery key, another enclave does for it.
	elsewhere, err := sgxseal.New(sgxseal.Config{Policy: w.policy, Key: func(string) ([]byte, error) { return []byte("a simulated CPU."), nil }})
	if err != nil {
		t.Fatal(err)
	}
	forged := secret.Key{ChainID: "chain-1", KeyType: "ed25519", Public: key.PublicKey().Bytes(), Secret: secret.NewBytes(key.Secret()), Origin: claims.Generated}
	backup, err := elsewhere.Backup(forged)
	if err != nil {
		t.Fatal(err)
	}
	wrapKey := w.cloudWrap()
	req := hostlink.Recover{ChainID: "chain-1", Public: forged.Public, WrapKey: wrapKey.Wrapped, Encrypted: h.key(t, backup, wrapKey.Document), Backup: backup}
	reply, err := w.ask(hostlink.Request{Recover: &req})
	if err != nil {
		t.Fatal(err)
	}
	if _, c := readDocument(t, reply.Created.Document); c.Purpose != claims.PurposeRecover || c.Origin != claims.RecoveredGenerated {
		t.Errorf("a key of the host is documented as %+v", c)
	}
	// One whose secret belongs to another public key gets no further.
	forged.Public = newKey(t, pubkey.Ed25519).PublicKey().Bytes()
	if backup, err = elsewhere.Backup(forged); err != nil {
		t.Fatal(err)
	}
	req = hostlink.Recover{ChainID: "chain-1", Public: forged.Public, WrapKey: wrapKey.Wrapped, Encrypted: h.key(t, backup, wrapKey.Document), Backup: backup}
	w.refused("another secret", hostlink.Request{Recover: &req}, "does not belong to the public key")
}

// brokenRecovery makes no backups.
type brokenRecovery struct{ Recovery }

func (brokenRecovery) Backup(secret.Key) ([]byte, error) { return nil, errors.New("no randomness") }

// tmkms-light's weakness 10: its backup fails without a word. Here no key, record or document
// leaves without one.
func TestABackupThatFails(t *testing.T) {
	h := newHolder(t)
	w := newWorld(t, h.seals)
	w.halt()
	w.recovery = brokenRecovery{}
	w.start()
	for _, chain := range []string{"chain-1", ""} {
		reply, err := w.ask(hostlink.Request{Create: &hostlink.Create{ChainID: chain, KeyType: "ed25519"}})
		if err == nil || !strings.Contains(err.Error(), "no randomness") || reply.Created != nil {
			t.Errorf("%q: %+v, %v", chain, reply, err)
		}
	}
}

// An enclave without backups says so, and one whose policy wants them does not run without.
func TestNoBackups(t *testing.T) {
	w := newWorld(t, nil)
	c := w.create("chain-1")
	if c.Backup != nil {
		t.Error("a backup of a key that KMS keeps")
	}
	w.refused("a wrap key", hostlink.Request{CloudWrap: &hostlink.CloudWrap{}}, "this enclave has no backups")
	w.refused("recover", hostlink.Request{Recover: &hostlink.Recover{ChainID: "chain-1", Public: c.Public}}, "this enclave has no backups")

	h := newHolder(t)
	p := testPolicy(t)
	config := Config{Policy: p, Recovery: brokenRecovery{}}
	if err := Run(t.Context(), config); err == nil || !strings.Contains(err.Error(), "nothing makes backups, or the other way round") {
		t.Errorf("backups for KMS: %v", err)
	}
	h.seals(p)
	config.Recovery = nil
	if err := Run(t.Context(), config); err == nil || !strings.Contains(err.Error(), "nothing makes backups, or the other way round") {
		t.Errorf("no backups for SGX: %v", err)
	}
}

// A lost state is made again above the measured floor as everywhere, and its document says
// what the one of the recovered key says. No second backup is made of it.
func TestNewStateOfARecoveredKey(t *testing.T) {
	h := newHolder(t)
	w := newWorld(t, func(p *policy.Policy) { h.seals(p); p.StateFloor = map[string]int64{"chain-1": 1000} })
	c := w.create("chain-1")
	wrapKey := w.cloudWrap()
	req := hostlink.Recover{ChainID: "chain-1", Public: c.Public, WrapKey: wrapKey.Wrapped, Encrypted: h.key(t, c.Backup, wrapKey.Document), Backup: c.Backup}
	reply, err := w.ask(hostlink.Request{Recover: &req})
	if err != nil {
		t.Fatal(err)
	}
	state := hostlink.NewState{ChainID: "chain-1", Wrapped: reply.Created.Wrapped, AfterHeight: 2000}
	if reply, err = w.ask(hostlink.Request{NewState: &state}); err != nil {
		t.Fatal(err)
	}
	_, cl := readDocument(t, reply.Created.Document)
	if cl.Purpose != claims.PurposeState || cl.Origin != claims.RecoveredGenerated || cl.Mark != "2000/all/all" || reply.Created.Backup != nil {
		t.Errorf("%+v, a backup of %d bytes", cl, len(reply.Created.Backup))
	}
	low := state
	low.AfterHeight = 999
	w.refused("below the floor", hostlink.Request{NewState: &low}, "below the measured state_floor")
}

// A wrap key's nonce is as long as others, and a wrap key is no identity.
func TestWrapKeys(t *testing.T) {
	h := newHolder(t)
	w := newWorld(t, h.seals)
	w.refused("a long nonce", hostlink.Request{CloudWrap: &hostlink.CloudWrap{Nonce: make([]byte, hostlink.MaxNonce+1)}}, "a nonce of 513 bytes")
	c := w.create("chain-1")
	b := &hostlink.Boot{LogLevel: "info", Chains: []hostlink.BootChain{{ID: "chain-1", Wrapped: c.Wrapped, Identity: w.cloudWrap().Wrapped}}}
	reply, err := w.ask(hostlink.Request{Boot: b})
	if err != nil || !strings.Contains(reply.Status.Chains[0].Problem, "a wrap key, which signs nothing") {
		t.Errorf("%+v, %v", reply.Status, err)
	}
}
