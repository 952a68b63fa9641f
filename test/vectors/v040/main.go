// Command v040 writes the golden vectors of CometBFT v0.40 to standard output.
package main

import (
	"errors"
	"log"
	"math"
	"os"
	"path/filepath"

	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/privval"
	pvproto "github.com/cometbft/cometbft/proto/tendermint/privval"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"

	"privyseal/test/vectors/cases"
)

const module = "github.com/cometbft/cometbft v0.40.0"

func main() {
	dir, err := os.MkdirTemp("", "vectors")
	if err != nil {
		log.Fatal(err)
	}
	err = cases.Write(os.Stdout, version{dir})
	os.RemoveAll(dir)
	if err != nil {
		log.Fatal(err)
	}
}

// version is this CometBFT; dir is for its signer's state file.
type version struct{ dir string }

func (version) Name() string { return module }

func (version) Encode(c cases.Case) ([]byte, bool) {
	if c.OnlyV1() {
		return nil, false
	}
	var m pvproto.Message
	switch c.Kind {
	case cases.PubKey:
		m.Sum = &pvproto.Message_PubKeyRequest{PubKeyRequest: &pvproto.PubKeyRequest{ChainId: c.ChainID}}
	case cases.Ping:
		m.Sum = &pvproto.Message_PingRequest{PingRequest: &pvproto.PingRequest{}}
	case cases.VoteKind:
		m.Sum = &pvproto.Message_SignVoteRequest{SignVoteRequest: &pvproto.SignVoteRequest{Vote: vote(c.Vote), ChainId: c.ChainID}}
	case cases.PropKind:
		m.Sum = &pvproto.Message_SignProposalRequest{SignProposalRequest: &pvproto.SignProposalRequest{Proposal: proposal(c.Proposal), ChainId: c.ChainID}}
	}
	payload, err := m.Marshal()
	if err != nil {
		log.Fatalf("%s: %v", c.Name, err)
	}
	return payload, true
}

func vote(v *cases.Vote) *cmtproto.Vote {
	if v == nil {
		return nil
	}
	return &cmtproto.Vote{
		Type: cmtproto.SignedMsgType(v.Type), Height: v.Height, Round: v.Round,
		BlockID: blockID(v.Block), Timestamp: v.Time,
		ValidatorAddress: v.Address, ValidatorIndex: v.Index, Signature: v.Signature,
		Extension: v.Extension, ExtensionSignature: v.ExtensionSignature,
	}
}

func proposal(p *cases.Proposal) *cmtproto.Proposal {
	if p == nil {
		return nil
	}
	return &cmtproto.Proposal{
		Type: cmtproto.SignedMsgType(p.Type), Height: p.Height, Round: p.Round, PolRound: p.POLRound,
		BlockID: blockID(p.Block), Timestamp: p.Time, Signature: p.Signature,
	}
}

func blockID(b cases.BlockID) cmtproto.BlockID {
	return cmtproto.BlockID{Hash: b.Hash, PartSetHeader: cmtproto.PartSetHeader{Total: b.Total, Hash: b.PartsHash}}
}

// Answer asks a FilePV whose state is below every height there is, so that it
// judges nothing but the message.
func (v version) Answer(payload []byte) cases.Answer {
	var m pvproto.Message
	if err := m.Unmarshal(payload); err != nil {
		return cases.Answer{Err: err}
	}
	key := ed25519.GenPrivKeyFromSecret([]byte("vectors"))
	pv := privval.NewFilePV(key, filepath.Join(v.dir, "key.json"), filepath.Join(v.dir, "state.json"))
	pv.LastSignState.Height, pv.LastSignState.Round = math.MinInt64, math.MinInt32

	switch r := m.Sum.(type) {
	case *pvproto.Message_PubKeyRequest, *pvproto.Message_PingRequest:
		return cases.Answer{}
	case *pvproto.Message_SignVoteRequest:
		vote, chain := r.SignVoteRequest.Vote, r.SignVoteRequest.ChainId
		if err := pv.SignVote(chain, vote); err != nil {
			return cases.Answer{Err: err}
		}
		a := cases.Answer{SignBytes: types.VoteSignBytes(chain, vote)}
		must(key.PubKey().VerifySignature(a.SignBytes, vote.Signature))
		if len(vote.ExtensionSignature) > 0 {
			a.Extension = types.VoteExtensionSignBytes(chain, vote)
			must(key.PubKey().VerifySignature(a.Extension, vote.ExtensionSignature))
		}
		return a
	case *pvproto.Message_SignProposalRequest:
		prop, chain := r.SignProposalRequest.Proposal, r.SignProposalRequest.ChainId
		if err := pv.SignProposal(chain, prop); err != nil {
			return cases.Answer{Err: err}
		}
		a := cases.Answer{SignBytes: types.ProposalSignBytes(chain, prop)}
		must(key.PubKey().VerifySignature(a.SignBytes, prop.Signature))
		return a
	}
	return cases.Answer{Err: errors.New("no request")}
}

func must(verified bool) {
	if !verified {
		log.Fatal("the signer signed other bytes than those of the types package")
	}
}
