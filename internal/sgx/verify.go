package sgx

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Verified is a quote that a genuine platform signed, and in which state that is.
type Verified struct {
	*Quote
	Platform Platform
	Level           // of all parts together
	Parts    []Part // the platform, its quoting enclave, its TDX module
	Contents        // what the collateral is for, and until when
	Anchor   Anchor
	At       time.Time // of the check
}

// Part is a part of a platform with its own state.
type Part struct {
	Name string
	Level
}

// Verify checks that a platform below the anchor signed the quote: the platform's key the
// report of Intel's quoting enclave, and that one's key the quote. The collateral has to be
// for that platform, in order, and good at the time at, as all certificates; nothing may be
// revoked, neither a certificate nor the state of the platform; and the enclave may not be in
// debug mode. Which other states are good enough is for [Policy] to say.
func (q *Quote) Verify(c *Collateral, anchor Anchor, at time.Time) (*Verified, error) {
	o, err := c.open(anchor, at)
	if err != nil {
		return nil, fmt.Errorf("the collateral: %w", err)
	}
	v, err := q.verify(o)
	if err != nil {
		return nil, err
	}
	v.Anchor = anchor
	return v, nil
}

func (q *Quote) verify(o *opened) (*Verified, error) {
	p, chain, err := q.platform(o)
	if err != nil {
		return nil, err
	}
	v := &Verified{Quote: q, Platform: p, At: o.at}
	if v.Parts, err = q.parts(o, p); err != nil {
		return nil, err
	}
	v.Level = v.Parts[0].Level
	for _, part := range v.Parts[1:] {
		v.Level = v.Level.with(part.Level)
	}
	if v.Status == revoked {
		return nil, fmt.Errorf("%w: Intel has revoked the state of this platform", errLevel)
	}
	v.Contents = Contents{TEE: o.tcb.ID, FMSPC: p.FMSPC, CA: p.CA, Evaluation: min(o.tcb.Evaluation, o.qe.Evaluation), First: first(append(o.spans, chain...))}
	if err := q.checkAttributes(); err != nil {
		return nil, err
	}
	return v, nil
}

// Claims returns the platform that the quote says it is from, without a proof: to fetch
// collateral for it.
func (q *Quote) Claims() (Platform, error) {
	path, err := q.path()
	if err != nil {
		return Platform{}, err
	}
	return platformOf(path[0])
}

// path returns the certificates in the quote: the platform's, its issuer's, the root.
func (q *Quote) path() ([]*x509.Certificate, error) {
	// Some platforms end the text with a zero.
	path, err := parsePEM(bytes.TrimSuffix(q.chain, []byte{0}), 3)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return path, nil
}

// platform proves that the platform of the certificates in the quote signed it.
func (q *Quote) platform(o *opened) (p Platform, chain []Span, err error) {
	path, err := q.path()
	if err != nil {
		return p, nil, err
	}
	if err := checkPath(path, o.root, false, namesPCK, namesPCKCA); err != nil {
		return p, nil, err
	}
	// The same name is not enough: the list of revoked platforms has to be of the same key.
	if !bytes.Equal(path[1].RawSubject, o.pckCA.RawSubject) || !bytes.Equal(path[1].RawSubjectPublicKeyInfo, o.pckCA.RawSubjectPublicKeyInfo) {
		return p, nil, fmt.Errorf("%w: its list of revoked platforms is of %q, and the quote's platform was certified by %q", errForeign, o.pckCA.Subject.CommonName, path[1].Subject.CommonName)
	}
	if err := checkRevocation(path, o.crls); err != nil {
		return p, nil, err
	}
	chain = spans(path)
	for _, s := range chain {
		if err := s.check(o.at); err != nil {
			return p, nil, err
		}
	}
	if p, err = platformOf(path[0]); err != nil {
		return p, nil, err
	}
	return p, chain, q.checkSignatures(path[0].PublicKey.(*ecdsa.PublicKey))
}

// checkSignatures checks the platform's over the quoting enclave, what that binds, and its
// own over the quote.
func (q *Quote) checkSignatures(platform *ecdsa.PublicKey) error {
	if !checkSignature(platform, sha256.Sum256(q.qe), q.qeSignature) {
		return fmt.Errorf("%w: that of the platform on its quoting enclave", errSignature)
	}
	bound := sha256.Sum256(append(bytes.Clone(q.attestation), q.qeData...))
	if data := enclaveOf(&reader{rest: q.qe}).ReportData; !bytes.Equal(data[:], append(bound[:], make([]byte, 32)...)) {
		return fmt.Errorf("%w: the quoting enclave has another key than the one that signed", errSignature)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, q.attestation...))
	if err != nil {
		return fmt.Errorf("%w: the quoting enclave's key is not a point of P-256", errMalformed)
	}
	if !checkSignature(key, sha256.Sum256(q.signed), q.signature) {
		return fmt.Errorf("%w: that of the quoting enclave on the quote", errSignature)
	}
	return nil
}

// parts returns the states of all parts of a platform.
func (q *Quote) parts(o *opened, p Platform) ([]Part, error) {
	if want := map[bool]string{true: teeTDXName, false: "SGX"}[q.TD != nil]; o.tcb.ID != want {
		return nil, fmt.Errorf("%w: it is for %s, and the quote is of %s", errForeign, o.tcb.ID, want)
	}
	if !bytes.Equal(o.tcb.FMSPC, p.FMSPC[:]) || !bytes.Equal(o.tcb.PCEID, p.PCEID[:]) {
		return nil, fmt.Errorf("%w: it is for the FMSPC %x with the PCE %x, and the quote is of %x with %x", errForeign, o.tcb.FMSPC, o.tcb.PCEID, p.FMSPC, p.PCEID)
	}
	qe, err := o.qe.level(q.qe)
	if err != nil {
		return nil, err
	}
	platform, err := o.tcb.level(p, q.TD)
	if err != nil {
		return nil, err
	}
	parts := []Part{{"platform", platform}, {"quoting enclave", qe}}
	if q.TD != nil {
		module, err := o.tcb.moduleLevel(q.TD)
		if err != nil {
			return nil, err
		}
		parts = append(parts, Part{"TDX module", module})
	}
	return parts, nil
}

// checkAttributes refuses an enclave or trust domain that lets the host in, and a trust
// domain with attributes that are unknown.
func (q *Quote) checkAttributes() error {
	if q.TD == nil {
		if q.Enclave.Debug() {
			return errDebug
		}
		return nil
	}
	switch a := q.TD.Attributes; {
	case a[0] != 0: // the whole byte means that it is being debugged
		return errDebug
	case a[3]&0x10 == 0:
		return errors.New("its trust domain lets the host take pages away unnoticed (SEPT_VE_DISABLE is not set)")
	case a[1] != 0 || a[2] != 0 || a[3]&0x2f != 0 || a[4] != 0 || a[5] != 0 || a[6] != 0 || a[7]&0x7f != 0:
		return fmt.Errorf("its trust domain has the unknown attributes %x", a)
	}
	return nil
}
