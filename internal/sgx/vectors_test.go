package sgx

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// vector reads a file that Intel, or a platform of Intel's, has signed.
func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../../shared/vectors/quotes", name))
	if errors.Is(err, os.ErrNotExist) && os.Getenv("PRIVYSEAL_REQUIRE_VECTORS") != "1" {
		t.Skipf("%s is missing: the vectors live in shared/vectors beside the repository, and `make test` runs with them there", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// vectors are quotes of real platforms. The first three are without revocation lists.
var vectors = map[string]struct {
	quote, bundle, tcb, qe string
	at, status, fmspc, ca  string
	advisories, measured   string
	evaluation             uint32
	refused                error
}{
	"SGX, Platform CA": {quote: "quote_v3_ecdsa_p256_pck_chain.bin", tcb: "tcb_info_v3_fmspc_00606A000000.json", qe: "qe_identity_v2.json", at: "2022-12-20T00:50:04Z",
		status: "SWHardeningNeeded", fmspc: "00606a000000", ca: "platform", advisories: "INTEL-SA-00615 INTEL-SA-00657", measured: "68823bc6", evaluation: 13},
	"TDX": {quote: "quote_v4_tdx_ecdsa_p256.bin", tcb: "tcb_info_v3_tdx_fmspc_C0806F000000.json", qe: "qe_identity_v2_tdx2.json", at: "2024-09-02T07:30:32Z",
		status: "UpToDate", fmspc: "c0806f000000", ca: "platform", measured: "91eb2b44", evaluation: 17},
	"TDX below all levels": {quote: "quote_v4_tdx_ecdsa_p256_out_of_date.bin", tcb: "tcb_info_v3_tdx_fmspc_50806F000000.json", qe: "qe_identity_v2_tdx.json", at: "2023-06-20T07:30:32Z",
		refused: errLevel},
	"SGX, Processor CA": {quote: "qvl_sgx_quote", bundle: "qvl_sgx_quote_collateral.json", at: "2025-06-20T00:00:00Z",
		status: "ConfigurationAndSWHardeningNeeded", fmspc: "00a067110000", ca: "processor", advisories: "INTEL-SA-00289 INTEL-SA-00615", measured: "33d8736d", evaluation: 17},
	"TDX, with lists": {quote: "qvl_tdx_quote", bundle: "qvl_tdx_quote_collateral.json", at: "2025-06-20T00:00:00Z",
		status: "UpToDate", fmspc: "b0c06f000000", ca: "platform", measured: "91eb2b44", evaluation: 17},
}

func instant(t testing.TB, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// What real platforms have signed is verified at its time, and in the state in which Intel
// knew them to be.
func TestVectors(t *testing.T) {
	for name, tt := range vectors {
		q, err := Parse(vector(t, tt.quote))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		at := instant(t, tt.at)
		var v *Verified
		if tt.bundle != "" {
			v, err = q.Verify(bundle(t, tt.bundle), Anchor{}, at)
		} else {
			v, err = q.verify(withoutLists(t, q, vector(t, tt.tcb), vector(t, tt.qe), at))
		}
		if tt.refused != nil || err != nil {
			if !errors.Is(err, tt.refused) {
				t.Errorf("%s: %v, want %v", name, err, tt.refused)
			}
			continue
		}
		measured := q.TD.measured(q.Enclave)
		if string(v.Status) != tt.status || strings.Join(v.Advisories, " ") != tt.advisories || hex.EncodeToString(v.Platform.FMSPC[:]) != tt.fmspc ||
			v.Contents.CA != tt.ca || v.Evaluation != tt.evaluation || !strings.HasPrefix(measured, tt.measured) {
			t.Errorf("%s: %s %v of %x, evaluation %d, by the %s CA, %s", name, v.Status, v.Advisories, v.Platform.FMSPC, v.Evaluation, v.Contents.CA, measured)
		}
		if len(v.Parts) != map[bool]int{true: 3, false: 2}[q.TD != nil] || !v.First.Until.After(at) {
			t.Errorf("%s: %+v until %s", name, v.Parts, v.First.Until)
		}
	}
}

// measured returns the first measurement.
func (d *TD) measured(e *Enclave) string {
	if d != nil {
		return hex.EncodeToString(d.MRTD[:])
	}
	return hex.EncodeToString(e.MRENCLAVE[:])
}

func bundle(t testing.TB, name string) *Collateral {
	t.Helper()
	c, err := ParseCollateral(vector(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// withoutLists opens collateral with which nobody has kept the revocation lists: nothing is
// revoked.
func withoutLists(t testing.TB, q *Quote, tcb, qe []byte, at time.Time) *opened {
	t.Helper()
	chain := string(vector(t, "tcb_info_v3_fmspc_00606A000000_certs.pem"))
	c := &Collateral{TCBInfoChain: chain, IdentityChain: chain}
	for _, f := range []struct {
		answer    []byte
		text      *string
		signature *Hex
	}{{tcb, &c.TCBInfo, &c.TCBSignature}, {qe, &c.Identity, &c.IDSignature}} {
		var signed struct {
			TCB       json.RawMessage `json:"tcbInfo"`
			Identity  json.RawMessage `json:"enclaveIdentity"`
			Signature Hex             `json:"signature"`
		}
		if err := json.Unmarshal(f.answer, &signed); err != nil {
			t.Fatal(err)
		}
		*f.text, *f.signature = string(signed.TCB)+string(signed.Identity), signed.Signature
	}
	root, err := Anchor{}.certificate()
	if err != nil {
		t.Fatal(err)
	}
	path, err := parsePEM(bytes.TrimSuffix(q.chain, []byte{0}), 3)
	if err != nil {
		t.Fatal(err)
	}
	o := &opened{root: root, at: at, pckCA: path[1]}
	for _, issuer := range []*x509.Certificate{root, path[1]} {
		o.crls = append(o.crls, crl{issuer: issuer.RawSubject})
	}
	if err := o.openTexts(c); err != nil {
		t.Fatal(err)
	}
	for _, s := range o.spans {
		if err := s.check(at); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// The quote of a platform that has no certificates says so.
func TestWithoutCertificates(t *testing.T) {
	if _, err := Parse(vector(t, "quote_v3_ecdsa_p256_eppid.bin")); !errors.Is(err, errMalformed) || !strings.Contains(err.Error(), "it has no certificates of its platform") {
		t.Error(err)
	}
}

// Each byte of a quote is either signed or compared: none can be changed, nor taken away, nor
// one put behind.
func TestEveryByteOfAQuote(t *testing.T) {
	for _, name := range []string{"SGX, Processor CA", "TDX, with lists"} {
		tt := vectors[name]
		raw, at := vector(t, tt.quote), instant(t, tt.at)
		o, err := bundle(t, tt.bundle).open(Anchor{}, at)
		if err != nil {
			t.Fatal(err)
		}
		accepted := func(raw []byte) bool {
			q, err := Parse(raw)
			if err != nil {
				return false
			}
			_, err = q.verify(o)
			return err == nil
		}
		if !accepted(raw) {
			t.Fatalf("%s is refused", name)
		}
		for i := range raw {
			changed := bytes.Clone(raw)
			changed[i] ^= 1 << (i % 8)
			if accepted(changed) {
				t.Errorf("%s: byte %d is not looked at", name, i)
			}
		}
		end := len(bytes.TrimRight(raw, "\x00"))
		for i := range end {
			if accepted(raw[:i]) {
				t.Errorf("%s: %d bytes are enough", name, i)
			}
		}
		if accepted(append(bytes.Clone(raw), 1)) {
			t.Errorf("%s: a byte may follow", name)
		}
		if zero := accepted(append(bytes.Clone(raw), 0)); zero != strings.HasPrefix(name, "TDX") {
			t.Errorf("%s: a zero may follow: %v", name, zero)
		}
	}
}

// The same of all that collateral consists of.
func TestEveryByteOfCollateral(t *testing.T) {
	tt := vectors["SGX, Processor CA"]
	c := bundle(t, tt.bundle)
	good, err := c.open(Anchor{}, instant(t, tt.at))
	if err != nil {
		t.Fatal(err)
	}
	lists := func() error { return c.openCRLs(&opened{root: good.root}) }
	text := func(what string, chain, text *string, signature *Hex) func() error {
		return func() error {
			return (&opened{root: good.root, crls: good.crls}).openText(what, *chain, *text, *signature)
		}
	}
	info, identity := text("TCB info", &c.TCBInfoChain, &c.TCBInfo, &c.TCBSignature), text("QE identity", &c.IdentityChain, &c.Identity, &c.IDSignature)
	for name, piece := range map[string]struct {
		bytes *Hex
		text  *string
		open  func() error
	}{
		"the chain of the list": {nil, &c.PCKCRLChain, lists}, "the root's list": {&c.RootCRL, nil, lists}, "the platforms' list": {&c.PCKCRL, nil, lists},
		"the chain of TCB info": {nil, &c.TCBInfoChain, info}, "TCB info": {nil, &c.TCBInfo, info}, "its signature": {&c.TCBSignature, nil, info},
		"the chain of QE identity": {nil, &c.IdentityChain, identity}, "QE identity": {nil, &c.Identity, identity}, "and its signature": {&c.IDSignature, nil, identity},
	} {
		if piece.text != nil {
			piece.bytes = new(Hex)
			*piece.bytes = Hex(*piece.text)
		}
		original := bytes.Clone(*piece.bytes)
		for i := range original {
			*piece.bytes = bytes.Clone(original)
			(*piece.bytes)[i] ^= 1 << (i % 8)
			if piece.text != nil {
				*piece.text = string(*piece.bytes)
			}
			if piece.open() == nil && !(i == len(original)-1 && original[i] == '\n') {
				t.Errorf("%s: byte %d is not looked at", name, i)
			}
		}
		*piece.bytes = original
		if piece.text != nil {
			*piece.text = string(original)
		}
		if err := piece.open(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Real collateral is good from when its last piece was made until its first one ends.
func TestVectorsOfOtherTimes(t *testing.T) {
	tt := vectors["SGX, Processor CA"]
	c, at := bundle(t, tt.bundle), instant(t, tt.at)
	o, err := c.open(Anchor{}, at)
	if err != nil {
		t.Fatal(err)
	}
	latest := slices.MaxFunc(o.spans, func(a, b Span) int { return a.From.Compare(b.From) })
	for at, good := range map[time.Time]bool{latest.From: true, latest.From.Add(-time.Second): false, first(o.spans).Until.Add(-time.Second): true, first(o.spans).Until: false} {
		if _, err := c.Verify(Anchor{}, at); (err == nil) != good || !good && !errors.Is(err, ErrTime) {
			t.Errorf("at %s: %v", at, err)
		}
	}
}
