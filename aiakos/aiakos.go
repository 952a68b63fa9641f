// Package aiakos is privyseal inside a node: a private validator that is linked into the
// program of a chain, in place of CometBFT's FilePV. In server/start.go of the Cosmos SDK
// one argument changes:
//
//	aiakos.New(cfg.RootDir+"/privyseal", (*pvm.FilePV)(nil), cryptoenc.PubKeyFromProto),
//
// It satisfies types.PrivValidator of CometBFT v0.34, v0.37, v0.38, v0.39 and v0.40
// ([New]) and of v1.0 and v2.0 ([NewV1]), and imports none of them: the types of votes,
// proposals and public keys are those of the node that it is compiled with.
//
// Key and state are those of a home folder that `privyseal init` or `privyseal migrate`
// has made, and so are the rules: nothing is signed that is not already durable as a
// mark, a missing, copied or restored state is an error, and a second signer for the same
// chain and key on this host is one too, `privyseal start` among them. What it cannot do
// is keep the key from the node: whoever takes over the node's process has all that it
// can reach. doc/in-process.md says when a process of its own is better.
//
// Nothing here panics. The home folder is opened when the node first asks for something,
// which is its public key; a failure ends the node's start with the reason and the next
// command to type. The node's priv_validator_laddr has to be empty: with an address there
// a node waits for a remote signer, and never asks this one.
package aiakos

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"sync"

	"privyseal/internal/privval"
)

// Message is a pointer to a message of CometBFT's, as gogoproto generates it.
type Message interface {
	comparable
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
	Reset()
}

// Validator is types.PrivValidator up to v0.40, with public keys K, votes V and proposals
// P. privval.FilePV is one.
type Validator[K any, V, P Message] interface {
	GetPubKey() (K, error)
	SignVote(chainID string, vote V) error
	SignProposal(chainID string, proposal P) error
}

// PV is a [Validator] that signs with the key of a home folder. Its methods may be called
// by several goroutines at once.
type PV[K any, V, P Message] struct {
	signer
	pubKey func(privval.PubKey) (K, error)

	mu  sync.Mutex
	key *K // as the node got it; nil before
}

// New returns a signer for nodes of v0.34 to v0.40, which signs for the only chain of a
// home folder; [PV.Chain] chooses one of several. "" is the folder in $PRIVYSEAL_HOME.
//
// like only says which types the node has: (*privval.FilePV)(nil) does. pubKey is
// PubKeyFromProto of the node's package crypto/encoding.
func New[K any, V, P Message, M any, PM interface {
	*M
	Unmarshal([]byte) error
}](home string, like Validator[K, V, P], pubKey func(M) (K, error)) *PV[K, V, P] {
	return &PV[K, V, P]{signer: signer{home: home}, pubKey: func(key privval.PubKey) (k K, err error) {
		var m M
		encoded := key.PublicKey()
		if encoded == nil {
			return k, errors.New("it has no number in PublicKey")
		}
		if err := PM(&m).Unmarshal(encoded); err != nil {
			return k, err
		}
		return pubKey(m)
	}}
}

// Chain chooses the chain with that name, or that id, of the home folder. It returns pv.
func (pv *PV[K, V, P]) Chain(name string) *PV[K, V, P] {
	pv.chain = name
	return pv
}

// GetPubKey returns the public key. It opens the home folder if that is not done yet.
func (pv *PV[K, V, P]) GetPubKey() (K, error) {
	pv.mu.Lock()
	defer pv.mu.Unlock()
	if pv.key != nil {
		return *pv.key, nil
	}
	var none K
	ours, err := pv.publicKey()
	if err != nil {
		return none, err
	}
	k, err := pv.pubKey(ours)
	if err == nil && !sameKey(k, ours) {
		err = errors.New("it takes the key for another one")
	}
	if err != nil {
		return none, fmt.Errorf("cannot give this node the key: it is of type %s: %w", ours.Type, err)
	}
	pv.key = &k
	return k, nil
}

// sameKey reports whether a public key of the node's has our bytes.
func sameKey(k any, ours privval.PubKey) bool {
	theirs, ok := k.(interface{ Bytes() []byte })
	if !ok {
		return false
	}
	b := string(theirs.Bytes())
	return b == string(ours.Bytes) || b == string(ours.Uncompressed)
}

// SignVote signs a vote, and its extension if it is a precommit for a block. A vote that
// differs from a signed one in its timestamp alone is given the recorded timestamp and
// signature. A vote that was not signed is left as it was.
func (pv *PV[K, V, P]) SignVote(chainID string, vote V) error {
	return signVote(&pv.signer, chainID, vote, false)
}

// SignProposal signs a proposal. One that was not signed is left as it was.
func (pv *PV[K, V, P]) SignProposal(chainID string, proposal P) error {
	return sign(&pv.signer, proposal, func(encoded []byte) []byte { return privval.ProposalRequest(encoded, chainID) })
}

// Close lets go of key and state, for who ends a node and goes on. The end of the process
// does as much.
func (pv *PV[K, V, P]) Close() error { return pv.close() }

func signVote[V Message](s *signer, chainID string, vote V, skipExtension bool) error {
	return sign(s, vote, func(encoded []byte) []byte { return privval.VoteRequest(encoded, chainID, skipExtension) })
}

// sign has a message signed, and puts into it what the answer has for it. request makes the
// request for it.
func sign[M Message](s *signer, message M, request func(encoded []byte) []byte) error {
	var none M
	if message == none {
		return errors.New("cannot sign: there is nothing to sign")
	}
	before, err := message.Marshal()
	if err != nil {
		return fmt.Errorf("cannot sign: cannot encode what is to be signed: %w", err)
	}
	resp, err := s.answer(request(before))
	if err != nil {
		return err
	}
	signed := resp.Signed(before)
	err = replace(message, signed)
	if err == nil {
		err = holds(message, signed, request)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot sign: cannot give the node what was signed: %w", err), replace(message, before))
	}
	return nil
}

func replace[M Message](message M, encoded []byte) error {
	message.Reset()
	return message.Unmarshal(encoded)
}

// holds checks that a message is as it was signed, for the node sends what it makes of it:
// a request for it is for the same bytes, and has the signature already.
func holds[M Message](message M, signed []byte, request func(encoded []byte) []byte) error {
	encoded, err := message.Marshal()
	if err != nil {
		return err
	}
	got, err := privval.Decode(request(encoded))
	if err = cmp.Or(err, got.Invalid); err != nil {
		return err
	}
	want, err := privval.Decode(request(signed))
	if err == nil && !(bytes.Equal(got.SignBytes(), want.SignBytes()) && bytes.Equal(got.Signature, want.Signature)) {
		err = errors.New("it changes it")
	}
	return err
}
