// Package verify says what a quote of an SGX enclave or a TDX trust domain proves, and what
// not: offline, on any machine, for operators and delegators alike.
//
// It trusts Intel's root, the clock or the time that it is given, and the enclave that the
// caller names. What a document says in its user data counts only as far as that enclave is
// one that says the truth.
package verify

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/cure"
	"privyseal/internal/home"
	"privyseal/internal/sgx"
	"privyseal/internal/sgx/document"
	"privyseal/internal/sgx/sigstruct"
	"privyseal/internal/statement"
)

// Documents are quotes, and the documents around them, for `privyseal verify`.
func Documents() *home.Documents {
	return &home.Documents{
		Noun: "a quote of an SGX enclave or a TDX trust domain",
		Help: `A quote of an SGX enclave (version 3) or a TDX trust domain (version 4), or the document of
privyseal's own enclave around one, raw or in base64: signatures and certificates are checked
up to Intel's root, with the collateral that "privyseal sgx collateral" has fetched, which is
good for about a month; the state of the platform, the time, the enclave, and what it says
about a validator's key. Anybody can have a quote of just any program, so the enclave has to be
named: by --mrenclave, by its signature, --sigstruct, or by --mrsigner with --product and
--min-svn; a trust domain by --mrtd. --any-enclave checks a quote without, and proves nothing
about privyseal. A platform that is out of date, or configured so that a known attack works, is
accepted only with --accept-status and an --accept-advisory for each of its advisories; one that
Intel has revoked, and an enclave in debug mode, never. Only a --nonce of your own proves that
a document is new.`,
		Example:  "privyseal verify attestation.b64 --collateral platform.json --sigstruct privyseal-sgx.sig --chain-id chain-1",
		Verifier: func() home.Verifier { return &flags{} },
	}
}

// flags are those of `privyseal verify` for such documents. It is a [home.Verifier].
type flags struct {
	collateral, testRoot           string
	mrenclave, mrsigner, sigstruct string
	mrtd                           string
	product                        string
	minSVN                         uint16
	any                            bool
	statuses, advisories           []string
	ppids, fmspcs                  []string
	minEvaluation                  uint32
	reportData, nonce, chainID     string
}

// Add implements [home.Verifier].
func (f *flags) Add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.collateral, "collateral", "", "file that \"privyseal sgx collateral\" wrote for the platform")
	fl.StringVar(&f.mrenclave, "mrenclave", "", "MRENCLAVE of the enclave that is expected, hex")
	fl.StringVar(&f.sigstruct, "sigstruct", "", "signature (.sig) of the enclave that is expected")
	fl.StringVar(&f.mrsigner, "mrsigner", "", "MRSIGNER of whoever signed the enclave, hex; goes with --product")
	fl.StringVar(&f.product, "product", "", "which of the signer's products is expected")
	fl.Uint16Var(&f.minSVN, "min-svn", 0, "least SVN of that product")
	fl.StringVar(&f.mrtd, "mrtd", "", "MRTD of the trust domain that is expected, hex")
	fl.BoolVar(&f.any, "any-enclave", false, "expect no enclave; proves nothing about privyseal")
	fl.StringArrayVar(&f.statuses, "accept-status", nil, "accept a platform of this status of Intel's, as OutOfDate; may be repeated")
	fl.StringArrayVar(&f.advisories, "accept-advisory", nil, "accept what this advisory says of the platform, as INTEL-SA-00615; may be repeated")
	fl.StringArrayVar(&f.ppids, "ppid", nil, "PPID of a platform that is expected, hex; may be repeated")
	fl.StringArrayVar(&f.fmspcs, "fmspc", nil, "FMSPC of a model that is expected, hex; may be repeated")
	fl.Uint32Var(&f.minEvaluation, "min-tcb-evaluation", 0, "least number of Intel's TCB evaluation that the collateral is of")
	fl.StringVar(&f.reportData, "report-data", "", "report data of a bare quote that are expected, hex, zeros at the end left out")
	fl.StringVar(&f.chainID, "chain-id", "", "chain that is expected")
	fl.StringVar(&f.nonce, "nonce", "", "nonce that is expected, hex")
	fl.StringVar(&f.testRoot, "test-root", "", "PEM file of a test root to trust instead of the one that is built in")
}

// Recognises implements [home.Verifier].
func (f *flags) Recognises(data []byte) bool { return document.Raw(data) != nil }

// Verify implements [home.Verifier].
func (f *flags) Verify(w io.Writer, data []byte, want home.Expected) error {
	v, err := f.check(document.Raw(data), want)
	if err != nil {
		return err
	}
	return v.report(w)
}

