package sgx

import (
	"fmt"

	"privyseal/internal/enclavefile"
	"privyseal/internal/key/sgxseal"
	"privyseal/internal/policy"
	"privyseal/internal/shell"
)

// keyFiles are the files of sealed keys.
var keyFiles = &enclavefile.Form{
	Participle: "sealed", FirstLine: sgxseal.FirstLine, Inspect: inspect, Lost: lost,
	Place: "enclave", Opener: func(p *policy.Policy) string { return p.Seal }, Make: makeFor, Elsewhere: elsewhere,
}

func inspect(file []byte) (enclavefile.Head, error) {
	s, err := sgxseal.Inspect(file)
	return enclavefile.Head{ChainID: s.ChainID, KeyType: s.KeyType, Public: s.Public, Opener: s.Seal}, err
}

// lost says how a sealed key comes back.
func lost(chainID string) string {
	what := "--chain-id " + shell.Word(chainID)
	if chainID == "" {
		what = "--identity"
	}
	return "put the file back in its place if there is a copy, with mode 0600; without one it comes out of its backup: `privyseal sgx recover " + what + " --help`"
}

func elsewhere(what, chainID, is, wants string) (why, cure string) {
	return fmt.Sprintf("the %s of chain %s is sealed by %s, and the policy of the enclave says %s", what, chainID, is, wants),
		"set `folder` to the enclave that it was sealed in, or recover it from its backup: `privyseal sgx recover --help`"
}

func makeFor(flag string) string {
	return "make an enclave whose policy does: `privyseal sgx policy " + flag + " …`"
}
