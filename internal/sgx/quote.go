// Package sgx reads and checks what Intel's quoting enclaves sign: quotes of SGX enclaves
// (version 3) and of TDX trust domains (version 4), with ECDSA on P-256. [Parse] takes one
// apart, [Quote.Verify] proves with collateral that a genuine platform signed it and says in
// which state that is, and [Policy] compares the result with what somebody wants.
//
// It is pure: no device, no network, no clock. It makes no quotes, that is the enclave's
// side. It trusts Intel's root certificate, which is compiled in, or the one that the caller
// names, and nothing in a quote or in collateral before Verify returned nil. A quote says
// nothing about who has the machine: whoever can put a board between its processor and its
// memory has read quoting keys (WireTap, Battering RAM, TEE.fail). Nor is it fresh, unless
// its report data depend on a nonce of the caller's.
//
// Format and rules: "Intel SGX ECDSA QuoteLibReference DCAP API" (v3), "Intel TDX DCAP
// Quoting Library API" (v4), "Intel SGX PCK Certificate and CRL Profile", and the API of the
// Provisioning Certification Service v4.
package sgx

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxQuote bounds in bytes what is read as a quote. Real ones have 5 KiB.
const MaxQuote = 16 << 10

// The reasons for which a quote, or the collateral for it, is refused.
var (
	errMalformed = errors.New("not a quote of SGX or TDX")
	errChain     = errors.New("its certificates do not lead to the root")
	errSignature = errors.New("a signature is wrong")
	errRevoked   = errors.New("a certificate is revoked")
	errDebug     = errors.New("it comes from an enclave in debug mode, whose memory the host can read; it proves nothing")
	errForeign   = errors.New("the collateral is for another platform")
	errLevel     = errors.New("the platform is in no state that Intel's collateral knows")
	// ErrTime is collateral, or a certificate, of another time.
	ErrTime = errors.New("not valid at this time")
)

// Quote is a quote. Until Verify has returned nil it is only what somebody claims.
type Quote struct {
	Enclave *Enclave // of version 3
	TD      *TD      // of version 4

	signed      []byte // header and report
	signature   []byte // r and s of the attestation key
	attestation []byte // x and y of the attestation key
	qe          []byte // the report of the quoting enclave
	qeSignature []byte // r and s of the platform's key, over qe
	qeData      []byte // what qe binds, beside the attestation key
	chain       []byte // PEM: the platform's certificate, its issuer, the root
}

// Enclave is the report of an SGX enclave.
type Enclave struct {
	CPUSVN       [16]byte
	MiscSelect   uint32
	ExtProductID [16]byte
	Attributes   [16]byte // flags and XFRM, 8 bytes each, little endian
	MRENCLAVE    [32]byte // what was loaded
	MRSIGNER     [32]byte // SHA-256 of the modulus of who signed it
	ConfigID     [64]byte
	ProductID    uint16 // of the signer's products
	SVN          uint16 // of that product
	ConfigSVN    uint16
	FamilyID     [16]byte
	ReportData   [64]byte // the enclave's choice
}

// Debug reports whether the host can read the enclave's memory.
func (e *Enclave) Debug() bool { return e.Attributes[0]&2 != 0 }

// TD is the report of a TDX trust domain (TDREPORT 1.0).
type TD struct {
	TEETCBSVN      [16]byte
	MRSEAM         [48]byte // the TDX module
	MRSIGNERSEAM   [48]byte
	SEAMAttributes [8]byte
	Attributes     [8]byte
	XFAM           [8]byte
	MRTD           [48]byte // what was loaded at first
	MRConfigID     [48]byte
	MROwner        [48]byte
	MROwnerConfig  [48]byte
	RTMR           [4][48]byte // what came later
	ReportData     [64]byte    // the domain's choice
}

// ReportData returns what the enclave or trust domain put in.
func (q *Quote) ReportData() [64]byte {
	if q.TD != nil {
		return q.TD.ReportData
	}
	return q.Enclave.ReportData
}

// Sizes in bytes.
const (
	headerSize  = 48
	enclaveSize = 384
	tdSize      = 584
	qeDataSize  = 32       // what Intel's quoting enclaves have there
	maxChain    = 12 << 10 // real ones have 3.7 KiB
)

// Numbers of Intel's structures.
const (
	keyP256      = 2 // ECDSA on P-256 as attestation key
	teeSGX       = 0
	teeTDX       = 0x81
	pemChain     = 5 // certification data: certificates in PEM
	qeReportData = 6 // certification data: the quoting enclave's report around the above
)

// intelQE is the vendor of Intel's quoting enclaves.
var intelQE = []byte{0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07}