// check checks a quote or document against the flags.
func (f *flags) check(raw []byte, want home.Expected) (*verified, error) {
	policy, err := f.policy()
	if err != nil {
		return nil, err
	}
	v := &verified{nonce: f.nonce != "", pinned: len(policy.PPIDs) > 0, signer: policy.MRENCLAVE == nil && policy.MRSIGNER != nil}
	v.named = policy.MRENCLAVE != nil || policy.MRSIGNER != nil || policy.MRTD != nil
	if !v.named && !f.any {
		return nil, errors.New("no enclave is expected, and a quote of just any enclave proves nothing; add --mrenclave HEX, --sigstruct FILE, or --mrsigner HEX with --product N, or --mrtd HEX for a trust domain; with --any-enclave the quote is checked all the same")
	}
	quote := raw
	if v.document, err = document.Decode(raw); err == nil {
		quote, v.ours = v.document.Quote, true
	}
	if err := f.fits(v, want); err != nil {
		return nil, err
	}
	q, err := sgx.Parse(quote)
	if err != nil {
		return nil, err
	}
	if v.Verified, err = f.genuine(q, want); err != nil {
		return nil, err
	}
	mismatches, err := f.expected(v, policy, want)
	if err != nil {
		return nil, err
	}
	if mismatches != nil {
		return nil, advise(v, mismatches)
	}
	return v, nil
}

// fits refuses flags for a document beside a bare quote, and the reverse.
func (f *flags) fits(v *verified, want home.Expected) error {
	switch {
	case v.ours && f.reportData != "":
		return cli.Usagef("--report-data is for bare quotes; those of a document are a hash of what it says")
	case v.bare() && (f.nonce != "" || f.chainID != "" || want.PublicKey != ""):
		return cli.Usagef("this is a bare quote, which names no key, chain or nonce: --public-key, --chain-id and --nonce are for documents of privyseal's enclave; a bare quote has --report-data")
	}
	return nil
}

// genuine verifies the quote with the collateral.
func (f *flags) genuine(q *sgx.Quote, want home.Expected) (*sgx.Verified, error) {
	if f.collateral == "" {
		return nil, cli.Usage(cure.Add(errors.New("a quote is verified with Intel's collateral: add --collateral FILE"), "%s fetches it", cure.Command("privyseal", "sgx", "collateral", "platform.json", "--quote", "DOCUMENT")))
	}
	text, err := cli.ReadBounded(f.collateral, sgx.MaxCollateral)
	if err != nil {
		return nil, cli.OfFlag("collateral", err)
	}
	c, err := sgx.ParseCollateral(text)
	if err != nil {
		return nil, fmt.Errorf("--collateral %s: %w", f.collateral, err)
	}
	anchor := sgx.Anchor{}
	if f.testRoot != "" {
		pem, err := cli.ReadBounded(f.testRoot, 1<<16)
		if err != nil {
			return nil, cli.OfFlag("test-root", err)
		}
		if anchor, err = sgx.ParseAnchor(pem); err != nil {
			return nil, fmt.Errorf("--test-root %s: %w", f.testRoot, err)
		}
	}
	v, err := q.Verify(c, anchor, want.At)
	if errors.Is(err, sgx.ErrTime) {
		err = cure.Add(err, "%s fetches collateral of today; for a document that you received earlier, say when with --at, and take collateral of that time", cure.Command("privyseal", "sgx", "collateral", f.collateral, "--refresh"))
	}
	return v, err
}

// expected compares what is verified with the flags.
func (f *flags) expected(v *verified, policy sgx.Policy, want home.Expected) (m sgx.Mismatches, err error) {
	nonce, err := hex.DecodeString(f.nonce)
	if err != nil {
		return nil, cli.Usagef("--nonce %.80q is not hex", f.nonce)
	}
	if v.ours {
		data := document.ReportData(v.document.UserData, v.document.Nonce, v.document.PublicKey)
		policy.ReportData = data[:]
		if f.nonce != "" && string(nonce) != string(v.document.Nonce) {
			m = append(m, sgx.Mismatch{Field: "nonce", Got: hex.EncodeToString(v.document.Nonce), Want: f.nonce})
		}
	}
	if err := policy.Check(v.Verified); err != nil {
		more, ok := errors.AsType[sgx.Mismatches](err)
		if !ok {
			return nil, err
		}
		m = append(more, m...)
	}
	if v.ours {
		// Of user data that are not the enclave's it says nothing.
		if v.said, err = statement.Read(v.document.UserData); err != nil && !f.any && m == nil {
			return nil, err
		}
		v.said.Compare(f.chainID, want.PublicKey, func(field, got, want string) {
			m = append(m, sgx.Mismatch{Field: field, Got: got, Want: want})
		})
	}
	return m, nil
}

