package enclavekey

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"privyseal/internal/claims"
	"privyseal/internal/hostlink"
	"privyseal/internal/key/soft"
	"privyseal/internal/pubkey"
	"privyseal/internal/watermark"
)

// answers is an enclave that gives one answer, with one document.
type answers struct {
	reply hostlink.Reply
	says  claims.Claims
	// wrong are errors of Verify and Wraps.
	unverified, otherFiles error
	purpose                string
}

func (a *answers) Call(context.Context, hostlink.Request) (hostlink.Reply, error) {
	return a.reply, nil
}

func (a *answers) Verify(_ []byte, purpose string) (claims.Claims, error) {
	a.purpose = purpose
	return a.says, a.unverified
}

func (a *answers) Wraps(string, *Key) error { return a.otherFiles }

func (a *answers) Identity(string) (pubkey.Key, error) { return pubkey.Key{}, nil }

// newAnswer returns the right answer of an enclave that was asked for a key of chain-1, whose
// state is at a mark.
func newAnswer(t *testing.T, key *soft.Key, origin string, m watermark.Mark) *answers {
	t.Helper()
	secret, err := key.Derive("state record 1")
	if err != nil {
		t.Fatal(err)
	}
	public := key.PublicKey()
	record, err := hostlink.Key(secret).Seal(watermark.ID{ChainID: "chain-1", Key: public.ID()}, hostlink.Record{Seq: 7, Mark: m})
	if err != nil {
		t.Fatal(err)
	}
	return &answers{
		reply: hostlink.Reply{Created: &hostlink.Created{KeyType: "ed25519", Public: public.Bytes(), Wrapped: []byte("wrapped"), Record: record, Document: []byte("document")}},
		says:  claims.Claims{Chain: "chain-1", KeyType: "ed25519", Key: claims.EncodeKey(public.Bytes()), Origin: origin, Seq: 7, Mark: m.String()},
	}
}

