package aiakos

import (
	"privyseal/internal/privval"
)

// ValidatorV1 is types.PrivValidator of v1.0 and v2.0.
type ValidatorV1[K any, V, P Message] interface {
	GetPubKey() (K, error)
	SignVote(chainID string, vote V, signExtension bool) error
	SignProposal(chainID string, proposal P) error
	SignBytes(bytes []byte) ([]byte, error)
}

// PV1 is a [ValidatorV1]; see [PV].
type PV1[K any, V, P Message] struct{ pv PV[K, V, P] }

// NewV1 is [New] for nodes of v1.0 and v2.0, whose crypto/encoding has
// PubKeyFromTypeAndBytes.
func NewV1[K any, V, P Message](home string, like ValidatorV1[K, V, P], pubKey func(keyType string, b []byte) (K, error)) *PV1[K, V, P] {
	return &PV1[K, V, P]{PV[K, V, P]{signer: signer{home: home}, pubKey: func(key privval.PubKey) (K, error) {
		if key.Uncompressed != nil { // of v2; v1 has no keys of that type
			return pubKey(key.Type, key.Uncompressed)
		}
		return pubKey(key.Type, key.Bytes)
	}}}
}

// Chain is [PV.Chain].
func (pv *PV1[K, V, P]) Chain(name string) *PV1[K, V, P] {
	pv.pv.Chain(name)
	return pv
}

// GetPubKey is [PV.GetPubKey].
func (pv *PV1[K, V, P]) GetPubKey() (K, error) { return pv.pv.GetPubKey() }

// SignVote is [PV.SignVote]; the extension of a precommit for a block is signed if
// signExtension says so.
func (pv *PV1[K, V, P]) SignVote(chainID string, vote V, signExtension bool) error {
	return signVote(&pv.pv.signer, chainID, vote, !signExtension)
}

// SignProposal is [PV.SignProposal].
func (pv *PV1[K, V, P]) SignProposal(chainID string, proposal P) error {
	return pv.pv.SignProposal(chainID, proposal)
}

// SignBytes signs bytes of the node's choice, which CometBFT itself never asks for. It is
// refused unless the chain's config has allow_sign_bytes.
func (pv *PV1[K, V, P]) SignBytes(bytes []byte) ([]byte, error) {
	resp, err := pv.pv.answer(privval.BytesRequest(bytes))
	return resp.Signature, err
}

// Close is [PV.Close].
func (pv *PV1[K, V, P]) Close() error { return pv.pv.Close() }
