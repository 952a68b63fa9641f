package sigstruct

import (
	"bytes"
	"strings"
	"testing"

	"privyseal/internal/sgx/sgxtest"
)

var enclave = sgxtest.Enclave{MRENCLAVE: [32]byte{0xe1, 31: 9}, ProductID: 7, SVN: 258}

// A signature says what the signer signed, and no byte of it can be changed.
func TestEveryByte(t *testing.T) {
	signer, err := sgxtest.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := signer.SigStruct(enclave, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if s.MRENCLAVE != enclave.MRENCLAVE || s.MRSIGNER != signer.MRSIGNER() || s.ProductID != 7 || s.SVN != 258 || s.MayDebug() || s.Date.Format("2006-01-02") != "2026-03-01" || s.MiscMask != 0xffffffff {
		t.Errorf("%+v", s)
	}
	for i := range raw {
		changed := bytes.Clone(raw)
		changed[i] ^= 1 << (i % 8)
		if s, err := Parse(changed); err == nil || s != nil {
			t.Errorf("byte %d is not looked at", i)
		}
	}
	for name, tt := range map[string]struct {
		change func(raw []byte)
		says   string
		debug  bool
	}{
		"Intel as vendor":   {func(raw []byte) { raw[16], raw[17] = 0x86, 0x80 }, "", false},
		"another vendor":    {func(raw []byte) { raw[16] = 1 }, "begins otherwise", false},
		"another header":    {func(raw []byte) { raw[40-1] = 1 }, "begins otherwise", false},
		"debug":             {func(raw []byte) { raw[928] |= 2 }, "", true},
		"debug left open":   {func(raw []byte) { raw[944] &^= 2 }, "", true},
		"no day":            {func(raw []byte) { raw[20] = 0x32 }, "its date is 20260332", false},
		"without a day":     {func(raw []byte) { clear(raw[20:24]) }, "", false},
		"no decimal":        {func(raw []byte) { raw[20] = 0x0a }, "its date is 2026030a", false},
		"a reserved byte":   {func(raw []byte) { raw[50] = 1 }, "has zeros", false},
		"another at Q1":     {func(raw []byte) { raw[1039] = 1 }, "has zeros", false},
		"another exponent":  {func(raw []byte) { raw[513] = 1 }, "its public exponent is 259", false},
		"product and label": {func(raw []byte) { raw[1008], raw[912] = 1, 1 }, "", false},
	} {
		raw, err := signer.SigStruct(enclave, tt.change)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Parse(raw)
		if name == "without a day" && (s == nil || !s.Date.IsZero()) {
			t.Errorf("%s: %+v", name, s)
		}
		if tt.says == "" && (err != nil || s.MayDebug() != tt.debug) || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	if _, err := Parse(raw[1:]); err == nil || !strings.Contains(err.Error(), "this has 1807") {
		t.Error(err)
	}
	small := bytes.Clone(raw)
	copy(small[128:512], append([]byte{35}, make([]byte, 383)...))
	if _, err := Parse(small); err == nil || !strings.Contains(err.Error(), "not an RSA-3072 signature") {
		t.Errorf("a small key: %v", err)
	}
	quotients := bytes.Clone(raw)
	quotients[1424]++
	if _, err := Parse(quotients); err == nil || !strings.Contains(err.Error(), "no processor starts") {
		t.Errorf("another Q2: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	signer, err := sgxtest.NewSigner()
	if err != nil {
		f.Fatal(err)
	}
	raw, err := signer.SigStruct(enclave, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(make([]byte, Size))
	f.Fuzz(func(t *testing.T, changed []byte) {
		if s, err := Parse(changed); (err == nil) != (s != nil) || err == nil && len(changed) != Size {
			t.Fatalf("%+v, %v", s, err)
		}
	})
}
