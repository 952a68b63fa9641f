package enclave

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"privyseal/internal/claims"
	"privyseal/internal/hostlink"
	"privyseal/internal/key/soft"
	"privyseal/internal/policy"
	"privyseal/internal/privval"
	"privyseal/internal/pubkey"
	"privyseal/internal/secret"
	"privyseal/internal/watermark"
)

// create makes a key. Its wrapped form, its origin and the first record of its
// state are made together, so that no key exists without a state.
func (e *enclave) create(ctx context.Context, req *hostlink.Create) (*hostlink.Created, error) {
	t, err := pubkey.ParseType(req.KeyType)
	if err != nil {
		return nil, err
	}
	if req.ChainID == "" && t != pubkey.Ed25519 {
		return nil, errors.New("an identity is an ed25519 key")
	}
	if err := keepsTime(t); err != nil {
		return nil, err
	}
	key, err := soft.Generate(t)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	return e.wrap(ctx, req.Credentials, claims.PurposeCreate, req.ChainID, key, claims.Generated, watermark.Mark{}, req.Nonce)
}

// wrap leaves with the host all that a later boot needs: the wrapped key, the
// first record of its state at m, and a document of the purpose that binds both.
func (e *enclave) wrap(ctx context.Context, creds hostlink.Credentials, purpose, chainID string, key *soft.Key, origin string, m watermark.Mark, nonce []byte) (*hostlink.Created, error) {
	if err := e.allowed(chainID, key); err != nil {
		return nil, err
	}
	public := key.PublicKey().Bytes()
	made := secret.Key{ChainID: chainID, KeyType: string(key.Type()), Public: public, Secret: secret.NewBytes(key.Secret()), Origin: origin}
	defer made.Secret.Clear()
	wrapped, err := e.c.Wrapper.Wrap(ctx, secret.AWS(creds), made)
	if err != nil {
		return nil, err
	}
	out := &hostlink.Created{KeyType: made.KeyType, Public: public, Wrapped: wrapped}
	if e.c.Recovery != nil && purpose == claims.PurposeCreate {
		// Without its backup no key leaves: nobody would notice before it is needed.
		if out.Backup, err = e.c.Recovery.Backup(made); err != nil {
			return nil, err
		}
	}
	seq := uint64(0)
	if chainID != "" {
		seq = hostlink.FirstSeq(time.Now())
		if out.Record, err = e.firstRecord(chainID, key, seq, m); err != nil {
			return nil, err
		}
	}
	c := e.claims(purpose, chainID, key, origin)
	c.Seq, c.Mark = seq, m.String()
	out.Document, err = e.attest(c, nonce, nil)
	return out, err
}

func (e *enclave) firstRecord(chainID string, key *soft.Key, seq uint64, m watermark.Mark) ([]byte, error) {
	mac, err := hostlink.RecordKey(key)
	if err != nil {
		return nil, err
	}
	return mac.Seal(stateID(chainID, key), hostlink.Record{Seq: seq, Boot: e.boot, Time: time.Now(), Mark: m})
}

// newState makes a new state for a key whose state is lost. Only an image
// whose policy holds a floor for the chain does so, and only above that floor.
func (e *enclave) newState(ctx context.Context, req *hostlink.NewState) (*hostlink.Created, error) {
	floor, ok := e.c.Policy.StateFloor[req.ChainID]
	switch {
	case !ok:
		return nil, &curedError{
			fmt.Errorf("the measured policy has no state_floor for chain %q, and without one a lost state is never replaced", req.ChainID),
			"boot an enclave whose policy has one, well above the chain's height; " + e.c.Cures.LostState + ", has all steps",
		}
	case req.AfterHeight < floor:
		return nil, &curedError{
			fmt.Errorf("height %d is below the measured state_floor of %d", req.AfterHeight, floor),
			fmt.Sprintf("give --after-height %d or more", floor),
		}
	case e.chains[req.ChainID] != nil:
		return nil, &curedError{errors.New("this enclave signs for the chain already"), "restart the enclave first: " + e.c.Cures.Restart}
	}
	key, origin, err := e.open(ctx, req.Credentials, req.Wrapped, req.ChainID)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	return e.wrap(ctx, req.Credentials, claims.PurposeState, req.ChainID, key, origin, watermark.Floor(req.AfterHeight), nil)
}

