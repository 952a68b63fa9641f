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

// Attest returns a signed attestation document over the present registers. Each
// field has at most MaxField bytes; nil leaves it out. KMS takes publicKey for
// the key to encrypt its answer to, so nobody else may choose it.
func (d *Device) Attest(userData, nonce, publicKey []byte) ([]byte, error) {
	for _, f := range [][]byte{userData, nonce, publicKey} {
		if len(f) > MaxField {
			return nil, fmt.Errorf("cannot ask for a document: a field has %d bytes, more than %d", len(f), MaxField)
		}
	}
	request := appendHead(appendText(appendHead(nil, mapping, 1), "Attestation"), mapping, 3)
	request = appendOctets(appendText(request, "user_data"), userData)
	request = appendOctets(appendText(request, "nonce"), nonce)
	request = appendOctets(appendText(request, "public_key"), publicKey)
	var document []byte
	err := d.ask(request, "Attestation", fields{"document": func(r *reader) { document = r.octets() }})
	if err != nil {
		return nil, fmt.Errorf("cannot get an attestation document: %w", err)
	}
	if len(document) == 0 {
		return nil, fmt.Errorf("cannot get an attestation document: %w: it is empty", errMalformed)
	}
	return document, nil
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
	request := appendHead(appendText(appendHead(nil, mapping, 1), "DescribePCR"), mapping, 1)
	request = appendHead(appendText(request, "index"), number, uint16(index))
	var pcr PCR
	said := false
	err := d.ask(request, "DescribePCR", fields{
		"lock": func(r *reader) { pcr.Locked, said = r.bool(), true },
		"data": func(r *reader) { pcr.Value = r.octets() },
	})
	if err != nil {
		return PCR{}, fmt.Errorf("cannot read PCR%d: %w", index, err)
	}
	if n := len(pcr.Value); !said || n != 32 && n != 48 && n != 64 {
		return PCR{}, fmt.Errorf("cannot read PCR%d: %w: %d bytes", index, errMalformed, n)
	}
	return pcr, nil
}

// Random returns n bytes of the module's entropy, at most MaxRandom.
func (d *Device) Random(n int) ([]byte, error) {
	if n < 0 || n > MaxRandom {
		return nil, fmt.Errorf("cannot get %d random bytes at once, only %d", n, MaxRandom)
	}
	out := make([]byte, 0, n)
	for len(out) < n {
		var random []byte
		err := d.ask(appendText(nil, "GetRandom"), "GetRandom", fields{"random": func(r *reader) { random = r.octets() }})
		if err != nil {
			return nil, fmt.Errorf("cannot get random bytes: %w", err)
		}
		if len(random) == 0 {
			return nil, fmt.Errorf("cannot get random bytes: %w: there are none", errMalformed)
		}
		out = append(out, random[:min(n-len(out), len(random))]...)
	}
	return out, nil
}

// Description is what the module says about itself.
type Description struct {
	Major      uint16
	Minor      uint16
	Patch      uint16
	ModuleID   string // i-…-enc…: instance and enclave
	MaxPCRs    uint16
	LockedPCRs []uint16
	Digest     string // "SHA384"
}

// Describe returns what the module says about itself. Fields that this version of
// the API does not have are ignored here, since minor versions may add some.
func (d *Device) Describe() (Description, error) {
	var answer Description
	if err := d.ask(appendText(nil, "DescribeNSM"), "DescribeNSM", answer.fields()); err != nil {
		return Description{}, fmt.Errorf("cannot ask the NSM what it is: %w", err)
	}
	if answer.ModuleID == "" || answer.Digest != "SHA384" || answer.MaxPCRs == 0 {
		return Description{}, fmt.Errorf("cannot ask the NSM what it is: %w: %+v", errMalformed, answer)
	}
	return answer, nil
}

func (d *Description) fields() fields {
	number := func(to *uint16) func(*reader) { return func(r *reader) { *to = r.uint16() } }
	text := func(to *string) func(*reader) { return func(r *reader) { *to = r.text() } }
	return fields{
		"version_major": number(&d.Major), "version_minor": number(&d.Minor), "version_patch": number(&d.Patch),
		"module_id": text(&d.ModuleID), "max_pcrs": number(&d.MaxPCRs), "digest": text(&d.Digest),
		"locked_pcrs": func(r *reader) {
			r.each(array, maxElements, func() { d.LockedPCRs = append(d.LockedPCRs, r.uint16()) })
		},
		newer: func(r *reader) { r.skip(0) },
	}
}

// fields are those of an answer: how each is read.
type fields map[string]func(*reader)

// newer stands for every field without a name here. Without it such a field is an error.
const newer = ""

// ask sends a request and reads the answer, which has to be of the variant.
func (d *Device) ask(request []byte, variant string, answer fields) error {
	if len(request) > maxRequest {
		return fmt.Errorf("the request has %d bytes, more than %d", len(request), maxRequest)
	}
	response, err := d.call(request)
	if err != nil {
		return err
	}
	return decode(response, variant, answer)
}

// decode reads a response: {variant: answer}, or {"Error": code}.
func decode(response []byte, variant string, answer fields) error {
	if len(response) > maxResponse {
		return fmt.Errorf("%w: %d bytes", errMalformed, len(response))
	}
	r := &reader{rest: response}
	var got []string
	var code string
	r.entries(func(name string) bool {
		got = append(got, name)
		switch name {
		case "Error":
			code = r.text()
		case variant:
			r.entries(func(name string) bool { return answer.read(r, name) })
		default:
			r.skip(0)
		}
		return true
	})
	switch {
	case slices.Equal(got, []string{"Error"}) && (r.bad || !slices.Contains(errorCodes, code)):
		return fmt.Errorf("%w: an error of no known kind", errMalformed)
	case r.bad || len(r.rest) != 0:
		return errMalformed
	case len(got) != 1:
		return fmt.Errorf("%w: %d variants", errMalformed, len(got))
	case code != "":
		return &Error{Code: code}
	case got[0] != variant:
		return fmt.Errorf("%w: it is not an answer to %s", errMalformed, variant)
	}
	return nil
}

func (f fields) read(r *reader, name string) (known bool) {
	field, known := f[name]
	if !known {
		field, known = f[newer]
	}
	if known {
		field(r)
	}
	return known
}
