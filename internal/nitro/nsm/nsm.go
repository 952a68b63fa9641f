// Package nsm talks to the Nitro Security Module of the enclave that it runs
// in, through the Linux driver's /dev/nsm: attestation documents, measurement
// registers, entropy.
//
// It does not read the documents, that is package nitro's work, which runs
// elsewhere. It trusts the device, which is the hypervisor, but not that it
// speaks the language known here: an answer has exactly the expected form, or
// it is an error.
//
// Requests and answers are those of aws-nitro-enclaves-nsm-api, src/api/mod.rs:
// CBOR, an enum's variant is a text or a map of one entry.
package nsm

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/fxamacker/cbor/v2"
)

// Limits in bytes. The first two are the driver's.
const (
	maxRequest  = 0x1000
	maxResponse = 0x3000
	// MaxField bounds each of the three fields that a document takes. AWS gives
	// 512 for two of them, and its modules take 1024.
	MaxField = 1024
	// MaxRandom bounds one call of Random.
	MaxRandom = 64 << 10
)

// errMalformed says that the module gave an invalid answer.
var errMalformed = errors.New("the NSM's answer is malformed")

// Error is a refusal by the module, with AWS's name for the reason:
// "InvalidArgument", "InvalidIndex", "InputTooLarge", …
type Error struct{ Code string }

func (e *Error) Error() string { return "the NSM refused: " + e.Code }

// errorCodes are the names of ErrorCode.
var errorCodes = []string{"Success", "InvalidArgument", "InvalidIndex", "InvalidResponse", "ReadOnlyIndex",
	"InvalidOperation", "BufferTooSmall", "InputTooLarge", "InternalError"}

// Device is an open module. It is safe for concurrent use; the driver serves
// one request at a time, and waits two minutes for an answer.
type Device struct {
	// call sends one request and returns the answer.
	call   func(request []byte) (response []byte, err error)
	closer io.Closer
}

// Close releases the device.
func (d *Device) Close() error { return d.closer.Close() }

type attestation struct {
	UserData  []byte `cbor:"user_data"`
	Nonce     []byte `cbor:"nonce"`
	PublicKey []byte `cbor:"public_key"`
}

// Attest returns a signed attestation document over the present registers. Each
// field has at most MaxField bytes; nil leaves it out. KMS takes publicKey for
// the key to encrypt its answer to, so nobody else may choose it.
func (d *Device) Attest(userData, nonce, publicKey []byte) ([]byte, error) {
	for _, f := range [][]byte{userData, nonce, publicKey} {
		if len(f) > MaxField {
			return nil, fmt.Errorf("cannot ask for a document: a field has %d bytes, more than %d", len(f), MaxField)
		}
	}
	var answer struct {
		Document cbor.ByteString `cbor:"document"`
	}
	request := map[string]attestation{"Attestation": {userData, nonce, publicKey}}
	if err := d.ask(request, "Attestation", &answer); err != nil {
		return nil, fmt.Errorf("cannot get an attestation document: %w", err)
	}
	if answer.Document == "" {
		return nil, fmt.Errorf("cannot get an attestation document: %w: it is empty", errMalformed)
	}
	return []byte(answer.Document), nil
}

// PCR is a measurement register.
type PCR struct {
	Value  []byte // 32, 48 (SHA-384, what there is today) or 64 bytes
	Locked bool   // it cannot change any more, and is in documents
}

// DescribePCR returns the register with an index from 0. The signer needs none, it
// attests; test/nitro/probe compares the kernel's answers with what QEMU measured.
func (d *Device) DescribePCR(index int) (PCR, error) {
	if index < 0 || index > 0xffff {
		return PCR{}, fmt.Errorf("cannot read PCR%d: it does not exist", index)
	}
	var answer struct {
		Lock *bool           `cbor:"lock"`
		Data cbor.ByteString `cbor:"data"`
	}
	request := map[string]map[string]uint16{"DescribePCR": {"index": uint16(index)}}
	if err := d.ask(request, "DescribePCR", &answer); err != nil {
		return PCR{}, fmt.Errorf("cannot read PCR%d: %w", index, err)
	}
	if n := len(answer.Data); answer.Lock == nil || n != 32 && n != 48 && n != 64 {
		return PCR{}, fmt.Errorf("cannot read PCR%d: %w: %d bytes", index, errMalformed, n)
	}
	return PCR{Value: []byte(answer.Data), Locked: *answer.Lock}, nil
}

