package sgx

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"privyseal/internal/sgx/sgxtest"
)

var day = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is a fake Intel, an enclave and a trust domain on its platform, and who looks at them
// when.
type world struct {
	*sgxtest.Intel
	enclave    sgxtest.Enclave
	td         *sgxtest.TD // in place of the enclave, if it is there
	at         time.Time
	change     func(c *Collateral)
	damage     func(raw []byte) // of the quote
	forTDs     bool             // the collateral is
	collateral *sgxtest.Intel   // of another Intel
}

func newIntel(t testing.TB) *sgxtest.Intel {
	t.Helper()
	i, err := sgxtest.New(day)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func newWorld(t testing.TB) *world {
	return &world{Intel: newIntel(t), at: day, enclave: sgxtest.Enclave{MRENCLAVE: [32]byte{0xe1}, MRSIGNER: [32]byte{0x51}, ProductID: 7, SVN: 3, ReportData: [64]byte{0xda}}}
}

// evidence returns the quote and the collateral.
func (w *world) evidence(t testing.TB) ([]byte, *Collateral) {
	t.Helper()
	from := w.Intel
	if w.collateral != nil {
		from = w.collateral
	}
	quote, collateral := func() ([]byte, error) { return w.Quote(w.enclave) }, from.Collateral
	if w.td != nil {
		quote, collateral = func() ([]byte, error) { return w.TDQuote(*w.td) }, from.TDCollateral
	}
	if w.forTDs {
		collateral = from.TDCollateral
	}
	raw, err := quote()
	if err != nil {
		t.Fatal(err)
	}
	if w.damage != nil {
		w.damage(raw)
	}
	text, err := collateral()
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseCollateral(text)
	if err != nil {
		t.Fatal(err)
	}
	if w.change != nil {
		w.change(c)
	}
	return raw, c
}

func (w *world) verify(t testing.TB) (*Verified, error) {
	t.Helper()
	raw, c := w.evidence(t)
	return judge(raw, c, w.RootPEM(), w.at)
}

// judge verifies a quote below a root; nil is Intel's.
func judge(raw []byte, c *Collateral, root []byte, at time.Time) (*Verified, error) {
	anchor := Anchor{}
	if root != nil {
		var err error
		if anchor, err = ParseAnchor(root); err != nil {
			return nil, err
		}
	}
	q, err := Parse(raw)
	if err != nil {
		return nil, err
	}
	return q.Verify(c, anchor, at)
}

// A verified quote says all that is known.
func TestVerified(t *testing.T) {
	w := newWorld(t)
	v, err := w.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	e := v.Enclave
	if e.MRENCLAVE != w.enclave.MRENCLAVE || e.MRSIGNER != w.enclave.MRSIGNER || e.ProductID != 7 || e.SVN != 3 || v.ReportData() != w.enclave.ReportData || e.Debug() || e.CPUSVN != w.CPUSVN {
		t.Errorf("%+v", e)
	}
	p := v.Platform
	if p.PPID != w.PPID || p.FMSPC != w.FMSPC || p.CPUSVN != w.CPUSVN || p.PCESVN != 13 || p.CA != "platform" || len(p.Instance) != 16 {
		t.Errorf("%+v", p)
	}
	if v.Status != UpToDate || len(v.Advisories) != 0 || v.TEE != "SGX" || v.Evaluation != 17 || v.Anchor.IsIntel() || !v.At.Equal(day) || v.Date.Year() != 2025 {
		t.Errorf("%+v", v)
	}
	if want := day.AddDate(0, 0, 30); !v.First.Until.Equal(want) || v.First.What == "" {
		t.Errorf("until %+v, want %s", v.First, want)
	}
	if claimed, err := v.Quote.Claims(); err != nil || claimed.PPID != p.PPID || claimed.CA != "platform" {
		t.Errorf("it claims %+v, %v", claimed, err)
	}
	w = newWorld(t)
	w.CA = sgxtest.Processor
	if v, err = w.verify(t); err != nil || v.Platform.CA != "processor" || v.Platform.Instance != nil || v.Contents.CA != "processor" {
		t.Errorf("by the Processor CA: %+v, %v", v, err)
	}
	w = newWorld(t)
	w.Levels[1].PCESVN = w.Levels[0].PCESVN
	slices.Reverse(w.Levels)
	if v, err = w.verify(t); err != nil || v.Status != UpToDate {
		t.Errorf("with the levels in another order: %+v, %v", v, err)
	}
	w = newWorld(t)
	onText(sgxtest.QEIdentity, func(m map[string]any) { m["tcbEvaluationDataNumber"] = 15 })(w)
	onCertificate(sgxtest.PCK, func(c *x509.Certificate) { c.NotAfter = day.Add(time.Hour) })(w)
	if v, err = w.verify(t); err != nil || v.Evaluation != 15 || !v.First.Until.Equal(day.Add(time.Hour)) || v.First.What != `the certificate of "Intel SGX PCK Certificate"` {
		t.Errorf("with a part that is older, and one that ends soon: %+v, %v", v, err)
	}
	w = newWorld(t)
	w.td = &sgxtest.TD{MRTD: [48]byte{0x7d}, RTMR: [4][48]byte{3: {9}}, ReportData: [64]byte{1}}
	v, err = w.verify(t)
	if err != nil || v.Quote.TD.MRTD != w.td.MRTD || v.Quote.TD.RTMR != w.td.RTMR || v.ReportData() != w.td.ReportData || v.TEE != "TDX" || len(v.Parts) != 3 || v.Parts[2].Name != "TDX module" {
		t.Errorf("a trust domain: %+v, %v", v, err)
	}
}

// onCertificate changes one certificate.
func onCertificate(name string, change func(c *x509.Certificate)) func(w *world) {
	return func(w *world) {
		w.OnCertificate = func(n string, c *x509.Certificate) {
			if n == name {
				change(c)
			}
		}
	}
}

func onText(name string, change func(m map[string]any)) func(w *world) {
	return func(w *world) {
		w.OnText = func(n string, m map[string]any) {
			if n == name {
				change(m)
			}
		}
	}
}

func onList(name string, change func(l *x509.RevocationList)) func(w *world) {
	return func(w *world) {
		w.OnList = func(n string, l *x509.RevocationList) {
			if n == name {
				change(l)
			}
		}
	}
}

func asTD(change func(w *world)) func(w *world) {
	return func(w *world) {
		w.td = &sgxtest.TD{}
		change(w)
	}
}

// extension changes the platform's extension: what stands there for what.
func extension(old, replacement []byte) func(w *world) {
	return onCertificate(sgxtest.PCK, func(c *x509.Certificate) {
		value := bytes.Clone(c.ExtraExtensions[0].Value)
		if !bytes.Contains(value, old) || len(old) != len(replacement) {
			panic("there is nothing to change")
		}
		c.ExtraExtensions[0].Value = bytes.Replace(value, old, replacement, 1)
	})
}

var critical = pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}