// attestImportKey returns a document whose public_key is what a secret may be
// encrypted to. The key lives as long as this boot.
func (e *enclave) attestImportKey(nonce []byte) ([]byte, error) {
	if e.importKey == nil {
		private, err := rsa.GenerateKey(rand.Reader, 3072)
		if err != nil {
			return nil, err
		}
		e.importKey = private
	}
	public, err := x509.MarshalPKIXPublicKey(&e.importKey.PublicKey)
	if err != nil {
		return nil, err
	}
	return e.attest(e.claims(claims.PurposeImport, "", nil, ""), nonce, public)
}

// importSecret brings an existing key in, with its state. The key's copies
// elsewhere are beyond us, and its origin says so forever.
func (e *enclave) importSecret(ctx context.Context, req *hostlink.Import) (*hostlink.Created, error) {
	if req.ChainID == "" {
		return nil, errors.New("only consensus keys are imported")
	}
	mark, err := importedMark(req)
	if err != nil {
		return nil, err
	}
	var plain []byte
	switch {
	case len(req.Sealed) > 0 && len(req.KMS) == 0:
		if plain, err = e.openImport(req); err != nil {
			return nil, &curedError{err, "fetch the import key of this boot and seal the secret to that"}
		}
	case len(req.KMS) > 0 && len(req.Sealed) == 0:
		if plain, err = e.c.Wrapper.Decrypt(ctx, secret.AWS(req.Credentials), req.KMS); err != nil {
			return nil, err
		}
	default:
		return nil, errors.New("an import is either sealed to the import key or a ciphertext of KMS")
	}
	defer clear(plain)
	if err := checkSignBytes(req.ChainID, mark); err != nil {
		return nil, err
	}
	key, err := e.importedKey(req, plain)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	// A second import would make a record at the same old mark with a higher number
	// than all that were signed under the first.
	id := stateID(req.ChainID, key)
	if e.imported[id] {
		return nil, &curedError{errors.New("this boot has imported the key for this chain already"), "use what the first import gave; to import again, restart the enclave and seal the secret again"}
	}
	out, err := e.wrap(ctx, req.Credentials, claims.PurposeCreate, req.ChainID, key, claims.Imported, mark, nil)
	e.imported[id] = err == nil
	return out, err
}

func (e *enclave) openImport(req *hostlink.Import) ([]byte, error) {
	if e.importKey == nil {
		return nil, errors.New("this boot of the enclave has given out no import key yet")
	}
	return req.Open(e.importKey)
}

// importedKey takes the secret as 32 raw bytes, base64 of them, or CometBFT's
// and tmkms' key files.
func (e *enclave) importedKey(req *hostlink.Import, plain []byte) (*soft.Key, error) {
	t, err := pubkey.ParseType(req.KeyType)
	if err != nil {
		return nil, err
	}
	if err := keepsTime(t); err != nil {
		return nil, err
	}
	key, err := soft.FromSecret(t, plain)
	if err != nil {
		if key, err = soft.Import(plain, t); err != nil {
			return nil, err
		}
	}
	if string(key.PublicKey().Bytes()) != string(req.Public) {
		return nil, errors.New("the imported secret does not belong to the public key that was expected")
	}
	return key, nil
}

