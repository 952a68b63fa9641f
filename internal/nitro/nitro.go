// Package nitro reads and checks attestation documents of AWS Nitro Enclaves:
// [Parse] takes one apart, [Document.Verify] proves that the hypervisor below a
// root signed it, and [Expect] compares what it says with what somebody wants.
//
// It is pure: no device, no network, no clock. It makes no documents, that is
// the enclave's side (nitro/nsm). It trusts the root certificate that is
// compiled in, or the one that the caller names, and nothing in a document
// before Verify returned nil. A document is not a proof of freshness unless it
// holds a nonce of the caller's: it stays verifiable for three hours, and forever
// at a time in the past. Revocation lists are not looked at; AWS's
// description of the process leaves them out.
//
// Format and rules: docs/attestation_process.md of aws-nitro-enclaves-nsm-api,
// RFC 9052 (COSE), RFC 5280 (certificates).
package nitro

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// Limits in bytes or items, of AWS's description unless noted.
const (
	maxDocument    = 16 << 10
	maxCertificate = 1024
	maxBundle      = 8    // AWS names none; real documents have 4
	maxFree        = 1024 // user data and nonce are given as 512, but documents with 1024 exist
	maxModuleID    = 256  // ours
	maxPCRs        = 32
	signatureSize  = 96
)

// protectedES384 is the encoded protected header {1: -35}: ECDSA with SHA-384.
const protectedES384 = "\xa1\x01\x38\x22"

// The reasons for which a document is refused.
var (
	errMalformed = errors.New("not an attestation document")
	errChain     = errors.New("its certificates do not lead to the root")
	ErrTime      = errors.New("it is not valid at this time")
	errSignature = errors.New("its signature is wrong")
	errDebug     = errors.New("it comes from an enclave in debug mode (PCR0, PCR1 or PCR2 is zero), whose memory and console the host can read; it proves nothing")
)

// Document is an attestation document. Until Verify has returned nil it is
// only what somebody claims.
type Document struct {
	ModuleID string
	Time     time.Time // when it was made, by the hypervisor's clock, in milliseconds
	// PCRs are the locked registers by index, 0 to 31; 0 to 2 are always there.
	PCRs map[int][]byte
	// Certificate is the leaf whose key signed, CABundle the path to it, root
	// first. Both are DER.
	Certificate []byte
	CABundle    [][]byte
	// What the enclave put in: nil if absent.
	PublicKey []byte
	UserData  []byte
	Nonce     []byte

	payload   []byte
	signature []byte
	verified  bool
}

// sign1 is COSE_Sign1 (RFC 9052, 4.2), untagged, as the NSM makes it.
type sign1 struct {
	_           struct{} `cbor:",toarray"`
	Protected   cbor.ByteString
	Unprotected cbor.RawMessage
	Payload     cbor.ByteString
	Signature   cbor.ByteString
}

type payload struct {
	ModuleID    string                     `cbor:"module_id"`
	Digest      string                     `cbor:"digest"`
	Timestamp   uint64                     `cbor:"timestamp"`
	PCRs        map[uint64]cbor.ByteString `cbor:"pcrs"`
	Certificate cbor.ByteString            `cbor:"certificate"`
	CABundle    []cbor.ByteString          `cbor:"cabundle"`
	PublicKey   *cbor.ByteString           `cbor:"public_key"`
	UserData    *cbor.ByteString           `cbor:"user_data"`
	Nonce       *cbor.ByteString           `cbor:"nonce"`
}

// Parse reads a document: an untagged COSE_Sign1 in its shortest encoding,
// around a map of which each field has the type and size that AWS gives it. The
// map may be of definite length (seen until 2024) or not (seen in 2026); an
// optional field may be null instead of absent. Unknown and repeated fields are
// refused. All errors are [errMalformed].
func Parse(raw []byte) (*Document, error) {
	if len(raw) == 0 || len(raw) > maxDocument {
		return nil, fmt.Errorf("%w: it has %d bytes, not 1 to %d", errMalformed, len(raw), maxDocument)
	}
	mode := decMode()
	var outer sign1
	if err := mode.Unmarshal(raw, &outer); err != nil {
		return nil, fmt.Errorf("%w: not a COSE_Sign1: %w", errMalformed, err)
	}
	if again, err := cbor.Marshal(outer); err != nil || !bytes.Equal(again, raw) {
		return nil, fmt.Errorf("%w: its COSE_Sign1 is not in the shortest encoding", errMalformed)
	}
	if string(outer.Protected) != protectedES384 || string(outer.Unprotected) != "\xa0" {
		return nil, fmt.Errorf("%w: the headers name something other than ES384", errMalformed)
	}
	if len(outer.Signature) != signatureSize {
		return nil, fmt.Errorf("%w: the signature has %d bytes, not %d", errMalformed, len(outer.Signature), signatureSize)
	}
	var p payload
	if err := mode.Unmarshal([]byte(outer.Payload), &p); err != nil {
		return nil, fmt.Errorf("%w: in its payload: %w", errMalformed, err)
	}
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	d := p.document()
	d.payload, d.signature = []byte(outer.Payload), []byte(outer.Signature)
	return d, nil
}

