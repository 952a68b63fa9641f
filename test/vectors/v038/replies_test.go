package main

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cometbft/cometbft/crypto/encoding"
	pvproto "github.com/cometbft/cometbft/proto/tendermint/privval"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"

	"privyseal/test/vectors/cases"
)

// unknown is what a node of this version cannot read.
var unknown = []string{"pubkey type=secp256k1eth ", "signbytes ", "error reply=signbytes "}

// A node of this version reads in privyseal's replies what privyseal wrote, and
// nothing else.
func TestRepliesAsThisVersionReadsThem(t *testing.T) {
	replies, err := cases.ReadReplies("../../../internal/privval/testdata/replies.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range replies {
		got, err := read(r.Payload)
		if isUnknown(r.Want) {
			if err == nil {
				t.Errorf("%s: this version was thought not to know it, but reads %s", r.Name, got)
			}
			continue
		}
		if err != nil || got != r.Want {
			t.Errorf("%s:\n got %s (%v)\nwant %s", r.Name, got, err, r.Want)
		}
	}
}

func isUnknown(want string) bool {
	for _, u := range unknown {
		if strings.HasPrefix(want, u) {
			return true
		}
	}
	return false
}

func read(payload []byte) (string, error) {
	var m pvproto.Message
	if err := m.Unmarshal(payload); err != nil {
		return "", err
	}
	switch r := m.Sum.(type) {
	case *pvproto.Message_PubKeyResponse:
		if e := r.PubKeyResponse.Error; e != nil {
			return cases.DescribeError("pubkey", e.Code, e.Description), nil
		}
		key, err := encoding.PubKeyFromProto(r.PubKeyResponse.PubKey)
		if err != nil {
			return "", err
		}
		return cases.Describe("pubkey", [2]string{"type", key.Type()}, [2]string{"key", cases.Hex(key.Bytes())}), nil
	case *pvproto.Message_SignedVoteResponse:
		if e := r.SignedVoteResponse.Error; e != nil {
			return cases.DescribeError("vote", e.Code, e.Description), nil
		}
		return readVote(r.SignedVoteResponse.Vote)
	case *pvproto.Message_SignedProposalResponse:
		if e := r.SignedProposalResponse.Error; e != nil {
			return cases.DescribeError("proposal", e.Code, e.Description), nil
		}
		p := r.SignedProposalResponse.Proposal
		if rest := (cmtproto.Proposal{Signature: p.Signature}); !reflect.DeepEqual(p, rest) {
			return "", fmt.Errorf("the reply says more than the signature: %v", p)
		}
		return cases.Describe("proposal", [2]string{"signature", cases.Hex(p.Signature)}), nil
	case *pvproto.Message_PingResponse:
		return cases.Describe("ping"), nil
	}
	return "", errors.New("no reply")
}

func readVote(v cmtproto.Vote) (string, error) {
	rest := cmtproto.Vote{Timestamp: v.Timestamp, Signature: v.Signature, ExtensionSignature: v.ExtensionSignature}
	if !reflect.DeepEqual(v, rest) {
		return "", fmt.Errorf("the reply says more than time and signatures: %v", v)
	}
	return cases.Describe("vote",
		[2]string{"timestamp", v.Timestamp.Format(time.RFC3339Nano)},
		[2]string{"signature", cases.Hex(v.Signature)},
		[2]string{"extension_signature", cases.Hex(v.ExtensionSignature)}), nil
}
