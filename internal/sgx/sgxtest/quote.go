package sgxtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
)

// Enclave is what a quote is to say of an enclave.
type Enclave struct {
	MRENCLAVE  [32]byte
	MRSIGNER   [32]byte
	ProductID  uint16
	SVN        uint16
	ReportData [64]byte
	Debug      bool
	// Attributes are flags and XFRM; of all zeros become those of an ordinary enclave.
	Attributes [16]byte
}

// TD is what a quote is to say of a trust domain.
type TD struct {
	MRTD       [48]byte
	RTMR       [4][48]byte
	ReportData [64]byte
	TEETCBSVN  [16]byte // all zeros become those of the module TDX_01
	Attributes [8]byte  // all zeros become those of an ordinary domain
	MRSIGNER   [48]byte // of the TDX module
}

// Products of Intel's quoting enclaves.
const (
	qeProduct   = 1
	tdQEProduct = 2
)

// Numbers of the structures.
const (
	versionSGX   = 3
	versionTDX   = 4
	keyP256      = 2
	teeTDX       = 0x81
	pemChain     = 5
	qeReportData = 6
)

var (
	le       = binary.LittleEndian
	vendorQE = []byte{0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07}
)

// Quote returns a quote of an enclave, version 3.
func (i *Intel) Quote(e Enclave) ([]byte, error) {
	if e.Attributes == [16]byte{} {
		e.Attributes = [16]byte{5, 8: 3} // INIT, MODE64BIT; x87, SSE
	}
	if e.Debug {
		e.Attributes[0] |= 2
	}
	report := enclaveReport(i.CPUSVN, e.Attributes, e.MRENCLAVE, e.MRSIGNER, e.ProductID, e.SVN, e.ReportData[:])
	return i.quote(header(versionSGX, 0), report, qeProduct)
}

// TDQuote returns a quote of a trust domain, version 4.
func (i *Intel) TDQuote(d TD) ([]byte, error) {
	if d.TEETCBSVN == [16]byte{} {
		d.TEETCBSVN = [16]byte{5, 1, 2}
	}
	if d.Attributes == [8]byte{} {
		d.Attributes = [8]byte{3: 0x10} // SEPT_VE_DISABLE
	}
	report := append(d.TEETCBSVN[:], make([]byte, 48)...) // MRSEAM
	report = append(append(report, d.MRSIGNER[:]...), make([]byte, 8)...)
	report = append(append(append(report, d.Attributes[:]...), 7, 0, 0, 0, 0, 0, 0, 0), d.MRTD[:]...)
	report = append(report, make([]byte, 3*48)...)
	for _, r := range d.RTMR {
		report = append(report, r[:]...)
	}
	return i.quote(header(versionTDX, teeTDX), append(report, d.ReportData[:]...), tdQEProduct)
}

func header(version uint16, tee uint32) []byte {
	h := le.AppendUint32(le.AppendUint16(le.AppendUint16(nil, version), keyP256), tee)
	return append(append(append(h, 0, 0, 0, 0), vendorQE...), make([]byte, 20)...)
}

func enclaveReport(cpusvn, attributes [16]byte, mrenclave, mrsigner [32]byte, product, svn uint16, data []byte) []byte {
	r := make([]byte, 384)
	copy(r, cpusvn[:])
	copy(r[48:], attributes[:])
	copy(r[64:], mrenclave[:])
	copy(r[128:], mrsigner[:])
	le.PutUint16(r[256:], product)
	le.PutUint16(r[258:], svn)
	copy(r[320:], data)
	return r
}

// quote signs a report: the attestation key it, and the platform's key the quoting enclave
// that has this key.
func (i *Intel) quote(header, report []byte, product uint16) ([]byte, error) {
	if err := i.issue(); err != nil {
		return nil, err
	}
	signed := append(header, report...)
	if i.OnQuote != nil {
		i.OnQuote(signed)
	}
	signature, err := sign(i.attestation, signed)
	if err != nil {
		return nil, err
	}
	public, err := i.attestation.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	public = public[1:] // without the byte that says that both coordinates follow
	data := bytes.Repeat([]byte{0x51}, 32)
	bound := sha256.Sum256(append(bytes.Clone(public), data...))
	qe := enclaveReport(i.CPUSVN, [16]byte{0x11, 8: 0xe7}, [32]byte{1}, sha256.Sum256([]byte(Root)), product, i.QESVN, bound[:])
	if i.OnQE != nil {
		i.OnQE(qe)
	}
	qeSignature, err := sign(i.keys[PCK], qe)
	if err != nil {
		return nil, err
	}
	box := append(append(qe, qeSignature...), 32, 0)
	box = counted(append(box, data...), pemChain, append(i.pem(PCK, i.CA, Root), 0))
	proof := append(signature, public...)
	if header[0] == versionTDX {
		proof = counted(proof, qeReportData, box)
	} else {
		proof = append(proof, box...)
	}
	return append(le.AppendUint32(signed, uint32(len(proof))), proof...), nil
}

// counted appends a kind, a length, and as many bytes.
func counted(to []byte, kind uint16, b []byte) []byte {
	return append(le.AppendUint32(le.AppendUint16(to, kind), uint32(len(b))), b...)
}
