// Package sgxtest is an Intel for tests: it certifies a platform, signs quotes of any
// enclave or trust domain as that platform's quoting enclave does, and makes the collateral
// that it takes to verify them, all below a root of its own.
//
//	intel, err := sgxtest.New(time.Now())
//	quote, err := intel.Quote(sgxtest.Enclave{MRENCLAVE: m, ReportData: sha512.Sum512(data)})
//	bundle, err := intel.Collateral()
//	os.WriteFile("root.pem", intel.RootPEM(), 0o600)   // privyseal verify --test-root root.pem
//
// Fields of Intel say which platform it is and what is wrong with it; set them before the
// first call of a method. The methods may be called at the same time, as a device that many
// read does. It shares no code with what verifies quotes, and trusts nobody: no program of
// ours accepts its root unless it is named.
package sgxtest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"maps"
	"math/big"
	"sync"
	"time"
)

// The certificates, in the names that Intel's have.
const (
	Root       = "Intel SGX Root CA"
	Processor  = "Intel SGX PCK Processor CA"
	PlatformCA = "Intel SGX PCK Platform CA"
	PCK        = "Intel SGX PCK Certificate"
	TCBSigning = "Intel SGX TCB Signing"
)

// The texts that it signs.
const (
	TCBInfo    = "the TCB info"
	QEIdentity = "the QE identity"
)

// Intel makes quotes and collateral.
type Intel struct {
	Now time.Time // certificates are from a day before, lists and texts from an hour before

	// The platform, and who has certified it: Processor or PlatformCA.
	PPID   [16]byte
	FMSPC  [6]byte
	CPUSVN [16]byte
	PCESVN uint16
	CA     string

	Levels   []Level // of the TCB info
	QESVN    uint16  // of the quoting enclave
	QELevels []Level // of the QE identity, by SVN
	// Modules are the TDX modules by name, as TDX_03, each with levels by SVN.
	Modules map[string][]Level
	// Evaluation is the tcbEvaluationDataNumber.
	Evaluation int

	Revoked []string // certificates that the lists of their issuers name

	// Hooks for what is not as it should be, called with a name of the above before that is
	// signed.
	OnCertificate func(name string, c *x509.Certificate)      `json:"-"`
	OnList        func(issuer string, l *x509.RevocationList) `json:"-"`
	OnText        func(name string, members map[string]any)   `json:"-"`
	OnQE          func(report []byte)                         `json:"-"` // 384 bytes, of the quoting enclave
	OnQuote       func(signed []byte)                         `json:"-"` // header and report

	issued sync.Once
	err    error
	keys   map[string]*ecdsa.PrivateKey
	certs  map[string][]byte // DER
	// attestation is the quoting enclave's key.
	attestation *ecdsa.PrivateKey
}

// Level is a state of a platform, or of a part of it.
type Level struct {
	CPUSVN [16]byte
	PCESVN uint16
	TDX    [16]byte // SVNs of trust domains' reports
	SVN    uint16   // of a quoting enclave or TDX module, in place of the above

	Status     string // UpToDate, …
	Advisories []string
}

// New returns an Intel whose platform is up to date.
func New(now time.Time) (*Intel, error) {
	i := &Intel{
		Now: now.Truncate(time.Second).UTC(), FMSPC: [6]byte{0x00, 0x60, 0x6a}, PCESVN: 13, CA: PlatformCA, QESVN: 8, Evaluation: 17,
		QELevels: []Level{{SVN: 8, Status: "UpToDate"}, {SVN: 6, Status: "OutOfDate", Advisories: []string{"INTEL-SA-00615"}}},
		Modules:  map[string][]Level{"TDX_01": {{SVN: 4, Status: "UpToDate"}, {SVN: 2, Status: "OutOfDate"}}},
		keys:     map[string]*ecdsa.PrivateKey{}, certs: map[string][]byte{},
	}
	for n := range i.PPID {
		i.PPID[n], i.CPUSVN[n] = byte(0xa0+n), byte(5)
	}
	old := i.CPUSVN
	old[0]--
	i.Levels = []Level{
		{CPUSVN: i.CPUSVN, PCESVN: 13, TDX: [16]byte{5, 0, 2}, Status: "UpToDate"},
		{CPUSVN: old, PCESVN: 5, TDX: [16]byte{5, 0, 2}, Status: "OutOfDate", Advisories: []string{"INTEL-SA-00828"}},
	}
	for _, name := range []string{Root, Processor, PlatformCA, PCK, TCBSigning} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		i.keys[name] = key
	}
	var err error
	i.attestation, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return i, err
}

