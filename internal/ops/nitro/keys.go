package nitro

import (
	"fmt"

	"privyseal/internal/enclavefile"
	"privyseal/internal/key/nitrokms"
	"privyseal/internal/policy"
	"privyseal/internal/shell"
)

// keyFiles are the files of wrapped keys.
var keyFiles = &enclavefile.Form{
	Participle: "wrapped", FirstLine: nitrokms.FirstLine, Inspect: inspect, Lost: lost,
	Place: "image", Opener: func(p *policy.Policy) string { return p.KMSKey }, Make: buildFor, Elsewhere: elsewhere,
}

func inspect(file []byte) (enclavefile.Head, error) {
	h, err := nitrokms.Inspect(file)
	return enclavefile.Head{ChainID: h.ChainID, KeyType: h.KeyType, Public: h.Public, Opener: h.KeyARN}, err
}

// lost says how a wrapped key comes back, which no command can make again.
func lost(chainID string) string {
	if chainID == "" {
		return "put the identity's file back from the backup"
	}
	return "put the file that `privyseal init` named for the backup back in its place, with mode 0600; without a copy the key is gone, and the validator needs a new one"
}

func elsewhere(what, chainID, is, wants string) (why, cure string) {
	return fmt.Sprintf("the %s of chain %s is wrapped under %s, and the policy of the image names %s", what, chainID, is, wants),
		"set `eif` to the image that it was made with, or " + buildFor("--kms-key "+shell.Word(is))
}

func buildFor(flag string) string {
	return "build an image whose policy does: `privyseal nitro image-policy " + flag + " …`"
}