// fault is something that is wrong, and what is said about it: an error, a part of its text.
// Without both nothing is wrong.
type fault struct {
	change func(w *world)
	want   error
	says   string
}

func (f fault) good() bool { return f.want == nil && f.says == "" }

// faults returns what can be wrong with a platform, its certificates or its collateral.
func faults() map[string]fault {
	second := time.Second
	revoke := func(name string) func(w *world) {
		return func(w *world) { w.Revoked = []string{name} }
	}
	return map[string]fault{
		"debug":                            {func(w *world) { w.enclave.Debug = true }, errDebug, "debug mode"},
		"debug of a domain":                {asTD(func(w *world) { w.td.Attributes = [8]byte{0: 1, 3: 0x10} }), errDebug, "debug mode"},
		"a domain that is watched":         {asTD(func(w *world) { w.td.Attributes = [8]byte{0: 0x80, 3: 0x10} }), errDebug, "debug mode"},
		"a domain that may lose pages":     {asTD(func(w *world) { w.td.Attributes = [8]byte{7: 0x80} }), nil, "SEPT_VE_DISABLE is not set"},
		"a domain with unknown attributes": {asTD(func(w *world) { w.td.Attributes = [8]byte{2: 1, 3: 0x10} }), nil, "unknown attributes"},
		"a domain with reserved ones":      {asTD(func(w *world) { w.td.Attributes = [8]byte{3: 0x30} }), nil, "unknown attributes"},
		"a domain with others":             {asTD(func(w *world) { w.td.Attributes = [8]byte{3: 0x10, 4: 1} }), nil, "unknown attributes"},
		"a domain with more of them":       {asTD(func(w *world) { w.td.Attributes = [8]byte{3: 0x10, 7: 1} }), nil, "unknown attributes"},

		"the platform is revoked":                  {revoke(sgxtest.PCK), errRevoked, `that of "Intel SGX PCK Certificate", number 4`},
		"its CA is revoked":                        {revoke(sgxtest.PlatformCA), errRevoked, sgxtest.PlatformCA},
		"who signs TCB info is revoked":            {revoke(sgxtest.TCBSigning), errRevoked, sgxtest.TCBSigning},
		"the root is revoked":                      {revoke(sgxtest.Root), errRevoked, sgxtest.Root},
		"another platform is revoked":              {revoke(sgxtest.Processor), nil, ""},
		"collateral of another Intel":              {func(w *world) { w.collateral = mustIntel(w.Now) }, errChain, "is not the root"},
		"quote of another Intel":                   {func(w *world) { w.collateral, w.Intel = w.Intel, mustIntel(w.Now) }, errChain, "is not the root"},
		"collateral of another model":              {func(w *world) { w.collateral = mustCopy(w.Intel); w.collateral.FMSPC[0]++ }, errForeign, "it is for the FMSPC 01606a000000"},
		"another PCE":                              {onText(sgxtest.TCBInfo, func(m map[string]any) { m["pceId"] = "0001" }), errForeign, "with the PCE 0001"},
		"the list is of the other CA":              {func(w *world) { w.collateral = mustCopy(w.Intel); w.collateral.CA = sgxtest.Processor }, errForeign, `its list of revoked platforms is of "Intel SGX PCK Processor CA"`},
		"the list is of another key":               {func(w *world) { w.collateral = mustRenew(w.Intel) }, errForeign, `its list of revoked platforms is of "Intel SGX PCK Platform CA"`},
		"all collateral is for domains":            {func(w *world) { w.forTDs = true }, errForeign, "it is for TDX, and the quote is of SGX"},
		"another signature on the quote":           {func(w *world) { w.damage = func(raw []byte) { raw[headerSize+enclaveSize+4]++ } }, errSignature, "that of the quoting enclave on the quote"},
		"another signature on the quoting enclave": {func(w *world) { w.damage = func(raw []byte) { raw[headerSize+enclaveSize+4+128+enclaveSize]++ } }, errSignature, "that of the platform on its quoting enclave"},
		"another attestation key":                  {func(w *world) { w.damage = func(raw []byte) { raw[headerSize+enclaveSize+4+64]++ } }, errSignature, "has another key than the one that signed"},
		"collateral of domains":                    {onText(sgxtest.TCBInfo, func(m map[string]any) { domains(m) }), errForeign, "its TCB info is for TDX, and its QE identity for QE"},
		"identity of another kind":                 {onText(sgxtest.QEIdentity, func(m map[string]any) { m["id"] = "TD_QE" }), errForeign, "its QE identity for TD_QE"},
		"identity of QVE":                          {onText(sgxtest.QEIdentity, func(m map[string]any) { m["id"] = "QVE" }), nil, "the QE identity is malformed"},

		"the root expired":                 {onCertificate(sgxtest.Root, func(c *x509.Certificate) { c.NotAfter = day.Add(-second) }), ErrTime, `the certificate of "Intel SGX Root CA"`},
		"the CA expired":                   {onCertificate(sgxtest.PlatformCA, func(c *x509.Certificate) { c.NotAfter = day.Add(-second) }), ErrTime, sgxtest.PlatformCA},
		"the platform expired":             {onCertificate(sgxtest.PCK, func(c *x509.Certificate) { c.NotAfter = day.Add(-second) }), ErrTime, sgxtest.PCK},
		"the platform is to come":          {onCertificate(sgxtest.PCK, func(c *x509.Certificate) { c.NotBefore = day.Add(second) }), ErrTime, sgxtest.PCK},
		"its last second":                  {onCertificate(sgxtest.PCK, func(c *x509.Certificate) { c.NotAfter = day }), ErrTime, "not valid at this time"},
		"the last second of a list":        {onList(sgxtest.PlatformCA, func(l *x509.RevocationList) { l.NextUpdate = day }), ErrTime, "not valid at this time"},
		"the last second of TCB info":      {onText(sgxtest.TCBInfo, func(m map[string]any) { m["nextUpdate"] = day.Format(time.RFC3339) }), ErrTime, "not valid at this time"},
		"the first second of TCB info":     {onText(sgxtest.TCBInfo, func(m map[string]any) { m["issueDate"] = day.Format(time.RFC3339) }), nil, ""},
		"the first second of a platform":   {onCertificate(sgxtest.PCK, func(c *x509.Certificate) { c.NotBefore = day }), nil, ""},
		"who signs TCB info expired":       {onCertificate(sgxtest.TCBSigning, func(c *x509.Certificate) { c.NotAfter = day.Add(-second) }), ErrTime, sgxtest.TCBSigning},
		"TCB info ended":                   {onText(sgxtest.TCBInfo, func(m map[string]any) { m["nextUpdate"] = day.Add(-second).Format(time.RFC3339) }), ErrTime, "the TCB info: "},
		"TCB info is to come":              {onText(sgxtest.TCBInfo, func(m map[string]any) { m["issueDate"] = day.Add(second).Format(time.RFC3339) }), ErrTime, "the TCB info: "},
		"QE identity ended":                {onText(sgxtest.QEIdentity, func(m map[string]any) { m["nextUpdate"] = day.Add(-second).Format(time.RFC3339) }), ErrTime, "the QE identity: "},
		"QE identity is to come":           {onText(sgxtest.QEIdentity, func(m map[string]any) { m["issueDate"] = day.Add(second).Format(time.RFC3339) }), ErrTime, "the QE identity: "},
		"the list of platforms ended":      {onList(sgxtest.PlatformCA, func(l *x509.RevocationList) { l.NextUpdate = day.Add(-second) }), ErrTime, `the revocation list of "Intel SGX PCK Platform CA"`},
		"the list of platforms is to come": {onList(sgxtest.PlatformCA, func(l *x509.RevocationList) { l.ThisUpdate = day.Add(second) }), ErrTime, `the revocation list of "Intel SGX PCK Platform CA"`},
		"the root's list ended":            {onList(sgxtest.Root, func(l *x509.RevocationList) { l.NextUpdate = day.Add(-second) }), ErrTime, `the revocation list of "Intel SGX Root CA"`},
		"a month later":                    {func(w *world) { w.at = day.AddDate(0, 1, 0) }, ErrTime, "not valid at this time"},
		"a day before":                     {func(w *world) { w.at = day.AddDate(0, 0, -1) }, ErrTime, "not valid at this time"},

		"an unknown extension of a list": {onList(sgxtest.PlatformCA, func(l *x509.RevocationList) { l.ExtraExtensions = []pkix.Extension{critical} }), nil, "unknown critical extension 1.2.3"},
		"the lists are exchanged":        {func(w *world) { w.change = func(c *Collateral) { c.RootCRL, c.PCKCRL = c.PCKCRL, c.RootCRL } }, errSignature, "has not signed its revocation list"},
		"no list of platforms":           {func(w *world) { w.change = func(c *Collateral) { c.PCKCRL = nil } }, nil, "is malformed"},
		"the CA may sign no lists":       {onCertificate(sgxtest.PlatformCA, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }), errSignature, "has not signed its revocation list"},
		"the TCB info's signature on the identity": {func(w *world) {
			w.change = func(c *Collateral) { c.Identity, c.IDSignature = c.TCBInfo, c.TCBSignature }
		}, nil, "the QE identity is malformed"},
		"the signatures are exchanged": {func(w *world) {
			w.change = func(c *Collateral) { c.IDSignature, c.TCBSignature = c.TCBSignature, c.IDSignature }
		}, errSignature, "that of the TCB info"},
		"a signature that is too short": {func(w *world) { w.change = func(c *Collateral) { c.TCBSignature = c.TCBSignature[:63] } }, errSignature, "that of the TCB info"},
		"the platform signs TCB info": {func(w *world) {
			w.change = func(c *Collateral) { c.TCBInfoChain = c.PCKCRLChain }
		}, errChain, `the certificate of "Intel SGX PCK Platform CA" may not be used for this`},
		"one certificate more": {func(w *world) { w.change = func(c *Collateral) { c.TCBInfoChain += c.TCBInfoChain } }, nil, "something else than certificates"},
		"one certificate less": {func(w *world) { w.change = func(c *Collateral) { c.TCBInfoChain = c.TCBInfoChain[:900] } }, nil, "the chain of the TCB info: "},
		"text before it":       {func(w *world) { w.change = func(c *Collateral) { c.TCBInfoChain = "x\n" + c.TCBInfoChain } }, nil, "something else than certificates"},
		"a megabyte before it": {func(w *world) { w.change = func(c *Collateral) { c.TCBInfoChain = strings.Repeat("\n", 1<<20) } }, nil, "2 certificates have no 1048576 bytes"},
		"a CA that another root has signed": {func(w *world) {
			other := mustIntel(w.Now)
			w.change = func(c *Collateral) { c.PCKCRLChain = firstOf(collateralOf(other).PCKCRLChain) + string(w.RootPEM()) }
		}, errChain, `the signature on "Intel SGX PCK Platform CA" is wrong`},
		"a list of another CA of that name": {func(w *world) {
			other := mustIntel(w.Now)
			w.change = func(c *Collateral) { c.PCKCRL = collateralOf(other).PCKCRL }
		}, errSignature, "has not signed its revocation list"},
		"a signature with a zero in it": {func(w *world) {
			w.change = func(c *Collateral) { c.TCBSignature = slices.Concat(c.TCBSignature[:32], Hex{0}, c.TCBSignature[32:]) }
		}, errSignature, "that of the TCB info"},
		"no certificates": {func(w *world) { w.change = func(c *Collateral) { c.PCKCRLChain = "" } }, nil, "there are 0 certificates in PEM, not 2"},

		"the CA is called otherwise":     {onCertificate(sgxtest.PlatformCA, func(c *x509.Certificate) { c.Subject.CommonName = "Intel" }), errChain, `the certificate of "Intel" may not be used for this`},
		"the platform is called another": {onCertificate(sgxtest.PCK, func(c *x509.Certificate) { c.Subject.CommonName = sgxtest.TCBSigning }), errChain, "may not be used for this"},
		"the CA is no CA":                {onCertificate(sgxtest.PlatformCA, func(c *x509.Certificate) { c.IsCA, c.MaxPathLenZero, c.MaxPathLen = false, false, -1 }), errChain, "may not sign certificates"},
		"the CA may not sign":            {onCertificate(sgxtest.PlatformCA, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }), errChain, "may not sign certificates"},
		"the root may have no CAs":       {onCertificate(sgxtest.Root, func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }), errChain, "may have 0 CAs below it, and has 1"},
		"the platform is a CA":           {onCertificate(sgxtest.PCK, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, c.KeyUsage|x509.KeyUsageCertSign }), errChain, "signs, but is a CA"},
		"the platform may not sign":      {onCertificate(sgxtest.PCK, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }), errChain, "may not sign"},
		"signed with SHA-512":            {onCertificate(sgxtest.PCK, func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA512 }), errChain, "is signed with ECDSA-SHA512"},
		"an unknown extension":           {onCertificate(sgxtest.PCK, func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, critical) }), errChain, "unknown critical extension 1.2.3"},

		"no extension":              {onCertificate(sgxtest.PCK, func(c *x509.Certificate) { c.ExtraExtensions = nil }), nil, "does not say which it is"},
		"a component that differs":  {extension(oid(2, 3, 2, 1, 5), oid(2, 3, 2, 1, 6)), nil, "its component 3 is not that of its CPUSVN"},
		"a component that is twice": {extension(oid(2, 3, 2, 1, 5), oid(2, 2, 2, 1, 5)), nil, "is unknown, or there twice"},
		"PCESVN below zero":         {extension(oid(2, 17, 2, 1, 13), oid(2, 17, 2, 1, 0x8d)), nil, "its PCESVN is not a number"},
		"a value of another arc":    {extension(oid(2, 17, 2, 1, 13), oid(3, 17, 2, 1, 13)), nil, "is unknown"},
		"FMSPC of no bytes":         {extension([]byte{0x04, 0x06, 0x00, 0x60}, []byte{0x02, 0x06, 0x00, 0x60}), nil, "does not say which it is"},
		"sgxtype of no number":      {extension([]byte{0x0a, 0x01, 0x00}, []byte{0x04, 0x01, 0x00}), nil, "does not say which it is"},
		"PPID of 15 bytes":          {extension([]byte{0x04, 0x10, 0xa0}, []byte{0x04, 0x0f, 0xa0}), nil, "does not say which it is"},

		"the quoting enclave is in debug mode":  {func(w *world) { w.OnQE = func(r []byte) { r[48] |= 2 } }, errDebug, "its quoting enclave"},
		"the quoting enclave is of another":     {func(w *world) { w.OnQE = func(r []byte) { r[128]++ } }, errLevel, "is not one of Intel's"},
		"the quoting enclave is another":        {func(w *world) { w.OnQE = func(r []byte) { r[256]++ } }, errLevel, "is not one of Intel's"},
		"the quoting enclave saves more":        {func(w *world) { w.OnQE = func(r []byte) { r[16] = 1 } }, errLevel, "is not one of Intel's"},
		"the quoting enclave has attributes":    {func(w *world) { w.OnQE = func(r []byte) { r[49] = 1 } }, errLevel, "is not one of Intel's"},
		"the quoting enclave has masked ones":   {func(w *world) { w.OnQE = func(r []byte) { r[48] |= 4; r[60] = 9 } }, nil, ""},
		"the quoting enclave is below all":      {func(w *world) { w.QESVN = 5 }, errLevel, "the SVN 5 is below all levels"},
		"the quoting enclave binds another key": {func(w *world) { w.OnQE = func(r []byte) { r[320]++ } }, errSignature, "has another key than the one that signed"},
		"the quoting enclave binds more":        {func(w *world) { w.OnQE = func(r []byte) { r[383]++ } }, errSignature, "has another key than the one that signed"},
		"the quote is of another vendor":        {func(w *world) { w.OnQuote = func(s []byte) { s[12]++ } }, errMalformed, "not of Intel"},
		"the quote has another key":             {func(w *world) { w.OnQuote = func(s []byte) { s[2]++ } }, errMalformed, "not ECDSA on P-256"},
		"the quote is of version 5":             {func(w *world) { w.OnQuote = func(s []byte) { s[0] = 5 } }, errMalformed, "quotes of version 5 for the TEE 0x0 are not supported"},
		"SGX in version 4":                      {func(w *world) { w.OnQuote = func(s []byte) { s[0] = 4 } }, errMalformed, "quotes of version 4 for the TEE 0x0 are not supported"},
		"an unknown version":                    {func(w *world) { w.OnQuote = func(s []byte) { s[0] = 9 } }, errMalformed, "it begins with version 9"},

		"the platform is below all":          {func(w *world) { w.Levels = w.Levels[:1]; w.CPUSVN[15]-- }, errLevel, "is below all levels"},
		"the provisioning enclave is too":    {func(w *world) { w.PCESVN = 4 }, errLevel, "with PCESVN 4 is below all levels"},
		"the state is revoked":               {func(w *world) { w.Levels[0].Status = "Revoked" }, errLevel, "Intel has revoked the state of this platform"},
		"the quoting enclave is revoked":     {func(w *world) { w.QELevels[0].Status = "Revoked" }, errLevel, "Intel has revoked"},
		"the module is revoked":              {asTD(func(w *world) { w.Modules["TDX_01"][0].Status = "Revoked" }), errLevel, "Intel has revoked"},
		"the module is signed by another":    {asTD(func(w *world) { w.td.MRSIGNER[0] = 1 }), errLevel, "its TDX module is signed by 01"},
		"the module is of no version known":  {asTD(func(w *world) { w.td.TEETCBSVN = [16]byte{5, 2, 2} }), errLevel, "there is no TDX module TDX_02"},
		"the module is below all levels":     {asTD(func(w *world) { w.td.TEETCBSVN = [16]byte{1, 1, 2} }), errLevel, "of the TDX module TDX_01: "},
		"the module of version 0 is too old": {asTD(func(w *world) { w.td.TEETCBSVN = [16]byte{4, 0, 2} }), errLevel, "is below all levels"},
		"the module of version 0":            {asTD(func(w *world) { w.td.TEETCBSVN = [16]byte{5, 0, 2} }), nil, ""},
		"the module counts by its own":       {asTD(func(w *world) { w.td.TEETCBSVN = [16]byte{4, 1, 2} }), nil, ""},
		"the domain's firmware is too old":   {asTD(func(w *world) { w.td.TEETCBSVN = [16]byte{5, 1, 1} }), errLevel, "is below all levels"},
		"the module has attributes":          {asTD(onText(sgxtest.TCBInfo, func(m map[string]any) { seam(m, "0000000000000001", "FFFFFFFFFFFFFFFF") })), errLevel, "not one of Intel's"},
		"the module has masked attributes":   {asTD(onText(sgxtest.TCBInfo, func(m map[string]any) { seam(m, "0000000000000001", "FFFFFFFFFFFFFFFE") })), nil, ""},

		"a status of no meaning":     {func(w *world) { w.Levels[0].Status = "Fine" }, nil, `has the status "Fine"`},
		"an advisory with an escape": {func(w *world) { w.Levels[0].Advisories = []string{"\x1b[2J"} }, nil, "is not an advisory"},
		"TCB info of version 2":      {onText(sgxtest.TCBInfo, func(m map[string]any) { m["version"] = 2 }), nil, "the TCB info is malformed"},
		"TCB info of another type":   {onText(sgxtest.TCBInfo, func(m map[string]any) { m["tcbType"] = 1 }), nil, "the TCB info is malformed"},
		"TCB info without levels":    {func(w *world) { w.Levels = nil }, nil, "it has 0 levels"},
		"TCB info with many":         {func(w *world) { w.Levels = make([]sgxtest.Level, 201) }, nil, "it has 201 levels"},
		"TCB info without an end":    {onText(sgxtest.TCBInfo, func(m map[string]any) { delete(m, "nextUpdate") }), nil, "the TCB info is malformed"},
		"FMSPC of no hex":            {onText(sgxtest.TCBInfo, func(m map[string]any) { m["fmspc"] = "x" }), nil, "a value is not hex"},
		"a level of 15 components":   {onText(sgxtest.TCBInfo, func(m map[string]any) { tcb(m)["sgxtcbcomponents"] = tcb(m)["sgxtcbcomponents"].([]any)[1:] }), nil, "a level has 15 and 0 components"},
		"a level without PCESVN":     {onText(sgxtest.TCBInfo, func(m map[string]any) { delete(tcb(m), "pcesvn") }), nil, "the TCB info is malformed"},
		"domains without components": {asTD(onText(sgxtest.TCBInfo, func(m map[string]any) { delete(tcb(m), "tdxtcbcomponents") })), nil, "a level has 16 and 0 components"},
		"domains without a module":   {asTD(onText(sgxtest.TCBInfo, func(m map[string]any) { delete(m, "tdxModule") })), nil, "a TDX module is there without trust domains"},
		"levels that ascend":         {func(w *world) { w.QELevels[0], w.QELevels[1] = w.QELevels[1], w.QELevels[0] }, nil, "its levels do not descend"},
		"identity without levels":    {func(w *world) { w.QELevels = nil }, nil, "there are 0 levels"},
		"identity without a product": {onText(sgxtest.QEIdentity, func(m map[string]any) { delete(m, "isvprodid") }), nil, "it names no product"},
		"identity with a short mask": {onText(sgxtest.QEIdentity, func(m map[string]any) { m["attributesMask"] = "00" }), errLevel, "is not one of Intel's"},
		"fields that we do not know": {onText(sgxtest.QEIdentity, func(m map[string]any) { m["new"] = 1 }), nil, ""},
	}
}

