// Package enclavefile is a key that only an enclave opens, as its file has it, and whether the
// policy of an enclave lets it sign with that. What is the same for all enclaves is here; a
// [Form] has what a provider's files differ in.
//
// Nothing is opened: what a file says about itself, only the enclave can verify.
package enclavefile

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/policy"
	"privyseal/internal/pubkey"
	"privyseal/internal/regular"
	"privyseal/internal/shell"
)

// Head is what a file says of its key.
type Head struct {
	ChainID string // "" for an identity
	KeyType string
	Public  []byte
	Opener  string // what opens it: a key of KMS by its ARN, a seal as in package policy
}

// Key is the key of a file.
type Key struct {
	Head
	Data      []byte // of the file
	PublicKey pubkey.Key
}

// Form is the files of a provider, and the words for them.
type Form struct {
	Participle string // what was done to a key: "sealed", "wrapped"
	FirstLine  string
	Inspect    func(file []byte) (Head, error) // strict
	// Lost says how a key comes back whose file is gone or damaged.
	Lost func(chainID string) string

	Place  string                          // what the policy is in: "enclave", "image"
	Opener func(p *policy.Policy) string   // what opens keys where this policy holds
	Make   func(flag string) (cure string) // how one is made whose policy has a flag more
	// Elsewhere says that another place opens this key or identity ("what"), and the cure.
	Elsewhere func(what, chainID, is, wants string) (why, cure string)
}

// maxSize bounds a file in bytes.
const maxSize = 64 << 10

// Read reads a key, which has to be for the chain; "" is an identity.
func (f *Form) Read(path, chainID string) (*Key, error) {
	k, err := f.open(path, chainID)
	if err == nil {
		return k, nil
	}
	err = fmt.Errorf("cannot use the %s key %s: %w", f.Participle, path, err)
	if _, cured := errors.AsType[*cure.Error](err); cured {
		return nil, err
	}
	return nil, cure.Add(err, "%s", f.Lost(chainID))
}

func (f *Form) open(path, chainID string) (k *Key, err error) {
	k = &Key{}
	if k.Data, err = cli.ReadBounded(path, maxSize); errors.Is(err, fs.ErrNotExist) {
		err = syscall.ENOENT // whose path stands there already
	}
	if err != nil {
		return nil, err
	}
	if err := regular.OfAnother(k.Data, f.FirstLine); err != nil {
		return nil, err
	}
	if k.Head, err = f.Inspect(k.Data); err != nil {
		return nil, err
	}
	if k.ChainID != chainID {
		return nil, fmt.Errorf("it is for chain %q, not %q", k.ChainID, chainID)
	}
	t, err := pubkey.ParseType(k.KeyType)
	if err != nil {
		return nil, err
	}
	k.PublicKey, err = pubkey.New(t, k.Public)
	return k, err
}

// Of reads the keys of a chain; identity is nil where it has none.
func (f *Form) Of(c *config.Config, ch config.Chain) (key, identity *Key, err error) {
	if key, err = f.Read(c.Path(ch.Key), ch.ID); err != nil || ch.Identity == "" {
		return key, nil, err
	}
	identity, err = f.Read(c.Path(ch.Identity), "")
	return key, identity, err
}

// Disallowed says why an enclave with this policy will not sign for a chain with these keys,
// and what repairs it. identity is nil without one. Both texts are empty for what it allows.
func (f *Form) Disallowed(p *policy.Policy, chainID string, key, identity *Key) (why, cure string) {
	public := base64.StdEncoding.EncodeToString(key.Public)
	opener := f.Opener(p)
	switch {
	case key.Opener != opener:
		return f.Elsewhere("key", chainID, key.Opener, opener)
	case identity != nil && identity.Opener != opener:
		return f.Elsewhere("identity", chainID, identity.Opener, opener)
	case !pubkey.SignsInConstantTime(pubkey.Type(key.KeyType)):
		return fmt.Sprintf("the key of chain %s is of type %s, which does not go into an enclave: how long it takes to sign depends on the secret, and the host can measure that", chainID, key.KeyType),
			"go back to the release that it was made with, and give the validator an ed25519 key"
	case !p.AllowsChain(chainID):
		return f.NotForChain(chainID)
	case !p.AllowsKey(public):
		return fmt.Sprintf("the policy of the %s does not name the public key of chain %s, %s", f.Place, chainID, public), f.Make("--public-key " + public)
	}
	return "", ""
}

// NotForChain says that a policy does not name a chain, and what repairs it.
func (f *Form) NotForChain(chainID string) (why, cure string) {
	return fmt.Sprintf("the policy of the %s does not name chain %s", f.Place, chainID), f.Make("--chain " + shell.Word(chainID))
}