// advise says what a policy would have to name, where only the state of the platform is in
// the way.
func advise(v *verified, m sgx.Mismatches) error {
	for _, x := range m {
		if x.Field != "status" && x.Field != "advisory of "+string(v.Status) {
			return m
		}
	}
	words := []string{"--accept-status", string(v.Status)}
	for _, a := range v.Advisories {
		words = append(words, "--accept-advisory", a)
	}
	return cure.Add(m, "read each of its advisories (intel.com/sa); whoever can live with them adds %s", cure.Command(words...))
}

// policy turns the flags into what is expected.
func (f *flags) policy() (p sgx.Policy, err error) {
	p = sgx.Policy{AnyEnclave: f.any, MinSVN: f.minSVN, Advisories: f.advisories, MinEvaluation: f.minEvaluation}
	if f.any && (f.mrenclave != "" || f.mrsigner != "" || f.sigstruct != "" || f.mrtd != "") {
		return p, cli.Usagef("--any-enclave says that no enclave is expected; it does not go with --mrenclave, --mrsigner, --sigstruct or --mrtd")
	}
	if (f.mrsigner == "") != (f.product == "") || f.mrsigner == "" && f.minSVN != 0 {
		return p, cli.Usagef("--mrsigner and --product go together: a signer may have signed other enclaves, and a product is one signer's; --min-svn goes with them")
	}
	if f.product != "" {
		n, err := strconv.ParseUint(f.product, 10, 16)
		if err != nil {
			return p, cli.Usagef("--product %.20q is not a number up to 65535", f.product)
		}
		p.ProductID = uint16(n)
	}
	for _, x := range []struct {
		flag, text string
		size       int
		into       *[]byte
	}{{"mrenclave", f.mrenclave, 32, &p.MRENCLAVE}, {"mrsigner", f.mrsigner, 32, &p.MRSIGNER}, {"mrtd", f.mrtd, 48, &p.MRTD}, {"report-data", f.reportData, 0, &p.ReportData}} {
		if x.text == "" {
			continue
		}
		if *x.into, err = parseHex(x.flag, x.text, x.size); err != nil {
			return p, err
		}
	}
	for _, s := range f.statuses {
		status, err := sgx.ParseStatus(s)
		if err != nil {
			return p, cli.Usagef("--accept-status: %w", err)
		}
		p.Statuses = append(p.Statuses, status)
	}
	for _, a := range f.advisories {
		if err := sgx.ParseAdvisory(a); err != nil {
			return p, cli.Usagef("--accept-advisory: %w", err)
		}
	}
	if p.PPIDs, err = parseList("ppid", f.ppids, 16); err != nil {
		return p, err
	}
	if p.FMSPCs, err = parseList("fmspc", f.fmspcs, 6); err != nil {
		return p, err
	}
	return p, f.fromSignature(&p)
}

// fromSignature adds the enclave of a signature.
func (f *flags) fromSignature(p *sgx.Policy) error {
	if f.sigstruct == "" {
		return nil
	}
	raw, err := cli.ReadBounded(f.sigstruct, sigstruct.Size)
	if err != nil {
		return cli.OfFlag("sigstruct", err)
	}
	s, err := sigstruct.Parse(raw)
	if err != nil {
		return fmt.Errorf("--sigstruct %s: %w", f.sigstruct, err)
	}
	if p.MRENCLAVE != nil && string(p.MRENCLAVE) != string(s.MRENCLAVE[:]) {
		return cli.Usagef("--mrenclave and --sigstruct name different enclaves: %x and %x", p.MRENCLAVE, s.MRENCLAVE)
	}
	p.MRENCLAVE = s.MRENCLAVE[:]
	return nil
}

func parseList(flag string, texts []string, size int) (list [][]byte, err error) {
	for _, text := range texts {
		b, err := parseHex(flag, text, size)
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	return list, nil
}

// parseHex reads bytes of a size; 0 is any up to the 64 of report data.
func parseHex(flag, text string, size int) ([]byte, error) {
	b, err := hex.DecodeString(text)
	if err != nil || size > 0 && len(b) != size || len(b) > 64 {
		if size == 0 {
			return nil, cli.Usagef("--%s %.140q is not hex of at most 64 bytes", flag, text)
		}
		return nil, cli.Usagef("--%s %.100q is not %d hex digits", flag, text, 2*size)
	}
	return b, nil
}