// What is wrong is found, whatever it is.
func TestFaults(t *testing.T) {
	for name, tt := range faults() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tt.change(w)
			v, err := w.verify(t)
			switch {
			case tt.good():
				if err != nil {
					t.Error(err)
				}
			case err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says):
				t.Errorf("%v, want %v with %q", err, tt.want, tt.says)
			case v != nil:
				t.Errorf("beside the error there is %+v", v)
			}
		})
	}
}

// mustIntel returns another one, of the same names.
func mustIntel(now time.Time) *sgxtest.Intel {
	i, err := sgxtest.New(now)
	if err != nil {
		panic(err)
	}
	return i
}

// collateralOf returns that of an Intel.
func collateralOf(i *sgxtest.Intel) *Collateral {
	text, err := i.Collateral()
	if err != nil {
		panic(err)
	}
	c, err := ParseCollateral(text)
	if err != nil {
		panic(err)
	}
	return c
}

// firstOf returns the first certificate of a chain.
func firstOf(chain string) string {
	const end = "-----END CERTIFICATE-----\n"
	return chain[:strings.Index(chain, end)+len(end)]
}

// mustCopy returns one with the same keys.
func mustCopy(i *sgxtest.Intel) *sgxtest.Intel {
	j, err := i.Twin()
	if err != nil {
		panic(err)
	}
	return j
}

