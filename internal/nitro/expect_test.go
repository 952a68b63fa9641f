package nitro

import (
	"bytes"
	"errors"
	"testing"
)

// What a verified document is compared with, and what does not name its image.
func TestCheck(t *testing.T) {
	pcr := func(n byte) []byte { return bytes.Repeat([]byte{n}, 48) }
	d := &Document{
		PCRs: map[int][]byte{0: pcr(1), 1: pcr(2), 2: pcr(3)}, PublicKey: []byte("key"), UserData: []byte{}, Nonce: []byte("nonce"), verified: true,
	}
	for name, c := range map[string]struct {
		expect Expect
		wrong  string // the field that differs
		err    error
	}{
		"the image":                      {expect: Expect{PCRs: map[int][]byte{0: pcr(1)}}},
		"kernel and program":             {expect: Expect{PCRs: map[int][]byte{1: pcr(2), 2: pcr(3)}}},
		"nothing":                        {err: errNoImage},
		"the kernel alone":               {expect: Expect{PCRs: map[int][]byte{1: pcr(2)}}, err: errNoImage},
		"the program alone":              {expect: Expect{PCRs: map[int][]byte{2: pcr(3)}}, err: errNoImage},
		"any image":                      {expect: Expect{AnyImage: true}},
		"another image":                  {expect: Expect{PCRs: map[int][]byte{0: pcr(9)}}, wrong: "PCR0"},
		"an instance that is not there":  {expect: Expect{PCRs: map[int][]byte{0: pcr(1), 4: pcr(4)}}, wrong: "PCR4"},
		"all that it says":               {expect: Expect{AnyImage: true, PublicKey: []byte("key"), UserData: []byte{}, Nonce: []byte("nonce")}},
		"another key":                    {expect: Expect{AnyImage: true, PublicKey: []byte("KEY")}, wrong: "public key"},
		"other data":                     {expect: Expect{AnyImage: true, UserData: []byte("data")}, wrong: "user data"},
		"the nonce of another challenge": {expect: Expect{AnyImage: true, Nonce: []byte("nonsense")}, wrong: "nonce"},
	} {
		err := c.expect.Check(d)
		var m Mismatches
		switch {
		case c.wrong == "":
			if err != c.err {
				t.Errorf("%s: %v, want %v", name, err, c.err)
			}
		case !errors.As(err, &m) || len(m) != 1 || m[0].Field != c.wrong:
			t.Errorf("%s: %v, want %s", name, err, c.wrong)
		}
	}
	// Empty has to be there.
	bare := &Document{PCRs: d.PCRs, verified: true}
	if err := (Expect{AnyImage: true, UserData: []byte{}}).Check(bare); err == nil {
		t.Error("data that is not there is taken for none")
	}
	if err := (Expect{AnyImage: true}).Check(&Document{PCRs: d.PCRs}); err != errUnverified {
		t.Errorf("not verified: %v", err)
	}
}
