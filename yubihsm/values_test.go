package yubihsm

import "testing"

// TestNames holds numbers against the names that yubihsm-shell 2.6 has for them.
func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		Capabilities(1<<0x08 | 1<<0x10).String(): "sign-eddsa,exportable-under-wrap",
		Capabilities(1 << 0x00).String():         "get-opaque",
		Capabilities(1 << 0x18).String():         "get-log-entries",
		Capabilities(1 << 0x22).String():         "sign-attestation-certificate",
		Capabilities(1 << 0x2a).String():         "delete-wrap-key",
		Capabilities(1 << 0x2e).String():         "change-authentication-key",
		Capabilities(1 << 0x37).String():         "delete-public-wrap-key",
		Capabilities(1 << 63).String():           "capability-63",
		Capabilities(0).String():                 "",
		Algorithm(46).String():                   "ed25519",
		Algorithm(15).String():                   "eck256",
		Algorithm(42).String():                   "aes256-ccm-wrap",
		Algorithm(200).String():                  "algorithm 200",
		ObjectType(2).String():                   "authentication-key",
		ObjectType(9).String():                   "public-wrap-key",
		ObjectType(77).String():                  "type 0x4d",
		Command(0x6a).String():                   "sign eddsa",
		Command(0x53).String():                   "command 0x53",
		ErrorCode(0x0a).String():                 "the log is full",
		ErrorCode(0x0d).String():                 "error 0x0d",
		(Domain(1) | Domain(16)).String():        "1,16",
		(Domain(0) | Domain(17)).String():        "",
	} {
		if got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
	if all := AllCapabilities; all != 1<<56-1 || !all.Has(DeletePublicWrapKey|GetOpaque) || (SignEdDSA | SignECDSA).Has(SignEdDSA|SignPSS) {
		t.Errorf("%x", uint64(all))
	}
}