// mustRenew returns one whose CA has another key.
func mustRenew(i *sgxtest.Intel) *sgxtest.Intel {
	j, err := i.Renewed(sgxtest.PlatformCA)
	if err != nil {
		panic(err)
	}
	return j
}

// domains makes TCB info one of TDX.
func domains(m map[string]any) {
	m["id"], m["tdxModule"] = "TDX", map[string]any{}
	for _, l := range m["tcbLevels"].([]any) {
		of := l.(map[string]any)["tcb"].(map[string]any)
		of["tdxtcbcomponents"] = of["sgxtcbcomponents"]
	}
}

// tcb returns the levels' first one.
func tcb(m map[string]any) map[string]any {
	return m["tcbLevels"].([]any)[0].(map[string]any)["tcb"].(map[string]any)
}

// seam changes what is expected of the TDX module.
func seam(m map[string]any, attributes, mask string) {
	one := m["tdxModuleIdentities"].([]any)[0].(map[string]any)
	one["attributes"], one["attributesMask"] = attributes, mask
}

// oid is the end of an OID below Intel's, with what follows it.
func oid(last ...byte) []byte {
	return append([]byte{0xcd, 0x4d, 1, 0x0d, 1}[:0:0], append([]byte{0x86, 0xf8, 0x4d, 1, 0x0d, 1}, last...)...)
}

