package aiakos_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"privyseal/aiakos"
	"privyseal/internal/daemon"
	"privyseal/internal/privval"
	"privyseal/internal/pubkey"
)

// What a node asks for in a height is signed, with keys of each type that it knows.
func TestSignsForANode(t *testing.T) {
	for _, kind := range []pubkey.Type{pubkey.Ed25519, pubkey.Secp256k1} {
		pv := open(t, newHome(t, "--key-type", string(kind)))
		public := publicKey(t, pv, kind)
		for _, want := range []privval.Request{
			request(privval.KindProposal, 1, 1), request(privval.KindPrevote, 1, 1), request(privval.KindPrecommit, 1, 1),
			request(privval.KindPrevote, 2, 0), request(privval.KindPrecommit, 2, 0),
		} {
			want.Extension = nil
			if want.Kind == privval.KindPrecommit && want.Height == 1 {
				want.Extension = []byte("prices")
			}
			got, err := sign(t, pv, want)
			switch {
			case err != nil:
				t.Errorf("%v: %v", want.Kind, err)
			case !bytes.Equal(got.SignBytes(), want.SignBytes()) || !public.Verify(want.SignBytes(), got.Signature):
				t.Errorf("%v: %+v, want %+v", want.Kind, got, want)
			case want.Extension != nil && !public.Verify(want.ExtensionSignBytes(), got.ExtensionSignature):
				t.Errorf("%v: a bad signature of its extension", want.Kind)
			case want.Extension == nil && want.Kind == privval.KindPrevote && got.ExtensionSignature != nil:
				t.Errorf("%v: signed an extension", want.Kind)
			}
		}
	}
}

// In v1 the node says whether the extension is to be signed. Bytes of its choice are
// signed where the config has it.
func TestSignsForANodeOfV1(t *testing.T) {
	dir := newHome(t)
	pv := openV1(t, dir)
	k, err := pv.GetPubKey()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pubkey.New(pubkey.Ed25519, k.raw)
	if err != nil {
		t.Fatal(err)
	}
	for height, signExtension := range []bool{1: true, 2: false} {
		if height == 0 {
			continue
		}
		want := request(privval.KindPrecommit, int64(height), 1)
		want.Extension = []byte("prices")
		m := encode(want)
		if err := pv.SignVote(chainID, m, signExtension); err != nil {
			t.Fatal(err)
		}
		got := decode(t, want.Kind, m)
		if !public.Verify(want.SignBytes(), got.Signature) || public.Verify(want.ExtensionSignBytes(), got.ExtensionSignature) != signExtension {
			t.Errorf("an extension signed: %x, want %t", got.ExtensionSignature, signExtension)
		}
	}
	if err := pv.SignProposal(chainID, encode(request(privval.KindProposal, 3, 1))); err != nil {
		t.Error(err)
	}
	if sig, err := pv.SignBytes([]byte("randao")); !errors.Is(err, aiakos.ErrRefused) || sig != nil {
		t.Errorf("bytes of the node's choice: %x, %v", sig, err)
	}
	pv.Close()
	edit(t, dir, "allow_sign_bytes", "false", "true")
	pv = openV1(t, dir)
	if sig, err := pv.SignBytes([]byte("randao")); err != nil || !public.Verify([]byte("randao"), sig) {
		t.Errorf("bytes of the node's choice: %x, %v", sig, err)
	}
}