// What an enclave answers is installed only if it is what was asked for.
func TestMake(t *testing.T) {
	key, err := soft.Generate(pubkey.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Wipe()
	other, err := soft.Generate(pubkey.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Wipe()
	public := key.PublicKey().Bytes()
	at := watermark.Mark{Height: 9, Step: watermark.StepPrecommit}
	create := hostlink.Request{Create: &hostlink.Create{ChainID: "chain-1", KeyType: "ed25519"}}
	imported := hostlink.Request{Import: &hostlink.Import{ChainID: "chain-1", KeyType: "ed25519", Public: public, Height: 9, Step: uint8(watermark.StepPrecommit)}}
	recover := hostlink.Request{Recover: &hostlink.Recover{ChainID: "chain-1", Public: public}}
	for _, c := range []struct {
		name   string
		req    hostlink.Request
		origin string
		mark   watermark.Mark
		change func(a *answers)
		wrong  string
	}{
		{name: "made", req: create, origin: claims.Generated},
		{name: "imported", req: imported, origin: claims.Imported, mark: at},
		{name: "recovered", req: recover, origin: claims.RecoveredGenerated},
		{name: "recovered, once imported", req: recover, origin: claims.RecoveredImported},
		{name: "nothing", req: create, origin: claims.Generated, change: func(a *answers) { a.reply.Created = nil }, wrong: "the enclave sent no key"},
		{name: "no wrapped key", req: create, origin: claims.Generated, change: func(a *answers) { a.reply.Created.Wrapped = nil }, wrong: "the enclave sent no key"},
		{name: "a key of no type", req: create, origin: claims.Generated, change: func(a *answers) { a.reply.Created.KeyType = "x" }, wrong: "x"},
		{name: "a document that is not valid", req: create, origin: claims.Generated, change: func(a *answers) { a.unverified = errors.New("no quote") }, wrong: "the enclave's attestation is not valid, nothing was installed: no quote"},
		{name: "files of another key", req: create, origin: claims.Generated, change: func(a *answers) { a.otherFiles = errors.New("the sealed key is another one") }, wrong: "nothing was installed: the sealed key is another one"},
		{name: "another chain", req: create, origin: claims.Generated, change: func(a *answers) { a.says.Chain = "chain-2" }, wrong: `of chain "chain-2"`},
		{name: "another key in the document", req: create, origin: claims.Generated, change: func(a *answers) { a.says.Key = claims.EncodeKey(other.PublicKey().Bytes()) }, wrong: "a key " + claims.EncodeKey(other.PublicKey().Bytes())},
		{name: "another type in the document", req: create, origin: claims.Generated, change: func(a *answers) { a.says.KeyType = "secp256k1" }, wrong: "a key "},
		{name: "an imported key for a new one", req: create, origin: claims.Imported, wrong: "imported"},
		{name: "a recovered key for a new one", req: create, origin: claims.RecoveredGenerated, wrong: "from a backup"},
		{name: "a new key for an imported one", req: imported, origin: claims.Generated, mark: at, wrong: "generated"},
		{name: "a new key for a recovered one", req: recover, origin: claims.Generated, wrong: "a recovered key that is generated"},
		{name: "another key for an imported one", req: hostlink.Request{Import: &hostlink.Import{KeyType: "ed25519", Public: other.PublicKey().Bytes(), Height: 9, Step: uint8(watermark.StepPrecommit)}}, origin: claims.Imported, mark: at, wrong: "another public key"},
		{name: "another key for a recovered one", req: hostlink.Request{Recover: &hostlink.Recover{Public: other.PublicKey().Bytes()}}, origin: claims.RecoveredGenerated, wrong: "another public key"},
		{name: "a key of another type", req: hostlink.Request{Create: &hostlink.Create{KeyType: "bls12_381"}}, origin: claims.Generated, wrong: "a key of type ed25519"},
		{name: "a lower state than that of the import", req: imported, origin: claims.Imported, mark: watermark.Mark{Height: 8, Step: watermark.StepPrecommit}, wrong: "a state at 8/0/precommit"},
		{name: "a state of a new key", req: create, origin: claims.Generated, mark: at, wrong: "a state at 9/0/precommit"},
		{name: "a document of another record", req: create, origin: claims.Generated, change: func(a *answers) { a.says.Seq = 8 }, wrong: "a state at "},
		{name: "no record", req: create, origin: claims.Generated, change: func(a *answers) { a.reply.Created.Record = nil }, wrong: "record"},
	} {
		a := newAnswer(t, key, c.origin, c.mark)
		if c.change != nil {
			c.change(a)
		}
		made, err := Make(t.Context(), a, "chain-1", c.req)
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: %v, want %q", c.name, err, c.wrong)
		}
		if err == nil && !bytes.Equal(made.Public.Bytes(), public) {
			t.Errorf("%s: %v", c.name, made.Public)
		}
		want := claims.PurposeCreate
		if c.req.Recover != nil {
			want = claims.PurposeRecover
		}
		if a.purpose != "" && a.purpose != want {
			t.Errorf("%s: verified for %q", c.name, a.purpose)
		}
	}
}

// All that an enclave sends is kept: each file beside the key.
func TestFiles(t *testing.T) {
	k := Key{Created: &hostlink.Created{Wrapped: []byte("w"), Document: []byte("d")}}
	names := func() (list []string) {
		for _, f := range k.Files("keys/c.sealed") {
			list = append(list, f.Path+" "+strings.TrimSpace(string(f.Data)))
		}
		return list
	}
	if got := strings.Join(names(), ", "); got != "keys/c.sealed w, keys/c.attestation ZA==" {
		t.Error(got)
	}
	k.Backup = []byte("b")
	if got := strings.Join(names(), ", "); got != "keys/c.sealed w, keys/c.attestation ZA==, keys/c.backup b" {
		t.Error(got)
	}
}