// Twin returns another Intel with the same certificates, whose collateral may differ.
func (i *Intel) Twin() (*Intel, error) {
	if err := i.issue(); err != nil {
		return nil, err
	}
	j, err := New(i.Now)
	if err != nil {
		return nil, err
	}
	j.keys, j.certs, j.attestation = i.keys, i.certs, i.attestation
	j.issued.Do(func() {})
	return j, nil
}

// Renewed returns a twin that has another key for one of the CAs, below the same root.
func (i *Intel) Renewed(ca string) (*Intel, error) {
	j, err := i.Twin()
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	j.keys, j.certs = maps.Clone(i.keys), maps.Clone(i.certs)
	j.keys[ca] = key
	j.certs[ca], err = j.certificate(ca, Root, 100)
	return j, err
}

// RootPEM returns the root's certificate.
func (i *Intel) RootPEM() []byte {
	if i.issue() != nil {
		return nil
	}
	return i.pem(Root)
}

// pem returns certificates in PEM.
func (i *Intel) pem(names ...string) (text []byte) {
	for _, name := range names {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.certs[name]})...)
	}
	return text
}

// issue makes the certificates, once.
func (i *Intel) issue() error {
	i.issued.Do(func() {
		for n, c := range []struct{ name, issuer string }{{Root, Root}, {Processor, Root}, {PlatformCA, Root}, {PCK, i.CA}, {TCBSigning, Root}} {
			if i.certs[c.name], i.err = i.certificate(c.name, c.issuer, int64(n+1)); i.err != nil {
				return
			}
		}
	})
	return i.err
}

func (i *Intel) certificate(name, issuer string, serial int64) ([]byte, error) {
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: subject(name), NotBefore: i.Now.Add(-24 * time.Hour), NotAfter: i.Now.AddDate(7, 0, 0),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment, SubjectKeyId: keyID(name),
	}
	switch name {
	case Root, Processor, PlatformCA:
		c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
		c.MaxPathLen, c.MaxPathLenZero = 0, true
		if name == Root {
			c.MaxPathLen, c.MaxPathLenZero = 1, false
		}
	case PCK:
		extension, err := i.extension()
		if err != nil {
			return nil, err
		}
		c.ExtraExtensions = []pkix.Extension{{Id: oidSGX, Value: extension}}
	}
	if i.OnCertificate != nil {
		i.OnCertificate(name, c)
	}
	parent := &x509.Certificate{Subject: subject(issuer), SubjectKeyId: keyID(issuer)}
	if name == issuer {
		parent = c
	}
	return x509.CreateCertificate(rand.Reader, c, parent, i.keys[name].Public(), i.keys[issuer])
}

func subject(name string) pkix.Name {
	return pkix.Name{CommonName: name, Organization: []string{"privyseal tests, not Intel"}}
}

func keyID(name string) []byte {
	sum := sha256.Sum256([]byte(name))
	return sum[:20]
}

// oidSGX is the extension of a platform's certificate.
var oidSGX = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}

type attribute struct {
	ID    asn1.ObjectIdentifier
	Value any
}

// extension returns what the platform's certificate says about it.
func (i *Intel) extension() ([]byte, error) {
	id := func(n ...int) asn1.ObjectIdentifier { return append(oidSGX[:len(oidSGX):len(oidSGX)], n...) }
	var tcb []attribute
	for n, svn := range i.CPUSVN {
		tcb = append(tcb, attribute{id(2, n+1), int(svn)})
	}
	tcb = append(tcb, attribute{id(2, 17), int(i.PCESVN)}, attribute{id(2, 18), i.CPUSVN[:]})
	all := []attribute{{id(1), i.PPID[:]}, {id(2), tcb}, {id(3), []byte{0, 0}}, {id(4), i.FMSPC[:]}, {id(5), asn1.Enumerated(0)}}
	if i.CA == PlatformCA {
		all = append(all, attribute{id(6), bytes.Repeat([]byte{0x1d}, 16)}, attribute{id(7), []attribute{{id(7, 1), true}, {id(7, 2), false}, {id(7, 3), true}}})
	}
	return asn1.Marshal(all)
}

// sign returns r and s, 32 bytes each.
func sign(key *ecdsa.PrivateKey, text []byte) ([]byte, error) {
	sum := sha256.Sum256(text)
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		return nil, err
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signature, nil
}