// certificateP384 returns one with a key of another curve.
func certificateP384(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: sgxtest.Root}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: der}))
}

// What a platform's certificate says is of the sizes that it has to be.
func TestPlatformOf(t *testing.T) {
	w := newWorld(t)
	var good []byte
	w.OnCertificate = func(name string, c *x509.Certificate) {
		if name == sgxtest.PCK {
			good = c.ExtraExtensions[0].Value
		}
	}
	if _, err := w.verify(t); err != nil {
		t.Fatal(err)
	}
	for id, sizes := range map[int][]int{oidPPID: {15, 17}, oidPCEID: {1, 3}, oidFMSPC: {0, 5, 7}, oidInstance: {15, 17}} {
		for _, size := range sizes {
			list, err := read[[]attribute](good)
			if err != nil {
				t.Fatal(err)
			}
			for i := range list {
				if list[i].ID[len(oidSGX)] == id {
					list[i].Value.FullBytes = append([]byte{4, byte(size)}, make([]byte, size)...)
				}
			}
			der, err := asn1.Marshal(list)
			if err != nil {
				t.Fatal(err)
			}
			if err := (&Platform{}).read(der); err == nil || !strings.Contains(err.Error(), "a value has ") {
				t.Errorf("%d of %d bytes: %v", id, size, err)
			}
		}
	}
}