// A vote that differs in its timestamp alone is given the recorded one, with its
// signature. Whatever else is asked for at a height, round and step that was signed, or
// below, is refused, before and after a restart.
func TestSignsNothingTwice(t *testing.T) {
	dir := newHome(t)
	pv := open(t, dir)
	first, err := sign(t, pv, request(privval.KindPrevote, 5, 1))
	if err != nil {
		t.Fatal(err)
	}
	for restarted := range 2 {
		later := request(privval.KindPrevote, 5, 1)
		later.Timestamp = privval.Timestamp{Seconds: 200, Nanos: 7}
		again, err := sign(t, pv, later)
		if err != nil || again.Timestamp != first.Timestamp || !bytes.Equal(again.Signature, first.Signature) {
			t.Errorf("restarted %d: %v, %+v, want %+v", restarted, err, again, first)
		}
		for what, r := range map[string]privval.Request{
			"another block": request(privval.KindPrevote, 5, 2),
			"nil":           request(privval.KindPrevote, 5, 0),
			"a step back":   request(privval.KindProposal, 5, 1),
			"a height back": request(privval.KindPrecommit, 4, 1),
			"far ahead":     request(privval.KindPrevote, 1<<40, 1),
		} {
			if got, err := sign(t, pv, r); !errors.Is(err, aiakos.ErrRefused) {
				t.Errorf("restarted %d: %s: %v, %x", restarted, what, err, got.Signature)
			}
		}
		pv.Close()
		pv = open(t, dir)
	}
	if _, err := sign(t, pv, request(privval.KindPrecommit, 5, 1)); err != nil {
		t.Errorf("the next step: %v", err)
	}
}

// Many at once, as no node does it: of each height and step one block is signed.
func TestManyAtOnce(t *testing.T) {
	pv := open(t, newHome(t))
	var mu sync.Mutex
	signed := map[string]bool{} // position and block
	blocks := map[string]int{}  // by position
	var group sync.WaitGroup
	for block := byte(1); block <= 4; block++ {
		group.Go(func() {
			for height := int64(1); height <= 10; height++ {
				for _, kind := range []privval.Kind{privval.KindProposal, privval.KindPrevote, privval.KindPrecommit} {
					if _, err := sign(t, pv, request(kind, height, block)); err != nil {
						if !errors.Is(err, aiakos.ErrRefused) {
							t.Error(err)
						}
						continue
					}
					at := fmt.Sprint(height, kind)
					mu.Lock()
					if key := fmt.Sprint(at, block); !signed[key] {
						signed[key] = true
						blocks[at]++
					}
					mu.Unlock()
				}
			}
		})
	}
	group.Wait()
	if len(blocks) < 10 {
		t.Errorf("only %d positions were signed", len(blocks))
	}
	for at, n := range blocks {
		if n != 1 {
			t.Errorf("%d blocks at %s", n, at)
		}
	}
}

// Whatever is wrong with the home folder is an error, for the public key and for a
// signature, with the next command. Once it is right the same signer signs.
func TestHomeThatCannotBeUsed(t *testing.T) {
	for _, tt := range []struct {
		what        string
		wrong, mend func(t *testing.T, dir string)
		want        []string
	}{
		{"no folder", func(t *testing.T, dir string) { rename(t, dir, dir+".away") }, func(t *testing.T, dir string) { rename(t, dir+".away", dir) },
			[]string{"there is no", "privyseal.toml", "privyseal init --home"}},
		{"a mistake in the config", func(t *testing.T, dir string) { edit(t, dir, "provider", `"soft"`, `"sift"`) }, func(t *testing.T, dir string) { edit(t, dir, "provider", `"sift"`, `"soft"`) },
			[]string{"sift"}},
		{"a provider that signs elsewhere", func(t *testing.T, dir string) { edit(t, dir, "provider", `"soft"`, `"nitro"`) }, func(t *testing.T, dir string) { edit(t, dir, "provider", `"nitro"`, `"soft"`) },
			[]string{"nitro", "soft"}},
		{"no state", func(t *testing.T, dir string) { rename(t, state(dir), dir+".mark") }, func(t *testing.T, dir string) { rename(t, dir+".mark", state(dir)) },
			[]string{"no such file", "privyseal state init --home"}},
		{"no key", func(t *testing.T, dir string) { rename(t, keyFile(dir), dir+".key") }, func(t *testing.T, dir string) { rename(t, dir+".key", keyFile(dir)) },
			[]string{"keys/" + chainID + ".key"}},
		{"a key that others may read", func(t *testing.T, dir string) { chmod(t, keyFile(dir), 0o644) }, func(t *testing.T, dir string) { chmod(t, keyFile(dir), 0o600) },
			[]string{"chmod 600"}},
		{"a second chain, and none chosen", func(t *testing.T, dir string) {
			privyseal(t, "init", "--home", dir, "--chain-id", "chain-2", "--node", "unix:///2.sock")
		}, nil, []string{"several", chainID + ", chain-2"}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			dir := newHome(t)
			tt.wrong(t, dir)
			pv := open(t, dir)
			_, err := pv.GetPubKey()
			_, err2 := sign(t, pv, request(privval.KindPrevote, 1, 1))
			for _, err := range []error{err, err2} {
				for _, want := range tt.want {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("no %q in: %v", want, err)
					}
				}
				if errors.Is(err, aiakos.ErrRefused) {
					t.Errorf("taken for a refusal: %v", err)
				}
			}
			if tt.mend == nil {
				pv.Chain(chainID)
			} else {
				tt.mend(t, dir)
			}
			if _, err := sign(t, pv, request(privval.KindPrevote, 1, 1)); err != nil {
				t.Errorf("mended: %v", err)
			}
		})
	}
	if _, err := open(t, newHome(t)).Chain("chain-9").GetPubKey(); err == nil || !strings.Contains(err.Error(), "chain-9") || !strings.Contains(err.Error(), chainID) {
		t.Errorf("a chain that is not there: %v", err)
	}
	t.Setenv("PRIVYSEAL_HOME", "")
	if _, err := open(t, "").GetPubKey(); err == nil || !strings.Contains(err.Error(), "PRIVYSEAL_HOME") {
		t.Errorf("no home named: %v", err)
	}
}

