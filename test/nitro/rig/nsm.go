package rig

import (
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// nsmDevice is the security module: virtio device 33, whose requests and answers
// are CBOR. Form and limits: docs of aws-nitro-enclaves-nsm-api, and
// hw/virtio/virtio-nsm.c of QEMU.
type nsmDevice struct {
	moduleID string
	signer   *signer
	now      func() time.Time

	mu     sync.Mutex
	pcrs   [32]pcr
	locked [32]bool
}

const (
	nsmRandomBytes = 256
	nsmMaxField    = 1024 // of public key, user data and nonce each
)

func newNSM(root *Root, moduleID string, pcrs map[int]pcr, now func() time.Time) (*nsmDevice, error) {
	s, err := root.signerFor(moduleID, now())
	if err != nil {
		return nil, err
	}
	d := &nsmDevice{moduleID: moduleID, signer: s, now: now}
	for i, p := range pcrs {
		d.pcrs[i] = p
	}
	for i := range 16 {
		d.locked[i] = true
	}
	return d, nil
}

func (d *nsmDevice) config() []byte { return nil }
func (d *nsmDevice) stop()          {}

// start answers requests. Linux puts each into a chain of its own, and the room
// for the answer into the next; at the interrupt it wants both back.
func (d *nsmDevice) start(_ int, q *queue) {
	for {
		request, err := q.wait()
		if err != nil {
			return
		}
		answer := d.handle(request.bytes())
		room, err := q.wait()
		if err != nil {
			return
		}
		if len(answer) > room.room() {
			answer = nsmError("BufferTooSmall")
		}
		q.put2(request, room, room.write(answer))
	}
}

func nsmError(code string) []byte { return encode(map[string]string{"Error": code}) }

func encode(v any) []byte {
	b, err := cbor.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("cannot encode %T: %v", v, err)) // our own types
	}
	return b
}

// encodeSorted puts the keys of maps in order; encode leaves the fields of structs
// as they stand, and maps in none.
func encodeSorted(v any) []byte {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err) // the library's own options
	}
	b, err := mode.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("cannot encode %T: %v", v, err)) // our own types
	}
	return b
}

// nsmRequest is a request with a body; those without are a plain string.
type nsmRequest struct {
	DescribePCR *struct {
		Index int `cbor:"index"`
	}
	ExtendPCR *struct {
		Index int    `cbor:"index"`
		Data  []byte `cbor:"data"`
	}
	LockPCR *struct {
		Index int `cbor:"index"`
	}
	LockPCRs *struct {
		Range int `cbor:"range"`
	}
	Attestation *nsmAttestation
}

type nsmAttestation struct {
	UserData  []byte `cbor:"user_data"`
	Nonce     []byte `cbor:"nonce"`
	PublicKey []byte `cbor:"public_key"`
}

func (d *nsmDevice) handle(request []byte) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	var name string
	if err := cbor.Unmarshal(request, &name); err == nil {
		return d.handlePlain(name)
	}
	var r nsmRequest
	if err := cbor.Unmarshal(request, &r); err != nil {
		return nsmError("InvalidOperation")
	}
	switch {
	case r.DescribePCR != nil:
		i := r.DescribePCR.Index
		if i < 0 || i >= len(d.pcrs) {
			return nsmError("InvalidIndex")
		}
		return encode(map[string]any{"DescribePCR": map[string]any{"lock": d.locked[i], "data": d.pcrs[i][:]}})
	case r.ExtendPCR != nil:
		i := r.ExtendPCR.Index
		if code := d.writable(i); code != "" {
			return nsmError(code)
		}
		d.pcrs[i] = extend(d.pcrs[i], r.ExtendPCR.Data)
		return encode(map[string]any{"ExtendPCR": map[string]any{"data": d.pcrs[i][:]}})
	case r.LockPCR != nil:
		if code := d.writable(r.LockPCR.Index); code != "" {
			return nsmError(code)
		}
		d.locked[r.LockPCR.Index] = true
		return encode("LockPCR")
	case r.LockPCRs != nil:
		if r.LockPCRs.Range < 0 || r.LockPCRs.Range > len(d.pcrs) {
			return nsmError("InvalidIndex")
		}
		for i := range r.LockPCRs.Range {
			d.locked[i] = true
		}
		return encode("LockPCRs")
	case r.Attestation != nil:
		signed, err := d.attest(r.Attestation)
		if err != nil {
			return nsmError(err.Error())
		}
		return encode(map[string]any{"Attestation": map[string]any{"document": signed}})
	}
	return nsmError("InvalidOperation")
}