// Random returns n bytes of the module's entropy, at most MaxRandom.
func (d *Device) Random(n int) ([]byte, error) {
	if n < 0 || n > MaxRandom {
		return nil, fmt.Errorf("cannot get %d random bytes at once, only %d", n, MaxRandom)
	}
	out := make([]byte, 0, n)
	for len(out) < n {
		var answer struct {
			Random cbor.ByteString `cbor:"random"`
		}
		if err := d.ask("GetRandom", "GetRandom", &answer); err != nil {
			return nil, fmt.Errorf("cannot get random bytes: %w", err)
		}
		if answer.Random == "" {
			return nil, fmt.Errorf("cannot get random bytes: %w: there are none", errMalformed)
		}
		out = append(out, answer.Random[:min(n-len(out), len(answer.Random))]...)
	}
	return out, nil
}

// Description is what the module says of itself.
type Description struct {
	Major      uint16   `cbor:"version_major"`
	Minor      uint16   `cbor:"version_minor"`
	Patch      uint16   `cbor:"version_patch"`
	ModuleID   string   `cbor:"module_id"` // i-…-enc…: instance and enclave
	MaxPCRs    uint16   `cbor:"max_pcrs"`
	LockedPCRs []uint16 `cbor:"locked_pcrs"`
	Digest     string   `cbor:"digest"` // "SHA384"
}

// Describe returns what the module says of itself. Fields that this version of
// the API does not have are ignored here, since minor versions may add some.
func (d *Device) Describe() (Description, error) {
	var answer Description
	if err := d.ask("DescribeNSM", "DescribeNSM", &answer); err != nil {
		return Description{}, fmt.Errorf("cannot ask the NSM what it is: %w", err)
	}
	if answer.ModuleID == "" || answer.Digest != "SHA384" || answer.MaxPCRs == 0 {
		return Description{}, fmt.Errorf("cannot ask the NSM what it is: %w: %+v", errMalformed, answer)
	}
	return answer, nil
}

// ask sends a request and reads the answer, which has to be of the variant.
func (d *Device) ask(request any, variant string, answer any) error {
	encoded, err := cbor.Marshal(request)
	if err != nil {
		return fmt.Errorf("cannot encode the request: %w", err)
	}
	if len(encoded) > maxRequest {
		return fmt.Errorf("the request has %d bytes, more than %d", len(encoded), maxRequest)
	}
	response, err := d.call(encoded)
	if err != nil {
		return err
	}
	return decode(response, variant, answer)
}

// decode reads a response: {variant: answer}, or {"Error": code}.
func decode(response []byte, variant string, answer any) error {
	if len(response) > maxResponse {
		return fmt.Errorf("%w: %d bytes", errMalformed, len(response))
	}
	extra := cbor.ExtraDecErrorUnknownField
	if variant == "DescribeNSM" {
		extra = cbor.ExtraDecErrorNone
	}
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		ExtraReturnErrors: extra,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		TagsMd:            cbor.TagsForbidden,
		MaxNestedLevels:   4,
		MaxArrayElements:  64,
		MaxMapPairs:       16,
	}.DecMode()
	if err != nil {
		return err
	}
	var outer map[string]cbor.RawMessage
	if err := mode.Unmarshal(response, &outer); err != nil {
		return fmt.Errorf("%w: %w", errMalformed, err)
	}
	if len(outer) != 1 {
		return fmt.Errorf("%w: %d variants", errMalformed, len(outer))
	}
	if raw, ok := outer["Error"]; ok {
		var code string
		if err := mode.Unmarshal(raw, &code); err != nil || !slices.Contains(errorCodes, code) {
			return fmt.Errorf("%w: an error of no known kind", errMalformed)
		}
		return &Error{Code: code}
	}
	raw, ok := outer[variant]
	if !ok {
		return fmt.Errorf("%w: it is not an answer to %s", errMalformed, variant)
	}
	if err := mode.Unmarshal(raw, answer); err != nil {
		return fmt.Errorf("%w: %w", errMalformed, err)
	}
	return nil
}