func state(dir string) string { return filepath.Join(dir, "state", chainID+".mark") }

func keyFile(dir string) string { return filepath.Join(dir, "keys", chainID+".key") }

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// One signer at a time has the state: of two in one process the second is refused, and
// goes on once the first is closed. A state whose bytes were put back is refused.
func TestStateIsHeldAndKept(t *testing.T) {
	dir := newHome(t)
	first, second := open(t, dir), open(t, dir)
	old, err := os.ReadFile(state(dir))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sign(t, first, request(privval.KindPrevote, 1, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := sign(t, second, request(privval.KindPrevote, 1, 2)); err == nil || !strings.Contains(err.Error(), "another process has it open") || !daemon.MayPass(err) {
		t.Errorf("a second signer: %v", err)
	}
	first.Close()
	first.Close()
	if _, err := sign(t, first, request(privval.KindPrevote, 2, 1)); err == nil || errors.Is(err, aiakos.ErrRefused) {
		t.Errorf("a signer that is closed: %v", err)
	}
	if _, err := sign(t, second, request(privval.KindPrevote, 1, 2)); !errors.Is(err, aiakos.ErrRefused) {
		t.Errorf("another block after the first signer's: %v", err)
	}
	second.Close()
	never := open(t, dir)
	never.Close()
	if _, err := never.GetPubKey(); err == nil {
		t.Error("a signer that was closed before it was asked for anything opens the state")
	}
	if err := os.WriteFile(state(dir), old, 0o600); err != nil {
		t.Fatal(err)
	}
	third := open(t, dir)
	if _, err := sign(t, third, request(privval.KindPrevote, 1, 2)); err == nil || !strings.Contains(err.Error(), "privyseal state adopt --home "+dir) {
		t.Errorf("an old state: %v", err)
	}
}

// What a node gets wrong is an error.
func TestRequestsThatCannotBeMeant(t *testing.T) {
	pv := open(t, newHome(t))
	if err := pv.SignVote(chainID, nil); err == nil {
		t.Error("signed nil")
	}
	if err := pv.SignProposal(chainID, nil); err == nil {
		t.Error("signed nil")
	}
	half := request(privval.KindPrevote, 1, 1)
	half.BlockID.PartsHash = nil
	prevote := request(privval.KindPrevote, 1, 1)
	prevote.Extension = []byte("x")
	other := request(privval.KindPrevote, 1, 1)
	other.ChainID = "chain-2"
	for what, r := range map[string]privval.Request{
		"height 0": request(privval.KindPrevote, 0, 1), "half a block": half, "an extension": prevote, "another chain": other, "a proposal of nothing": request(privval.KindProposal, 1, 0),
	} {
		if _, err := sign(t, pv, r); !errors.Is(err, aiakos.ErrRefused) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, m := range map[string]*message{"nothing": {}, "noise": {[]byte("noise")}} {
		if err := pv.SignVote(chainID, m); !errors.Is(err, aiakos.ErrRefused) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// odd is a message of a node that is not what CometBFT generates.
type odd struct {
	message
	refuses, forgets bool
	fails            error
}

func (o *odd) Marshal() ([]byte, error) { return bytes.Clone(o.raw), o.fails }

func (o *odd) Unmarshal(b []byte) error {
	switch {
	case o.refuses:
		o.refuses = false // what it was is taken
		return errors.New("it is too long")
	case o.forgets:
		o.forgets = false
		r, _ := privval.Decode(privval.VoteRequest(b, chainID, false))
		r.Timestamp.Seconds++
		o.raw = encode(r).raw
		return nil
	}
	return o.message.Unmarshal(b)
}

// A message that does not keep what was signed gives no signature to the node, which
// would send it with bytes that it is not over.
func TestMessagesThatKeepNothing(t *testing.T) {
	pv := aiakos.New(newHome(t), aiakos.Validator[key, *odd, *odd](nil), keyFromProto)
	defer pv.Close()
	raw := encode(request(privval.KindPrevote, 1, 1)).raw
	for _, m := range []*odd{{refuses: true}, {forgets: true}, {fails: errors.New("no time")}} {
		m.raw = bytes.Clone(raw)
		if err := pv.SignVote(chainID, m); err == nil || errors.Is(err, aiakos.ErrRefused) || !bytes.Equal(m.raw, raw) {
			t.Errorf("%v, %x", err, m.raw)
		}
	}
	m := &odd{message: message{bytes.Clone(raw)}}
	if err := pv.SignVote(chainID, m); err != nil || bytes.Equal(m.raw, raw) {
		t.Error(err)
	}
}

// A key of a type that the node does not know, or takes for another one, is an error, and
// the chain of the next node has it.
func TestKeysThatTheNodeDoesNotKnow(t *testing.T) {
	dir := newHome(t, "--key-type", string(pubkey.MLDSA65))
	pv := open(t, dir)
	if _, err := pv.GetPubKey(); err == nil || !strings.Contains(err.Error(), "ml_dsa_65") {
		t.Error(err)
	}
	pv.Close()
	other := aiakos.New(dir, validator(nil), func(encodedKey) (key, error) { return key{"secp256k1eth", []byte("other")}, nil })
	if _, err := other.GetPubKey(); err == nil || !strings.Contains(err.Error(), "another") {
		t.Error(err)
	}
	other.Close()
	v1 := openV1(t, dir)
	if k, err := v1.GetPubKey(); err != nil || k.kind != "ml_dsa_65" {
		t.Errorf("%v, %v", k, err)
	}
}

// A node asks once: what passes is waited for, here a witness that does not answer, for
// longer than a request over a connection is in progress.
func TestWaitsForWhatPasses(t *testing.T) {
	t.Parallel()
	dir := newHome(t, "--witness", "http://127.0.0.1:1")
	edit(t, dir, "witness", `["http://127.0.0.1:1"]`, `["http://127.0.0.1:1"]`+"\nwitness_wait = \"6s\"")
	pv := open(t, dir)
	start := time.Now()
	if _, err := sign(t, pv, request(privval.KindPrevote, 1, 1)); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took < 5*time.Second {
		t.Errorf("signed after %s", took)
	}
}

// Who closes a signer does not wait for what may yet pass.
func TestClosedWhileItWaits(t *testing.T) {
	t.Parallel()
	dir := newHome(t, "--witness", "http://127.0.0.1:1")
	edit(t, dir, "witness", `["http://127.0.0.1:1"]`, `["http://127.0.0.1:1"]`+"\nwitness_wait = \"10m\"")
	pv := open(t, dir)
	if _, err := pv.GetPubKey(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- pv.SignVote(chainID, encode(request(privval.KindPrevote, 1, 1))) }()
	pv.Close()
	if err := <-done; err == nil {
		t.Error("signed")
	}
}
