package enclave

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"privyseal/internal/hostlink"
	"privyseal/internal/key/soft"
	"privyseal/internal/pubkey"
	"privyseal/internal/secret"
	"privyseal/internal/watermark"
)

// open unwraps a key and checks what it says about itself against the policy and
// the chain that it is meant for.
func (e *enclave) open(ctx context.Context, creds hostlink.Credentials, wrapped []byte, chainID string) (key *soft.Key, origin string, err error) {
	opened, err := e.c.Wrapper.Unwrap(ctx, secret.AWS(creds), wrapped)
	if err != nil {
		return nil, "", err
	}
	defer opened.Secret.Clear()
	if opened.ChainID != chainID {
		return nil, "", &curedError{fmt.Errorf("the wrapped key is for chain %q, not %q", opened.ChainID, chainID), "correct `key` or `id` of the chain in the config"}
	}
	key, err = e.keyOf(opened.KeyType, opened.Secret.Reveal(), opened.Public)
	if err != nil {
		return nil, "", err
	}
	if err := e.allowed(chainID, key); err != nil {
		return nil, "", err
	}
	return key, opened.Origin, nil
}

// keepsTime refuses keys whose signatures take a time that depends on the secret: the
// host sees when a request comes and when its answer goes, as often as it likes.
func keepsTime(t pubkey.Type) error {
	if pubkey.SignsInConstantTime(t) {
		return nil
	}
	return &curedError{
		fmt.Errorf("a %s key does not go into an enclave: how long it takes to sign depends on the secret, and the host can measure that", t),
		"use an ed25519 or ml_dsa_65 key, or keep this one outside with provider = \"soft\"",
	}
}

// keyOf makes a key, and checks that the secret belongs to the public key: a
// secret that was exchanged gets no further.
func (e *enclave) keyOf(keyType string, secret, public []byte) (*soft.Key, error) {
	t, err := pubkey.ParseType(keyType)
	if err != nil {
		return nil, err
	}
	if err := keepsTime(t); err != nil {
		return nil, err
	}
	key, err := soft.FromSecret(t, secret)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(key.PublicKey().Bytes(), public) {
		return nil, errors.New("the secret does not belong to the public key that was expected")
	}
	return key, nil
}

// allowed asks the policy. Identities are not its business.
func (e *enclave) allowed(chainID string, key *soft.Key) error {
	if chainID == "" {
		return nil
	}
	// It comes from the host, and goes into documents that others read.
	if !watermark.ValidChainID(chainID) {
		return fmt.Errorf("%q is not a chain id", chainID)
	}
	if !e.c.Policy.AllowsChain(chainID) {
		return &curedError{fmt.Errorf("the measured policy does not name chain %q", chainID), e.c.Cures.Rebuild}
	}
	public := key.PublicKey().Base64()
	if !e.c.Policy.AllowsKey(public) {
		return &curedError{fmt.Errorf("the measured policy does not name the public key %s", public), e.c.Cures.Rebuild}
	}
	return nil
}

func stateID(chainID string, key *soft.Key) watermark.ID {
	return watermark.ID{ChainID: chainID, Key: key.PublicKey().ID()}
}