// importedMark reads the state that has to come with an imported key. What it says of
// the height is bounded by the policy when it is signed again, as any mark is.
func importedMark(req *hostlink.Import) (watermark.Mark, error) {
	m := watermark.Mark{Height: req.Height, Round: req.Round, Step: watermark.Step(req.Step)}
	switch {
	case req.Fresh && m.Height == 0 && m.Round == 0 && m.Step == 0 && len(req.SignBytes) == 0:
		return watermark.Mark{}, nil
	case req.Fresh || m.Height < 1 || m.Round < 0 || m.Step < watermark.StepProposal || m.Step > watermark.StepPrecommit:
		return watermark.Mark{}, errors.New("an imported key needs its state: a mark, or the statement that it never signed for this chain")
	case len(req.Sealed) == 0 || len(req.SignBytes) == 0:
		// The bytes of a mark are signed again for whoever asks. Those that come with a
		// ciphertext of KMS are the host's word, bound to nothing: without them the mark
		// stands, and nothing is signed there.
		return m, nil
	}
	m.SignBytes = req.SignBytes
	return m, nil
}

// checkSignBytes refuses bytes that are not what a mark of this chain has signed.
func checkSignBytes(chainID string, m watermark.Mark) error {
	if m.SignBytes == nil {
		return nil
	}
	steps := map[privval.Kind]watermark.Step{
		privval.KindProposal: watermark.StepProposal, privval.KindPrevote: watermark.StepPrevote, privval.KindPrecommit: watermark.StepPrecommit,
	}
	r, err := privval.ParseSignBytes(m.SignBytes)
	switch {
	case err != nil:
		return fmt.Errorf("the state's sign bytes are not a proposal or vote: %w", err)
	case r.ChainID != chainID:
		return fmt.Errorf("the state's sign bytes are for chain %.50q, not %q", r.ChainID, chainID)
	case r.Height != m.Height || r.Round != m.Round || steps[r.Kind] != m.Step:
		return fmt.Errorf("the state's sign bytes are of %d/%d/%s, and its mark is %v", r.Height, r.Round, r.Kind, m)
	}
	return nil
}

// attestChain makes a document about a chain that was booted.
func (e *enclave) attestChain(req *hostlink.Attest) ([]byte, error) {
	c := e.chains[req.ChainID]
	if c == nil || c.signer == nil {
		return nil, fmt.Errorf("this enclave does not sign for chain %q", req.ChainID)
	}
	last := c.signer.Last()
	cl := e.claims(claims.PurposeAttest, c.id, c.key, c.origin)
	id := stateID(c.id, c.key)
	cl.Store = c.store
	cl.Seq, cl.Mark, cl.Start = last.Version, c.mac.Attested(id, last.Mark), c.mac.Attested(id, c.start)
	return e.attest(cl, req.Nonce, nil)
}

// sample has KMS answer for the host to read.
func (e *enclave) sample(ctx context.Context, req *hostlink.Sample) ([]hostlink.KMSAnswer, error) {
	if e.c.Sample == nil {
		return nil, errors.New("the keys of this enclave are under no KMS key")
	}
	list := e.c.Sample(ctx, req)
	for i := range list {
		list[i].Error = clip(list[i].Error)
	}
	return list, nil
}

// claims returns what every document of ours says.
func (e *enclave) claims(purpose, chainID string, key *soft.Key, origin string) claims.Claims {
	p := e.c.Policy
	c := claims.Claims{Purpose: purpose, Boot: hex.EncodeToString(e.boot[:]), Chain: chainID, KMSKey: p.KMSKey, Origin: origin}
	if p.Kind() == policy.OfSGX {
		c.Seal, c.Recipient = p.Seal, p.Recipient().ID()
	}
	if key != nil {
		c.KeyType, c.Key = string(key.Type()), claims.EncodeKey(key.PublicKey().Bytes())
	}
	return c
}

func (e *enclave) attest(c claims.Claims, nonce, publicKey []byte) ([]byte, error) {
	if len(nonce) > hostlink.MaxNonce {
		return nil, fmt.Errorf("a nonce of %d bytes, more than %d", len(nonce), hostlink.MaxNonce)
	}
	data, err := c.Encode()
	if err != nil {
		return nil, err
	}
	if len(nonce) == 0 {
		nonce = nil
	}
	return e.c.Attester.Attest(data, nonce, publicKey)
}
