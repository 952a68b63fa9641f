package wrapped

import (
	"encoding/base64"
	"fmt"

	"privyseal/internal/policy"
	"privyseal/internal/pubkey"
	"privyseal/internal/shell"
)

// Disallowed says why an enclave with this policy will not sign for a chain with
// these keys, and what repairs it. identity is nil without one. Both texts are empty for
// what it allows.
func Disallowed(p *policy.Policy, chainID string, key, identity *Key) (why, cure string) {
	public := base64.StdEncoding.EncodeToString(key.Public)
	switch {
	case key.KeyARN != p.KMSKey:
		return elsewhere("key", chainID, key.KeyARN, p.KMSKey)
	case identity != nil && identity.KeyARN != p.KMSKey:
		return elsewhere("identity", chainID, identity.KeyARN, p.KMSKey)
	case !pubkey.SignsInConstantTime(pubkey.Type(key.KeyType)):
		return fmt.Sprintf("the key of chain %s is of type %s, which does not go into an enclave: how long it takes to sign depends on the secret, and the host can measure that", chainID, key.KeyType),
			"go back to the release that it was made with, and give the validator an ed25519 key"
	case !p.AllowsChain(chainID):
		return NotForChain(chainID)
	case !p.AllowsKey(public):
		return fmt.Sprintf("the policy of the image does not name the public key of chain %s, %s", chainID, public), buildFor("--public-key " + public)
	}
	return "", ""
}

func elsewhere(what, chainID, is, wants string) (why, cure string) {
	return fmt.Sprintf("the %s of chain %s is wrapped under %s, and the policy of the image names %s", what, chainID, is, wants),
		"set `eif` to the image that it was made with, or " + buildFor("--kms-key "+shell.Word(is))
}

func NotForChain(chainID string) (why, cure string) {
	return "the policy of the image does not name chain " + chainID, buildFor("--chain " + shell.Word(chainID))
}

func buildFor(flag string) string {
	return "build an image whose policy does: `privyseal nitro image-policy " + flag + " …`"
}