// decMode returns the decoder. Its options are constant, and so it cannot fail.
func decMode() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		TagsMd:            cbor.TagsForbidden,
		MaxNestedLevels:   4,
		MaxArrayElements:  16,
		MaxMapPairs:       maxPCRs,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return mode
}

// check applies AWS's list of restrictions (3.2.2.2).
func (p *payload) check() error {
	switch {
	case p.ModuleID == "" || len(p.ModuleID) > maxModuleID:
		return fmt.Errorf("module_id has %d bytes, not 1 to %d", len(p.ModuleID), maxModuleID)
	case strings.ContainsFunc(p.ModuleID, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fmt.Errorf("module_id is %q", p.ModuleID)
	case p.Digest != "SHA384":
		return fmt.Errorf("the digest is %.16q, not SHA384", p.Digest)
	case p.Timestamp == 0 || p.Timestamp > maxMillis:
		return fmt.Errorf("the timestamp is %d, not a number of milliseconds since 1970", p.Timestamp)
	case len(p.CABundle) == 0 || len(p.CABundle) > maxBundle:
		return fmt.Errorf("there are %d certificates in cabundle, not 1 to %d", len(p.CABundle), maxBundle)
	}
	for _, c := range append([]cbor.ByteString{p.Certificate}, p.CABundle...) {
		if len(c) == 0 || len(c) > maxCertificate {
			return fmt.Errorf("a certificate has %d bytes, not 1 to %d", len(c), maxCertificate)
		}
	}
	if p.PublicKey != nil && len(*p.PublicKey) == 0 {
		return errors.New("public_key is empty")
	}
	for _, f := range []*cbor.ByteString{p.PublicKey, p.UserData, p.Nonce} {
		if f != nil && len(*f) > maxFree {
			return fmt.Errorf("public_key, user_data or nonce has %d bytes, more than %d", len(*f), maxFree)
		}
	}
	return p.checkPCRs()
}

// maxMillis keeps times within the years that time.Time can print.
const maxMillis = 253402300799999 // 9999-12-31

func (p *payload) checkPCRs() error {
	for i, value := range p.PCRs {
		if i >= maxPCRs {
			return fmt.Errorf("there is a PCR%d", i)
		}
		if n := len(value); n != 32 && n != 48 && n != 64 {
			return fmt.Errorf("PCR%d has %d bytes, not 32, 48 or 64", i, n)
		}
	}
	for i := range uint64(3) {
		if _, ok := p.PCRs[i]; !ok {
			return fmt.Errorf("there is no PCR%d", i)
		}
	}
	return nil
}

func (p *payload) document() *Document {
	d := &Document{
		ModuleID:    p.ModuleID,
		Time:        time.UnixMilli(int64(p.Timestamp)).UTC(),
		PCRs:        make(map[int][]byte, len(p.PCRs)),
		Certificate: []byte(p.Certificate),
		PublicKey:   optional(p.PublicKey),
		UserData:    optional(p.UserData),
		Nonce:       optional(p.Nonce),
	}
	for i, value := range p.PCRs {
		d.PCRs[int(i)] = []byte(value)
	}
	for _, c := range p.CABundle {
		d.CABundle = append(d.CABundle, []byte(c))
	}
	return d
}

func optional(s *cbor.ByteString) []byte {
	if s == nil {
		return nil
	}
	return append([]byte{}, *s...)
}

// ParentPCR returns the register of something that the parent instance is or
// has: PCR3 of the ARN of its IAM role, PCR4 of its instance id (i-…).
func ParentPCR(text string) [48]byte {
	return sha512.Sum384(append(make([]byte, 48), text...))
}