func (d *nsmDevice) writable(i int) (code string) {
	switch {
	case i < 0 || i >= len(d.pcrs):
		return "InvalidIndex"
	case d.locked[i]:
		return "ReadOnlyIndex"
	}
	return ""
}

func (d *nsmDevice) handlePlain(name string) []byte {
	switch name {
	case "GetRandom":
		b := make([]byte, nsmRandomBytes)
		rand.Read(b)
		return encode(map[string]any{"GetRandom": map[string]any{"random": b}})
	case "DescribeNSM":
		locked := []int{}
		for i, l := range d.locked {
			if l {
				locked = append(locked, i)
			}
		}
		return encode(map[string]any{"DescribeNSM": map[string]any{
			"version_major": 1, "version_minor": 0, "version_patch": 0, "module_id": d.moduleID,
			"max_pcrs": len(d.pcrs), "locked_pcrs": locked, "digest": "SHA384",
		}})
	}
	return nsmError("InvalidOperation")
}

// document is an attestation document, in AWS's order. Fields that the enclave
// left out are there, as null.
type document struct {
	ModuleID    string          `cbor:"module_id"`
	Digest      string          `cbor:"digest"`
	Timestamp   uint64          `cbor:"timestamp"` // milliseconds
	PCRs        cbor.RawMessage `cbor:"pcrs"`      // index to value, in order
	Certificate []byte          `cbor:"certificate"`
	Bundle      [][]byte        `cbor:"cabundle"`
	PublicKey   []byte          `cbor:"public_key"`
	UserData    []byte          `cbor:"user_data"`
	Nonce       []byte          `cbor:"nonce"`
}

// attest returns a document. An error is a code of the NSM.
func (d *nsmDevice) attest(a *nsmAttestation) ([]byte, error) {
	for _, field := range [][]byte{a.PublicKey, a.UserData, a.Nonce} {
		if len(field) > nsmMaxField {
			return nil, errors.New("InputTooLarge")
		}
	}
	pcrs := map[int][]byte{}
	for i, l := range d.locked {
		if l {
			pcrs[i] = d.pcrs[i][:]
		}
	}
	doc := document{
		ModuleID: d.moduleID, Digest: "SHA384", Timestamp: uint64(d.now().UnixMilli()), PCRs: encodeSorted(pcrs),
		Certificate: d.signer.leaf, Bundle: d.signer.bundle,
		PublicKey: a.PublicKey, UserData: a.UserData, Nonce: a.Nonce,
	}
	signed, err := d.signer.cose(encode(doc))
	if err != nil {
		return nil, errors.New("InternalError")
	}
	return signed, nil
}

// cose wraps a payload in an untagged COSE_Sign1 (RFC 9052, 4.2 and 4.4).
func (s *signer) cose(payload []byte) ([]byte, error) {
	protected := encode(map[int]int{1: -35})
	signature, err := s.sign(encode([]any{"Signature1", protected, []byte{}, payload}))
	if err != nil {
		return nil, err
	}
	return encode([]any{protected, map[int]int{}, payload, signature}), nil
}

// Module is a security module without a machine around it, for an enclave that is
// goroutines of a test.
type Module struct{ device *nsmDevice }

// NewModule returns one that the root certifies. PCRs that are not given are zero.
func NewModule(root *Root, moduleID string, pcrs map[int][48]byte) (*Module, error) {
	d, err := newNSM(root, moduleID, pcrs, time.Now)
	return &Module{d}, err
}

// Attest returns a document with these fields; nil leaves a field out.
func (m *Module) Attest(userData, nonce, publicKey []byte) ([]byte, error) {
	m.device.mu.Lock()
	defer m.device.mu.Unlock()
	return m.device.attest(&nsmAttestation{UserData: userData, Nonce: nonce, PublicKey: publicKey})
}