// A certificate of which nobody says whether it is revoked is not taken for good.
func TestWithoutList(t *testing.T) {
	root, err := Anchor{}.certificate()
	if err != nil {
		t.Fatal(err)
	}
	for want, lists := range map[error][]crl{errForeign: {{issuer: []byte("another")}}, nil: {{issuer: root.RawSubject}}, errRevoked: {{issuer: root.RawSubject, revoked: map[string]bool{root.SerialNumber.String(): true}}}} {
		if err := checkRevocation([]*x509.Certificate{root}, lists); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
}

// Lengths and kinds in a quote that nothing signs have to be right all the same.
func TestLengths(t *testing.T) {
	i := newIntel(t)
	quote, err := i.Quote(sgxtest.Enclave{})
	if err != nil {
		t.Fatal(err)
	}
	td, err := i.TDQuote(sgxtest.TD{})
	if err != nil {
		t.Fatal(err)
	}
	const proof, tdProof = headerSize + enclaveSize, headerSize + tdSize // where their lengths are
	for name, tt := range map[string]struct {
		raw    []byte
		change func(raw []byte) []byte
		says   string
	}{
		"as they are":                {quote, func(raw []byte) []byte { return raw }, ""},
		"of a domain as well":        {td, func(raw []byte) []byte { return raw }, ""},
		"a byte more inside":         {quote, func(raw []byte) []byte { raw[proof]++; return append(raw, 0) }, "something follows its certificates"},
		"a byte less inside":         {quote, func(raw []byte) []byte { raw[proof]--; return raw[:len(raw)-1] }, "a length in it is wrong"},
		"a byte more behind":         {quote, func(raw []byte) []byte { return append(raw, 0) }, "something follows its end"},
		"a zero more behind":         {td, func(raw []byte) []byte { return append(raw, 0) }, ""},
		"a byte behind a domain":     {td, func(raw []byte) []byte { return append(raw, 1) }, "something follows its end"},
		"a byte more in a domain":    {td, func(raw []byte) []byte { raw[tdProof]++; return append(raw, 0) }, "a length in it is wrong"},
		"a box of another kind":      {td, func(raw []byte) []byte { raw[tdProof+4+128] = 5; return raw }, "a length in it is wrong"},
		"a box that is longer":       {td, func(raw []byte) []byte { raw[tdProof+4+130]++; return raw }, "a length in it is wrong"},
		"certificates of other kind": {quote, func(raw []byte) []byte { raw[proof+4+128+384+64+2+32] = 3; return raw }, "it has no certificates of its platform"},
		"more data of the QE":        {quote, func(raw []byte) []byte { raw[proof+4+128+384+64]++; return raw }, "a length in it is wrong"},
		"four gigabytes":             {quote, func(raw []byte) []byte { raw[proof+3] = 0xff; return raw }, "it ends too early"},
		"a larger one":               {td, func(raw []byte) []byte { return append(raw, make([]byte, MaxQuote)...) }, "it has "},
		"half a header":              {quote, func(raw []byte) []byte { return raw[:20] }, "it ends too early"},
		"half a report":              {quote, func(raw []byte) []byte { return raw[:200] }, "it ends too early"},
		"a report alone":             {quote, func(raw []byte) []byte { return raw[:proof] }, "it ends too early"},
	} {
		q, err := Parse(tt.change(bytes.Clone(tt.raw)))
		if tt.says == "" && (err != nil || q == nil) || tt.says != "" && (!errors.Is(err, errMalformed) || !strings.Contains(err.Error(), tt.says) || q != nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The shipped root refuses what a test root signed, and is Intel's.
func TestAnchors(t *testing.T) {
	w := newWorld(t)
	raw, err := w.Quote(w.enclave)
	if err != nil {
		t.Fatal(err)
	}
	text, err := w.Collateral()
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseCollateral(text)
	if err != nil {
		t.Fatal(err)
	}
	q, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Verify(c, Anchor{}, day); !errors.Is(err, errChain) {
		t.Errorf("under Intel's root: %v", err)
	}
	root, err := Anchor{}.certificate()
	if err != nil || root.Subject.CommonName != sgxtest.Root || !(Anchor{}).IsIntel() || fingerprint(root.Raw) != intelFingerprint || root.SerialNumber.Cmp(new(big.Int)) == 0 {
		t.Errorf("%+v, %v", root, err)
	}
	anchor, err := ParseAnchor(intelRoot)
	if err != nil || !anchor.IsIntel() {
		t.Errorf("Intel's root as a file: %v", err)
	}
	for text, says := range map[string]string{
		certificateP384(t): "is not on P-256",
		"":                 "one certificate in PEM", string(intelRoot) + "x": "one certificate in PEM", string(w.RootPEM()) + string(w.RootPEM()): "one certificate in PEM",
		"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n": "malformed",
	} {
		if _, err := ParseAnchor([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}