// Parse reads a quote with the platform's certificates in it. Each length has to be that of
// what it counts; zeros may follow the quote of a trust domain, which some platforms put
// there, and nothing else. All errors are [errMalformed].
func Parse(raw []byte) (*Quote, error) {
	if len(raw) == 0 || len(raw) > MaxQuote {
		return nil, fmt.Errorf("%w: it has %d bytes, not 1 to %d", errMalformed, len(raw), MaxQuote)
	}
	r := &reader{rest: bytes.Clone(raw)}
	q, err := parse(r)
	if err == nil && r.short {
		err = errors.New("it ends too early")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return q, nil
}

func parse(r *reader) (*Quote, error) {
	whole := r.rest
	version, key, tee := r.uint16(), r.uint16(), r.uint32()
	r.next(4) // the SVNs of QE and PCE in version 3, which their reports say again
	vendor := r.next(16)
	r.next(20) // the platform's name for itself
	switch {
	case r.short:
		return nil, nil
	case version == 3 && tee == teeSGX || version == 4 && tee == teeTDX:
	case version == 3 || version == 4 || version == 5:
		return nil, fmt.Errorf("quotes of version %d for the TEE %#x are not supported; those of SGX in version 3 and of TDX in version 4 are", version, tee)
	default:
		return nil, fmt.Errorf("it begins with version %d", version)
	}
	if key != keyP256 {
		return nil, fmt.Errorf("its attestation key is of the type %d, not ECDSA on P-256", key)
	}
	if !bytes.Equal(vendor, intelQE) {
		return nil, fmt.Errorf("its quoting enclave is of the vendor %x, not of Intel", vendor)
	}
	q := &Quote{}
	size := enclaveSize
	if version == 3 {
		q.Enclave = enclaveOf(r)
	} else {
		q.TD, size = tdOf(r), tdSize
	}
	if r.short {
		return nil, nil
	}
	q.signed = whole[:headerSize+size]
	body := &reader{rest: r.next(r.uint32())}
	if r.short {
		return nil, nil
	}
	padding := r.rest
	if version == 3 && len(padding) > 0 || len(bytes.Trim(padding, "\x00")) > 0 {
		return nil, errors.New("something follows its end")
	}
	wrong := q.authentication(body, version) || body.short
	if !wrong && len(body.rest) > 0 {
		return nil, errors.New("something follows its certificates")
	}
	return q, q.checkSizes(wrong)
}

// authentication reads what proves the report. It reports whether a length is not that of what
// it counts.
func (q *Quote) authentication(r *reader, version uint16) (wrong bool) {
	q.signature, q.attestation = r.next(64), r.next(64)
	if version == 4 { // one box more
		kind, inner := r.uint16(), r.uint32()
		if wrong = kind != qeReportData || uint64(inner) != uint64(len(r.rest)); wrong {
			return wrong
		}
	}
	q.qe, q.qeSignature = r.next(enclaveSize), r.next(64)
	q.qeData = r.next(uint32(r.uint16()))
	kind := r.uint16()
	q.chain = r.next(r.uint32())
	if kind != pemChain {
		q.chain = nil
	}
	return false
}

// checkSizes refuses what only other quotes have.
func (q *Quote) checkSizes(wrong bool) error {
	switch {
	case wrong:
		return errors.New("a length in it is wrong")
	case q.chain == nil:
		return errors.New("it has no certificates of its platform: it was made on a host that has none (its QE asks no provisioning service)")
	case len(q.qeData) != qeDataSize:
		return fmt.Errorf("its quoting enclave binds %d bytes, not %d", len(q.qeData), qeDataSize)
	case len(q.chain) > maxChain:
		return fmt.Errorf("its certificates have %d bytes, more than %d", len(q.chain), maxChain)
	}
	return nil
}

// enclaveOf reads a report of 384 bytes.
func enclaveOf(r *reader) *Enclave {
	e := &Enclave{}
	r.into(e.CPUSVN[:])
	e.MiscSelect = r.uint32()
	r.next(12)
	r.into(e.ExtProductID[:])
	r.into(e.Attributes[:])
	r.into(e.MRENCLAVE[:])
	r.next(32)
	r.into(e.MRSIGNER[:])
	r.next(32)
	r.into(e.ConfigID[:])
	e.ProductID, e.SVN, e.ConfigSVN = r.uint16(), r.uint16(), r.uint16()
	r.next(42)
	r.into(e.FamilyID[:])
	r.into(e.ReportData[:])
	return e
}

// tdOf reads a report of 584 bytes.
func tdOf(r *reader) *TD {
	d := &TD{}
	for _, field := range [][]byte{
		d.TEETCBSVN[:], d.MRSEAM[:], d.MRSIGNERSEAM[:], d.SEAMAttributes[:], d.Attributes[:], d.XFAM[:],
		d.MRTD[:], d.MRConfigID[:], d.MROwner[:], d.MROwnerConfig[:],
		d.RTMR[0][:], d.RTMR[1][:], d.RTMR[2][:], d.RTMR[3][:], d.ReportData[:],
	} {
		r.into(field)
	}
	return d
}

// reader takes bytes from the front. When there are too few it is short from then on, and
// returns zeros.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) next(n uint32) []byte {
	if r.short || uint64(n) > uint64(len(r.rest)) {
		r.short = true
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) into(b []byte) { copy(b, r.next(uint32(len(b)))) }

func (r *reader) uint16() uint16 {
	b := [2]byte{}
	r.into(b[:])
	return binary.LittleEndian.Uint16(b[:])
}

func (r *reader) uint32() uint32 {
	b := [4]byte{}
	r.into(b[:])
	return binary.LittleEndian.Uint32(b[:])
}
