package nitro

import (
	"bytes"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// full returns a maker of documents that hold every field, at the limits of its size.
func full(t testing.TB) *pki {
	p := newPKI(t)
	p.payload["public_key"] = bytes.Repeat([]byte{1}, maxFree)
	p.payload["user_data"] = bytes.Repeat([]byte{2}, maxFree)
	p.payload["nonce"] = bytes.Repeat([]byte{3}, maxFree)
	p.payload["module_id"] = strings.Repeat("i", maxModuleID)
	pcrs := p.payload["pcrs"].(map[int][]byte)
	pcrs[30], pcrs[31] = make([]byte, 32), make([]byte, 64)
	p.document() // adds the certificates
	return p
}

// raw returns the document with what the payload holds now.
func (p *pki) raw() []byte { return p.sign(p.keys[len(p.keys)-1]) }

func TestParse(t *testing.T) {
	p := full(t)
	raw, anchor := p.document()
	d := mustParse(t, raw)
	if err := d.Verify(anchor, day); err != nil {
		t.Fatal(err)
	}
	if d.ModuleID != p.payload["module_id"] || !d.Time.Equal(day) || d.Time.Location() != time.UTC {
		t.Errorf("%q at %v", d.ModuleID, d.Time)
	}
	for name, got := range map[string][]byte{"public_key": d.PublicKey, "user_data": d.UserData, "nonce": d.Nonce, "certificate": d.Certificate} {
		if !bytes.Equal(got, p.payload[name].([]byte)) {
			t.Errorf("%s is %x", name, got)
		}
	}
	if !maps.EqualFunc(d.PCRs, p.payload["pcrs"].(map[int][]byte), bytes.Equal) || len(d.PCRs) != 6 {
		t.Errorf("the PCRs are %x", d.PCRs)
	}
	if len(d.CABundle) != len(p.keys)-1 {
		t.Errorf("%d certificates", len(d.CABundle))
	}
}

// What the decoder refuses: a document with its payload changed, which no signature
// protects yet.
func TestRefusedPayloads(t *testing.T) {
	type m = map[string]any
	with := func(field string, value any) func(m) { return func(p m) { p[field] = value } }
	without := func(field string) func(m) { return func(p m) { delete(p, field) } }
	pcr := func(key, value any) func(m) {
		return func(p m) {
			all := map[any]any{key: value}
			for i, v := range p["pcrs"].(map[int][]byte) {
				if i != key {
					all[i] = v
				}
			}
			p["pcrs"] = all
		}
	}
	noPCR := func(i int) func(m) { return func(p m) { delete(p["pcrs"].(map[int][]byte), i) } }
	long := bytes.Repeat([]byte{1}, 1025)
	const inPayload, tooLong = "in its payload: ", "has 1025 bytes, more than 1024"
	for _, c := range []struct {
		name   string
		change func(m)
		says   string
	}{
		{"unknown field", with("extra", 1), inPayload},
		{"field in capitals", func(p m) { p["NONCE"] = p["nonce"]; delete(p, "nonce") }, inPayload},
		{"no module id", without("module_id"), "module_id has 0 bytes"},
		{"empty module id", with("module_id", ""), "module_id has 0 bytes"},
		{"long module id", with("module_id", strings.Repeat("i", 257)), "module_id has 257 bytes, not 1 to 256"},
		{"module id null", with("module_id", nil), "module_id has 0 bytes"},
		{"module id as bytes", with("module_id", []byte("i-1")), inPayload},
		{"module id with a space", with("module_id", "i 1"), `module_id is "i 1"`},
		{"module id with an escape", with("module_id", "i\x1b1"), "module_id is "},
		{"module id with a letter that is not ASCII", with("module_id", "i-\u00e9"), "module_id is "},
		{"no timestamp", without("timestamp"), "the timestamp is 0"},
		{"timestamp zero", with("timestamp", 0), "the timestamp is 0"},
		{"timestamp below zero", with("timestamp", -5), inPayload},
		{"timestamp as float", with("timestamp", 1725719859545.0), inPayload},
		{"timestamp of year 10000", with("timestamp", uint64(maxMillis)+1), "the timestamp is 253402300800000"},
		{"no digest", without("digest"), `the digest is ""`},
		{"digest SHA256", with("digest", "SHA256"), `the digest is "SHA256"`},
		{"no PCRs", without("pcrs"), "there is no PCR0"},
		{"PCRs as array", with("pcrs", [][]byte{make([]byte, 48)}), inPayload},
		{"no PCR0", noPCR(0), "there is no PCR0"},
		{"no PCR1", noPCR(1), "there is no PCR1"},
		{"no PCR2", noPCR(2), "there is no PCR2"},
		{"PCR32", pcr(32, make([]byte, 48)), "there is a PCR32"},
		{"PCR -1", pcr(-1, make([]byte, 48)), inPayload},
		{"PCR by name", pcr("5", make([]byte, 48)), inPayload},
		{"PCR of 47 bytes", pcr(5, make([]byte, 47)), "PCR5 has 47 bytes"},
		{"PCR null", pcr(5, nil), "PCR5 has 0 bytes"},
		{"PCR as array of numbers", pcr(5, make([]int, 48)), inPayload},
		{"no certificate", without("certificate"), "a certificate has 0 bytes"},
		{"long certificate", with("certificate", long), "a certificate has 1025 bytes"},
		{"no bundle", without("cabundle"), "there are 0 certificates"},
		{"empty bundle", with("cabundle", [][]byte{}), "there are 0 certificates"},
		{"empty CA", with("cabundle", [][]byte{{1}, {}}), "a certificate has 0 bytes"},
		{"long CA", with("cabundle", [][]byte{{1}, long}), "a certificate has 1025 bytes"},
		{"nine CAs", with("cabundle", make([][]byte, 9)), "there are 9 certificates"},
		{"long user data", with("user_data", long), tooLong},
		{"long nonce", with("nonce", long), tooLong},
		{"nonce as text", with("nonce", "text"), inPayload},
		{"long public key", with("public_key", long), tooLong},
		{"empty public key", with("public_key", []byte{}), "public_key is empty"},
		{"tagged field", with("nonce", cbor.Tag{Number: 24, Content: []byte{1}}), inPayload},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := full(t)
			mustParse(t, p.raw())
			c.change(p.payload)
			if d, err := Parse(p.raw()); !errors.Is(err, errMalformed) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, %v, want %q", d, err, c.says)
			}
		})
	}
}

