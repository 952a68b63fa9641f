// Package sealed is a key that an SGX enclave has sealed, as its file has it, and whether the
// policy of an enclave lets it sign with that. Nothing is opened here: what the file says of
// itself, only the enclave can verify.
package sealed

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/key/sgxseal"
	"privyseal/internal/policy"
	"privyseal/internal/pubkey"
	"privyseal/internal/regular"
	"privyseal/internal/shell"
)

// Key is a sealed key, with what it says of itself.
type Key struct {
	sgxseal.Sealed
	Data      []byte // of the file
	PublicKey pubkey.Key
}

// maxSize bounds a sealed key in bytes.
const maxSize = 64 << 10

// Read reads a sealed key, which has to be for the chain; "" is an identity.
func Read(path, chainID string) (*Key, error) {
	k, err := open(path, chainID)
	if err == nil {
		return k, nil
	}
	err = fmt.Errorf("cannot use the sealed key %s: %w", path, err)
	if _, cured := errors.AsType[*cure.Error](err); cured {
		return nil, err
	}
	return nil, cure.Add(err, "%s", lost(path, chainID))
}

func open(path, chainID string) (k *Key, err error) {
	k = &Key{}
	if k.Data, err = cli.ReadBounded(path, maxSize); errors.Is(err, fs.ErrNotExist) {
		err = syscall.ENOENT // whose path stands there already
	}
	if err != nil {
		return nil, err
	}
	if err := regular.OfAnother(k.Data, sgxseal.FirstLine); err != nil {
		return nil, err
	}
	if k.Sealed, err = sgxseal.Inspect(k.Data); err != nil {
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

// Of reads the sealed keys of a chain; identity is nil where it has none.
func Of(c *config.Config, ch config.Chain) (key, identity *Key, err error) {
	if key, err = Read(c.Path(ch.Key), ch.ID); err != nil || ch.Identity == "" {
		return key, nil, err
	}
	identity, err = Read(c.Path(ch.Identity), "")
	return key, identity, err
}

// lost says how a sealed key comes back.
func lost(path, chainID string) string {
	what := "--chain-id " + shell.Word(chainID)
	if chainID == "" {
		what = "--identity"
	}
	return "put the file back in its place if there is a copy, with mode 0600; without one it comes out of its backup: `privyseal sgx recover " + what + " --help`"
}

// Disallowed says why an enclave with this policy will not sign for a chain with these keys,
// and what repairs it. identity is nil without one. Both texts are empty for what it allows.
func Disallowed(p *policy.Policy, chainID string, key, identity *Key) (why, cure string) {
	public := base64.StdEncoding.EncodeToString(key.Public)
	switch {
	case key.Seal != p.Seal:
		return elsewhere("key", chainID, key.Seal, p.Seal)
	case identity != nil && identity.Seal != p.Seal:
		return elsewhere("identity", chainID, identity.Seal, p.Seal)
	case !pubkey.SignsInConstantTime(pubkey.Type(key.KeyType)):
		return fmt.Sprintf("the key of chain %s is of type %s, which does not go into an enclave: how long it takes to sign depends on the secret, and the host can measure that", chainID, key.KeyType),
			"go back to the release that it was made with, and give the validator an ed25519 key"
	case !p.AllowsChain(chainID):
		return NotForChain(chainID)
	case !p.AllowsKey(public):
		return fmt.Sprintf("the policy of the enclave does not name the public key of chain %s, %s", chainID, public), makeFor("--public-key " + public)
	}
	return "", ""
}

func elsewhere(what, chainID, is, wants string) (why, cure string) {
	return fmt.Sprintf("the %s of chain %s is sealed by %s, and the policy of the enclave says %s", what, chainID, is, wants),
		"set `folder` to the enclave that it was sealed in, or recover it from its backup: `privyseal sgx recover --help`"
}

// NotForChain says that a policy does not name a chain, and what repairs it.
func NotForChain(chainID string) (why, cure string) {
	return "the policy of the enclave does not name chain " + chainID, makeFor("--chain " + shell.Word(chainID))
}

func makeFor(flag string) string {
	return "make an enclave whose policy does: `privyseal sgx policy " + flag + " …`"
}
