package claims

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var boot = strings.Repeat("0f", 16)

func longest() Claims {
	return Claims{
		Version: 1, Purpose: PurposeAttest, Boot: boot, Chain: strings.Repeat("c", 50), KeyType: "ml_dsa_65", Key: EncodeKey(make([]byte, 1952)),
		KMSKey: "arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-1234567890abcdef1234567890abcdef",
		Origin: "generated", Seq: 1<<64 - 1, Mark: "9223372036854775807/2147483647/precommit/AAAAAAAAAAA", Start: "9223372036854775807/2147483647/precommit/AAAAAAAAAAA",
		Store: StoreTag([16]byte{}),
	}
}

// longestSealed are the longest claims of an enclave of SGX.
func longestSealed() Claims {
	c := longest()
	c.KMSKey, c.Seal, c.Recipient, c.Origin = "", "mrenclave", "rsa-oaep-256:AAAAAAAAAAAAAAAAAAAAAA", RecoveredGenerated
	return c
}

func TestEncode(t *testing.T) {
	for name, tt := range map[string]struct {
		claims Claims
		want   string
	}{
		"kms": {Claims{Purpose: PurposeKMS, Boot: boot}, `{"v":1,"use":"kms","boot":"` + boot + `"}`},
		"attest": {
			Claims{Purpose: PurposeAttest, Boot: boot, Chain: "chain-1", KeyType: "ed25519", Key: "AAAA", KMSKey: "arn", Origin: "imported", Seq: 7, Mark: "5/0/prevote/AAAAAAAAAAA", Start: "4/all/all", Store: StoreTag([16]byte{0xfb, 0xff})},
			`{"v":1,"use":"attest","boot":"` + boot + `","chain":"chain-1","type":"ed25519","key":"AAAA","kms":"arn","origin":"imported","seq":7,"mark":"5/0/prevote/AAAAAAAAAAA","start":"4/all/all","db":"-_8AAAAAAAA"}`,
		},
		"sealed": {
			Claims{Purpose: PurposeCreate, Boot: boot, Chain: "chain-1", KeyType: "ed25519", Key: "AAAA", Seal: "mrsigner", Recipient: "hpke-x25519:AAAAAAAAAAAAAAAAAAAAAA", Origin: "generated", Seq: 7, Mark: "0/0/none"},
			`{"v":1,"use":"create","boot":"` + boot + `","chain":"chain-1","type":"ed25519","key":"AAAA","seal":"mrsigner","rcpt":"hpke-x25519:AAAAAAAAAAAAAAAAAAAAAA","origin":"generated","seq":7,"mark":"0/0/none"}`,
		},
	} {
		got, err := tt.claims.Encode()
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: %s, %v\nwant %s", name, got, err, tt.want)
		}
		back, err := Decode(got)
		tt.claims.Version = 1
		if diff := cmp.Diff(tt.claims, back); diff != "" || err != nil {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
}

// The longest claims that there are fit into what AWS documents; longer ones are
// an error, and never cut.
func TestSize(t *testing.T) {
	sealed, err := longestSealed().Encode()
	if err != nil || len(sealed) > MaxSize {
		t.Fatalf("%d bytes, %v", len(sealed), err)
	}
	c := longest()
	data, err := c.Encode()
	if err != nil || len(data) > MaxSize {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
	c.Chain += strings.Repeat("c", MaxSize-len(data)+1)
	if data, err := c.Encode(); err == nil && len(data) > MaxSize {
		t.Errorf("%d bytes, and no error", len(data))
	} else if err == nil {
		t.Errorf("no error")
	}
}

// What came out of a backup never looks like what an enclave saw made.
func TestRecovered(t *testing.T) {
	for origin, want := range map[string]string{
		Generated: RecoveredGenerated, Imported: RecoveredImported, RecoveredGenerated: RecoveredGenerated, RecoveredImported: RecoveredImported, "": "", "found": "",
	} {
		if got := Recovered(origin); got != want {
			t.Errorf("%q: %q", origin, got)
		}
	}
}

func TestEncodeKey(t *testing.T) {
	for n, want := range map[int]string{
		32: base64.StdEncoding.EncodeToString(make([]byte, 32)),
		65: base64.StdEncoding.EncodeToString(make([]byte, 65)),
		66: "sha256:",
	} {
		if got := EncodeKey(make([]byte, n)); !strings.HasPrefix(got, want) || len(got) > 7+64+24 {
			t.Errorf("of %d bytes: %s", n, got)
		}
	}
	if EncodeKey(make([]byte, 1952)) == EncodeKey(append(make([]byte, 1951), 1)) {
		t.Error("two long keys look alike")
	}
}

func TestRefused(t *testing.T) {
	good := `{"v":1,"use":"attest","boot":"` + boot + `","chain":"chain-1"}`
	if _, err := Decode([]byte(good)); err != nil {
		t.Fatal(err)
	}
	const (
		notOurs, other = "not the JSON object that privyseal writes", "not in canonical form"
		unprintable    = "a field has characters that privyseal never writes"
	)
	for _, c := range []struct{ name, text, says string }{
		{"empty", "", "no user data"},
		{"of tmkms-light", `{"pubkey":"AAAA","key_id":"AAAA"}`, notOurs},
		{"another version", strings.Replace(good, `"v":1`, `"v":2`, 1), "have version 2, this program knows 1"},
		{"no version", strings.Replace(good, `"v":1,`, ``, 1), "have version 0, this program knows 1"},
		{"an unknown key", strings.Replace(good, `"use"`, `"usage"`, 1), notOurs},
		{"a duplicate key", strings.Replace(good, `"chain":"chain-1"`, `"chain":"chain-0","chain":"chain-1"`, 1), other},
		{"a key in capitals", strings.Replace(good, `"chain"`, `"Chain"`, 1), other},
		{"spaces", strings.Replace(good, `,`, `, `, 1), other},
		{"another order", `{"use":"attest","v":1,"boot":"` + boot + `"}`, other},
		{"an explicit nothing", strings.Replace(good, `"chain":"chain-1"`, `"chain":""`, 1), other},
		{"a terminal's escape", strings.Replace(good, `chain-1`, `\u001b[2J`, 1), unprintable},
		{"a line feed in it", strings.Replace(good, `chain-1`, `a\nb`, 1), unprintable},
		{"a direction", strings.Replace(good, `chain-1`, "a\u202eb", 1), unprintable},
		{"an escape", strings.Replace(good, `chain-1`, `chain\u002d1`, 1), other},
		{"an object more", good + "{}", "trailing bytes"},
		{"a line feed", good + "\n", other},
		{"cut off", good[:len(good)-1], notOurs},
		{"too long", strings.Replace(good, `chain-1`, strings.Repeat("c", MaxSize), 1), other},
	} {
		if c.text == good {
			t.Errorf("%s: the test changes nothing", c.name)
		}
		if got, err := Decode([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %+v, %v, want %q", c.name, got, err, c.says)
		}
	}
	// Each field that is a text goes to a terminal.
	for _, change := range []func(c *Claims, text string){
		func(c *Claims, text string) { c.Purpose = text }, func(c *Claims, text string) { c.Boot = text },
		func(c *Claims, text string) { c.Chain = text }, func(c *Claims, text string) { c.KeyType = text },
		func(c *Claims, text string) { c.Key = text }, func(c *Claims, text string) { c.KMSKey = text },
		func(c *Claims, text string) { c.Origin = text }, func(c *Claims, text string) { c.Mark = text },
		func(c *Claims, text string) { c.Start = text }, func(c *Claims, text string) { c.Seal = text },
		func(c *Claims, text string) { c.Recipient = text },
	} {
		for _, text := range []string{"\x1b[2J", "\x7f", "\u0080"} {
			c := Claims{Purpose: PurposeAttest}
			change(&c, text)
			data, err := c.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Decode(data); err == nil || !strings.Contains(err.Error(), unprintable) {
				t.Errorf("%s: %v", data, err)
			}
		}
	}
}

// What is accepted encodes to the same bytes.
func FuzzDecode(f *testing.F) {
	data, err := longest().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	if data, err = longestSealed().Encode(); err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"v":1,"use":"","boot":""}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Decode(data)
		if err != nil {
			return
		}
		again, err := c.Encode()
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%q became %q, %v", data, again, err)
		}
	})
}