// wrap puts a payload into a COSE_Sign1 with a signature of zeros.
func wrap(t testing.TB, body []byte) []byte {
	t.Helper()
	raw, err := cbor.Marshal([]any{[]byte(protectedES384), map[int]int{}, body, make([]byte, signatureSize)})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestRefusedWrappers(t *testing.T) {
	p := full(t)
	raw := p.raw()
	body, signature := mustParse(t, raw).payload, raw[len(raw)-signatureSize:]
	sign1 := func(parts ...any) []byte { return p.marshal(parts) }
	protected, none := []byte(protectedES384), map[int]int{}
	const notOne, notShort, other = "not a COSE_Sign1: ", "not in the shortest encoding", "the headers name something other than ES384"
	for _, c := range []struct {
		name string
		raw  []byte
		says string
	}{
		{"nothing", nil, "it has 0 bytes, not 1 to 16384"},
		{"a byte more than the limit", make([]byte, maxDocument+1), "it has 16385 bytes, not 1 to 16384"},
		{"the limit", make([]byte, maxDocument), notOne},
		{"tagged", append([]byte{0xd2}, raw...), notOne},
		{"three parts", sign1(protected, none, body), notOne},
		{"five parts", sign1(protected, none, body, signature, []byte{}), notOne},
		{"a map", p.marshal(map[int][]byte{1: body}), notOne},
		{"array of unknown length", append(append([]byte{0x9f}, raw[1:]...), 0xff), notShort},
		{"long length of a header", bytes.Replace(raw, []byte("\x84\x44"), []byte("\x84\x58\x04"), 1), notShort},
		{"trailing byte", append(bytes.Clone(raw), 0), notOne},
		{"algorithm ES256", sign1([]byte("\xa1\x01\x26"), none, body, signature), other},
		{"no algorithm", sign1([]byte{}, none, body, signature), other},
		{"a second header", sign1([]byte("\xa2\x01\x38\x22\x04\x40"), none, body, signature), other},
		{"a second algorithm", sign1([]byte("\xa2\x01\x38\x22\x01\x26"), none, body, signature), other},
		{"something unprotected", sign1(protected, map[int]int{4: 2}, body, signature), other},
		{"algorithm unprotected too", sign1(protected, map[int]int{1: -7}, body, signature), other},
		{"payload is null", sign1(protected, none, nil, signature), notShort},
		{"payload is a text", sign1(protected, none, string(body), signature), notOne},
		{"payload and a byte more", wrap(t, append(bytes.Clone(body), 0)), "in its payload: "},
		{"repeated field", wrap(t, append(append([]byte{body[0] + 1}, body[1:]...), "\x65nonce\x41\x01"...)), "in its payload: "},
		{"short signature", sign1(protected, none, body, signature[1:]), "the signature has 95 bytes, not 96"},
		{"long signature", sign1(protected, none, body, append(bytes.Clone(signature), 0)), "the signature has 97 bytes, not 96"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d, err := Parse(c.raw); !errors.Is(err, errMalformed) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, %v, want %q", d, err, c.says)
			}
		})
	}
}

func TestTruncated(t *testing.T) {
	raw := full(t).raw()
	for n := range raw {
		if _, err := Parse(raw[:n]); !errors.Is(err, errMalformed) {
			t.Fatalf("the first %d bytes: %v", n, err)
		}
	}
}

// AWS changed the payload's map from a known to an unknown length, and absent
// fields are null in some documents.
func TestOtherShapes(t *testing.T) {
	p := full(t)
	d := mustParse(t, p.raw())
	indefinite := append(append([]byte{0xbf}, d.payload[1:]...), 0xff)
	same := mustParse(t, wrap(t, indefinite))
	if same.ModuleID != d.ModuleID || !bytes.Equal(same.Nonce, d.Nonce) || !same.Time.Equal(d.Time) {
		t.Error("a payload of unknown length reads differently")
	}
	p.payload["nonce"], p.payload["public_key"], p.payload["user_data"] = nil, nil, []byte{}
	without := mustParse(t, p.raw())
	if without.Nonce != nil || without.PublicKey != nil || without.UserData == nil || len(without.UserData) != 0 {
		t.Errorf("nonce %v, public key %v, user data %v", without.Nonce, without.PublicKey, without.UserData)
	}
	for _, field := range []string{"nonce", "public_key", "user_data"} {
		delete(p.payload, field)
	}
	if without := mustParse(t, p.raw()); without.Nonce != nil || without.PublicKey != nil || without.UserData != nil {
		t.Errorf("nonce %v, public key %v, user data %v", without.Nonce, without.PublicKey, without.UserData)
	}
}
