package enclave

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"privyseal/internal/claims"
	"privyseal/internal/hostlink"
	"privyseal/internal/key/soft"
	"privyseal/internal/secret"
)

// hasBackups refuses where keys are not bound to one machine.
func (e *enclave) hasBackups() error {
	if e.c.Recovery == nil {
		return errors.New("this enclave has no backups: what it wraps opens wherever its image runs")
	}
	return nil
}

// cloudWrap makes a key that the key of a backup can be encrypted to. Who holds the recovery
// key does so for the one in a document, and so for an enclave that he can name.
func (e *enclave) cloudWrap(req *hostlink.CloudWrap) (*hostlink.WrapKey, error) {
	if err := e.hasBackups(); err != nil {
		return nil, err
	}
	wrapped, public, err := e.c.Recovery.WrapKey()
	if err != nil {
		return nil, err
	}
	doc, err := e.attest(e.claims(claims.PurposeWrap, "", nil, ""), req.Nonce, public)
	if err != nil {
		return nil, err
	}
	return &hostlink.WrapKey{Wrapped: wrapped, Document: doc}, nil
}

// recoverKey wraps for this enclave what comes out of a backup, if it is what was asked for.
// No state is made: the records of the key are good here, and a lost one is newState's.
func (e *enclave) recoverKey(ctx context.Context, req *hostlink.Recover) (*hostlink.Created, error) {
	if err := e.hasBackups(); err != nil {
		return nil, err
	}
	k, err := e.c.Recovery.Recover(req.WrapKey, req.Encrypted, req.Backup)
	if err != nil {
		return nil, err
	}
	defer k.Secret.Clear()
	key, err := e.expected(&k, req)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	out := &hostlink.Created{KeyType: k.KeyType, Public: k.Public}
	if req.Check {
		return out, nil
	}
	k.Origin = claims.Recovered(k.Origin)
	if out.Wrapped, err = e.c.Wrapper.Wrap(ctx, secret.AWS{}, k); err != nil {
		return nil, err
	}
	out.Document, err = e.attest(e.claims(claims.PurposeRecover, k.ChainID, key, k.Origin), nil, nil)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// expected refuses a backup of another key than was asked for: the host has those of the
// consensus key and of the identity beside each other.
func (e *enclave) expected(k *secret.Key, req *hostlink.Recover) (*soft.Key, error) {
	const next = "name the backup of the key that is meant"
	switch {
	case k.ChainID != req.ChainID:
		return nil, &curedError{fmt.Errorf("the backup is of %s, not of %s", whose(k.ChainID), whose(req.ChainID)), next}
	case !bytes.Equal(k.Public, req.Public):
		return nil, &curedError{fmt.Errorf("the backup is of the public key %s, not of %s", claims.EncodeKey(k.Public), claims.EncodeKey(req.Public)), next}
	}
	key, err := e.keyOf(k.KeyType, k.Secret.Reveal(), k.Public)
	if err != nil {
		return nil, err
	}
	if err := e.allowed(k.ChainID, key); err != nil {
		key.Wipe()
		return nil, err
	}
	return key, nil
}

func whose(chainID string) string {
	if chainID == "" {
		return "an identity"
	}
	return fmt.Sprintf("the key of chain %.50q", chainID)
}
