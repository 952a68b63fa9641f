package aiakos_test

import (
	"bytes"
	"errors"
	"io"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"privyseal/aiakos"
	"privyseal/internal/command"
	"privyseal/internal/filestore/filestoretest"
	"privyseal/internal/home"
	"privyseal/internal/ops/file"
	"privyseal/internal/ops/nitro"
	"privyseal/internal/ops/soft"
	"privyseal/internal/ops/yubihsm"
	"privyseal/internal/privval"
	"privyseal/internal/privval/privvaltest"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
)

// A node's types, as far as a signer meets them. The real ones, of each version, are those
// of test/inprocess.

// message is a vote or a proposal, as it is encoded.
type message struct{ raw []byte }

func (m *message) Marshal() ([]byte, error) { return bytes.Clone(m.raw), nil }

func (m *message) Unmarshal(b []byte) error {
	m.raw = bytes.Clone(b)
	return nil
}

func (m *message) Reset() { m.raw = nil }

// key is a public key of the node's, and encodedKey the message that it is made of.
type key struct {
	kind string
	raw  []byte
}

func (k key) Bytes() []byte { return k.raw }

type encodedKey struct{ raw []byte }

func (e *encodedKey) Unmarshal(b []byte) error {
	e.raw = bytes.Clone(b)
	return nil
}

// keyFromProto knows two types of keys, as versions before v0.38.26 do.
func keyFromProto(e encodedKey) (key, error) {
	num, _, n := protowire.ConsumeTag(e.raw)
	raw, m := protowire.ConsumeBytes(e.raw[n:])
	kind := map[protowire.Number]string{1: "ed25519", 2: "secp256k1"}[num]
	if m < 0 || kind == "" {
		return key{}, errors.New("fromproto: key type <nil> is not supported")
	}
	return key{kind, raw}, nil
}

func keyFromBytes(kind string, b []byte) (key, error) { return key{kind, b}, nil }

type (
	validator   = aiakos.Validator[key, *message, *message]
	validatorV1 = aiakos.ValidatorV1[key, *message, *message]
	signer      = aiakos.PV[key, *message, *message]
	signerV1    = aiakos.PV1[key, *message, *message]
)

var (
	_ validator   = (*signer)(nil)
	_ validatorV1 = (*signerV1)(nil)
)

func open(t *testing.T, dir string) *signer {
	pv := aiakos.New(dir, validator(nil), keyFromProto)
	t.Cleanup(func() { pv.Close() })
	return pv
}

func openV1(t *testing.T, dir string) *signerV1 {
	pv := aiakos.NewV1(dir, validatorV1(nil), keyFromBytes)
	t.Cleanup(func() { pv.Close() })
	return pv
}

// chainID is that of the chain in every home.
const chainID = "chain-1"

// request is what a node wants signed at a height. block 0 is none.
func request(kind privval.Kind, height int64, block byte) privval.Request {
	r := privval.Request{Kind: kind, ChainID: chainID, Height: height, Timestamp: privval.Timestamp{Seconds: 100}}
	if kind == privval.KindProposal {
		r.POLRound = -1
	}
	if block != 0 {
		hash := bytes.Repeat([]byte{block}, 32)
		r.BlockID = privval.BlockID{Hash: hash, PartsTotal: 1, PartsHash: hash}
	}
	return r
}

// encode returns the vote or the proposal of a request as its node has it.
func encode(r privval.Request) *message {
	payload := privvaltest.EncodeRequest(r)
	_, _, n := protowire.ConsumeTag(payload)
	in, _ := protowire.ConsumeBytes(payload[n:])
	_, _, n = protowire.ConsumeTag(in)
	raw, _ := protowire.ConsumeBytes(in[n:])
	return &message{raw}
}

// decode reads a vote or a proposal.
func decode(t *testing.T, kind privval.Kind, m *message) privval.Request {
	t.Helper()
	payload := privval.VoteRequest(m.raw, chainID, false)
	if kind == privval.KindProposal {
		payload = privval.ProposalRequest(m.raw, chainID)
	}
	r, err := privval.Decode(payload)
	if err != nil || r.Invalid != nil {
		t.Fatalf("a message that came back: %v, %v", err, r.Invalid)
	}
	return r
}

// sign has a request signed, and returns what came back.
func sign(t *testing.T, pv validator, r privval.Request) (privval.Request, error) {
	t.Helper()
	m := encode(r)
	was := bytes.Clone(m.raw)
	var err error
	if r.Kind == privval.KindProposal {
		err = pv.SignProposal(r.ChainID, m)
	} else {
		err = pv.SignVote(r.ChainID, m)
	}
	if err != nil {
		if !bytes.Equal(m.raw, was) {
			t.Errorf("not signed, and not as it was: %x, %x", m.raw, was)
		}
		return r, err
	}
	return decode(t, r.Kind, m), nil
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "privyseal-run-")
	if err != nil {
		log.Fatal(err)
	}
	os.Setenv("PRIVYSEAL_RUN", dir) // a host that remembers nothing of earlier tests
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// privyseal types a command line.
func privyseal(t *testing.T, args ...string) {
	t.Helper()
	root := command.NewRoot(home.Build{
		Providers: []home.Provider{soft.Provider(), nitro.Provider(), yubihsm.Provider()},
		Stores:    []provider.Store{file.Store()},
	})
	var out bytes.Buffer
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(io.MultiWriter(&out))
	if err := root.Execute(); err != nil {
		t.Fatalf("privyseal %v: %v\n%s", args, err, &out)
	}
}

// newHome makes a home folder with one chain.
func newHome(t *testing.T, more ...string) string {
	t.Helper()
	dir := filepath.Join(filestoretest.Folder(t), "home")
	privyseal(t, append([]string{"init", "--home", dir, "--chain-id", chainID, "--node", "unix:///nobody.sock"}, more...)...)
	edit(t, dir, "listen", "", `""`) // whichever port was free
	edit(t, dir, "level", `"info"`, `"error"`)
	return dir
}

// edit replaces a value in the config, "" for any.
func edit(t *testing.T, dir, key, old, value string) {
	t.Helper()
	path := filepath.Join(dir, "privyseal.toml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before := regexp.QuoteMeta(old)
	if old == "" {
		before = ".*"
	}
	changed := regexp.MustCompile(`(?m)^(# )?`+key+`( *)= `+before).ReplaceAll(text, []byte(key+" = "+value))
	if bytes.Equal(text, changed) {
		t.Fatalf("no %s = %s in\n%s", key, old, text)
	}
	if err := os.WriteFile(path, changed, 0o600); err != nil {
		t.Fatal(err)
	}
}

func publicKey(t *testing.T, pv validator, kind pubkey.Type) pubkey.Key {
	t.Helper()
	k, err := pv.GetPubKey()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pubkey.New(kind, k.raw)
	if err != nil || k.kind != string(kind) {
		t.Fatalf("a key of type %s: %v", k.kind, err)
	}
	return public
}
