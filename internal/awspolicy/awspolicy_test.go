package awspolicy

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func image(b byte) Image {
	return Image{PCR0: bytes.Repeat([]byte{b}, 48), PCR1: bytes.Repeat([]byte{b + 1}, 48), PCR2: bytes.Repeat([]byte{b + 2}, 48), PCR8: bytes.Repeat([]byte{b + 8}, 48)}
}

const role = "arn:aws:iam::111122223333:role/validator"

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func policies() map[string]KeyPolicy {
	return map[string]KeyPolicy{
		"plain":    {Role: role, Images: []Image{image(0xa0)}},
		"upgrade":  {Role: role, Images: []Image{image(0xa0), image(0xb0), image(0xa0)}},
		"debug":    {Role: role, Images: []Image{{PCR0: make([]byte, 48), PCR1: make([]byte, 48), PCR2: make([]byte, 48)}}},
		"govcloud": {Role: "arn:aws-us-gov:iam::111122223333:role/path/validator", Images: []Image{image(0xa0)}},
		"signer":   {Role: role, Images: []Image{image(0xa0)}, Signed: true, WithoutPCR0: true},
		"parts":    {Role: role, Images: []Image{image(0xa0), image(0xb0), image(0xa0)}, Parts: true, WithoutPCR0: true},
		"everything": {
			Role: role, Images: []Image{image(0xa0)}, Parts: true, Signed: true, Instance: "i-0123456789abcdef0",
			Admins:  []string{"arn:aws:iam::111122223333:user/root-of-trust", "arn:aws:iam::111122223333:role/second"},
			Context: map[string][]string{"privyseal-public-key": {"key=", "identity="}}, Optional: map[string][]string{"privyseal-chain": {"chain-1"}},
		},
	}
}

// The policies that we print, to the letter.
func TestPolicies(t *testing.T) {
	for name, p := range policies() {
		got, err := p.JSON()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		golden(t, name+".json", string(got))
	}
}

// What we print, our own judge finds good; and bad as soon as a denial or the
// condition is taken out.
func TestOwnPoliciesHold(t *testing.T) {
	for name, p := range policies() {
		text, err := p.JSON()
		if err != nil {
			t.Fatal(err)
		}
		found, err := Check(text, p.Images)
		if err != nil {
			t.Fatal(err)
		}
		enclaves := 0
		for _, f := range found {
			switch {
			case f.Kind == Enclave && name != "signer" || f.Kind == Signer && name == "signer":
				enclaves++
				if !slices.Equal(f.Actions, []string{"kms:Decrypt", "kms:GenerateDataKey"}) {
					t.Errorf("%s: %+v", name, f)
				}
			case f.Kind == Rewrite || f.Kind == Destroy:
			case name != "debug":
				t.Errorf("%s: %+v", name, f)
			}
		}
		want := 1
		if name == "parts" {
			want = 2 // a statement for each image
		}
		if name != "debug" && enclaves != want {
			t.Errorf("%s: %d enclaves may use the key", name, enclaves)
		}
		// The denials of the parts admit the program of one with the policy of another.
		alone := worst(t, bytes.ReplaceAll(text, []byte(`"StringEqualsIgnoreCase"`), []byte(`"StringEqualsIgnoreCaseIfExists"`)), p.Images)
		if good := alone == Enclave || name == "signer" && alone == Signer; name != "debug" && good == (name == "parts") {
			t.Errorf("%s: the denial alone leaves kind %d", name, alone)
		}
		both := bytes.ReplaceAll(text, []byte("EqualsIgnoreCase"), []byte("EqualsIgnoreCaseIfExists"))
		if worst(t, both, p.Images) != Bypass {
			t.Errorf("%s: without condition and denial nobody is found", name)
		}
	}
}

// worst returns the worst kind that is found, aside from what administrators may do.
func worst(t *testing.T, text []byte, images []Image) Kind {
	t.Helper()
	found, err := Check(text, images)
	if err != nil {
		t.Fatal(err)
	}
	k := Enclave
	for _, f := range found {
		if f.Kind != Rewrite && f.Kind != Destroy {
			k = max(k, f.Kind)
		}
	}
	return k
}

func TestPoliciesRefused(t *testing.T) {
	good := KeyPolicy{Role: role, Images: []Image{image(0xa0)}}
	tests := map[string]func(*KeyPolicy){
		"no role":              func(p *KeyPolicy) { p.Role = "" },
		"a user":               func(p *KeyPolicy) { p.Role = "arn:aws:iam::111122223333:user/u" },
		"an instance profile":  func(p *KeyPolicy) { p.Role = "arn:aws:iam::111122223333:instance-profile/validator" },
		"a session":            func(p *KeyPolicy) { p.Role = "arn:aws:sts::111122223333:assumed-role/validator/i-0" },
		"all roles":            func(p *KeyPolicy) { p.Role = "arn:aws:iam::111122223333:role/*" },
		"no image":             func(p *KeyPolicy) { p.Images = nil },
		"a short measurement":  func(p *KeyPolicy) { p.Images[0].PCR0 = make([]byte, 32) },
		"nothing names it":     func(p *KeyPolicy) { p.WithoutPCR0 = true },
		"debug mode by parts":  func(p *KeyPolicy) { p.WithoutPCR0, p.Parts, p.Images[0].PCR0 = true, true, make([]byte, 48) },
		"unsigned, by signer":  func(p *KeyPolicy) { p.WithoutPCR0, p.Signed, p.Images[0].PCR8 = true, true, make([]byte, 48) },
		"not signed":           func(p *KeyPolicy) { p.Signed, p.Images[0].PCR8 = true, make([]byte, 48) },
		"no instance id":       func(p *KeyPolicy) { p.Instance = "i-0123" },
		"an upper-case id":     func(p *KeyPolicy) { p.Instance = "i-0123456789ABCDEF0" },
		"an admin by a name":   func(p *KeyPolicy) { p.Admins = []string{"root"} },
		"the role as an admin": func(p *KeyPolicy) { p.Admins = []string{role} },
	}
	for name, change := range tests {
		p := good
		p.Images = []Image{image(0xa0)}
		change(&p)
		if text, err := p.JSON(); err == nil {
			t.Errorf("%s: %s", name, text)
		}
	}
}

// The judge, over policies as one meets them. Each case is a policy and what is
// found, with images a0… and b0… expected.
func TestCheck(t *testing.T) {
	var again strings.Builder
	for _, c := range blocks(t) {
		fmt.Fprintf(&again, "== %s\n%s-- finds\n%s", c.title, c.body, describe(t, []byte(c.policy())))
	}
	golden(t, "check.txt", again.String())
}

// block is one case of check.txt.
type block struct{ title, body string }

func blocks(t testing.TB) (list []block) {
	t.Helper()
	text, err := os.ReadFile("testdata/check.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range strings.Split(string(text), "== ")[1:] {
		title, rest, _ := strings.Cut(b, "\n")
		body, _, _ := strings.Cut(rest, "-- finds\n")
		list = append(list, block{title, body})
	}
	return list
}

// policy returns the policy with its measurements written out.
func (b block) policy() string {
	return strings.NewReplacer(
		"A0", hex.EncodeToString(image(0xa0).PCR0), "A1", hex.EncodeToString(image(0xa0).PCR1), "A2", hex.EncodeToString(image(0xa0).PCR2),
		"A8", hex.EncodeToString(image(0xa0).PCR8), "B1", hex.EncodeToString(image(0xb0).PCR1), "B2", hex.EncodeToString(image(0xb0).PCR2),
		"C0", hex.EncodeToString(image(0xc0).PCR0), "C8", hex.EncodeToString(image(0xc0).PCR8), "ZERO", strings.Repeat("0", 96),
		"V3", parentPCR("arn:aws:iam::111122223333:role/v"), "P3", parentPCR("arn:aws:iam::111122223333:role/path/p")).Replace(b.body)
}

func describe(t *testing.T, policy []byte) string {
	t.Helper()
	found, err := Check(policy, []Image{image(0xa0), image(0xb0)})
	if err != nil {
		return "error: " + err.Error() + "\n\n"
	}
	var b strings.Builder
	for _, f := range found {
		text := fmt.Sprintf("%s %s: %s %s: %s\n", [...]string{"enclave", "signer", "destroy", "rewrite", "UNCLEAR", "BYPASS"}[f.Kind], f.Statement, f.Who, strings.Join(f.Actions, " "), f.Text)
		b.WriteString(strings.NewReplacer(hex.EncodeToString(image(0xa0).PCR0), "A0", hex.EncodeToString(image(0xa0).PCR1), "A1",
			hex.EncodeToString(image(0xa0).PCR2), "A2", hex.EncodeToString(image(0xa0).PCR8), "A8", hex.EncodeToString(image(0xb0).PCR1), "B1", hex.EncodeToString(image(0xb0).PCR2), "B2",
			hex.EncodeToString(image(0xc0).PCR0), "C0", hex.EncodeToString(image(0xc0).PCR8), "C8", strings.Repeat("0", 96), "ZERO",
			parentPCR("arn:aws:iam::111122223333:role/v"), "V3", parentPCR("arn:aws:iam::111122223333:role/path/p"), "P3", ":  : ", ": ").Replace(text))
	}
	b.WriteString("\n")
	return b.String()
}

func TestWildcard(t *testing.T) {
	for _, tt := range []struct {
		pattern, text string
		want          bool
	}{
		{"*", "", true}, {"*", "kms:decrypt", true}, {"kms:*", "kms:decrypt", true}, {"kms:d*t", "kms:decrypt", true},
		{"kms:d*x", "kms:decrypt", false}, {"kms:decryp?", "kms:decrypt", true}, {"kms:decrypt?", "kms:decrypt", false},
		{"?*", "", false}, {"", "", true}, {"", "x", false}, {"a*b*c", "aXbXbXc", true}, {"a*b*c", "aXcXb", false}, {"kms:re*rom", "kms:reencryptfrom", true},
	} {
		if got := wildcard(tt.pattern, tt.text); got != tt.want {
			t.Errorf("wildcard(%q, %q) = %t", tt.pattern, tt.text, got)
		}
	}
	// It stays linear where backtracking would not end.
	if wildcard(strings.Repeat("a*", 5000)+"b", strings.Repeat("a", 20000)) {
		t.Error("matched")
	}
}

// Whatever is read: no panic; the same twice; and a Deny more never lets anybody
// in that was out before.
func FuzzCheck(f *testing.F) {
	for _, c := range blocks(f) {
		f.Add([]byte(c.body))
	}
	f.Fuzz(func(t *testing.T, policy []byte) {
		one, err := Check(policy, nil)
		two, again := Check(policy, nil)
		if !reflect.DeepEqual(one, two) || (err == nil) != (again == nil) {
			t.Fatal("twice differently")
		}
		if err != nil {
			return
		}
		var doc map[string]json.RawMessage
		if json.Unmarshal(policy, &doc) != nil || len(doc["Statement"]) == 0 || doc["Statement"][0] != '[' || len(doc["Policy"]) > 0 {
			return
		}
		list := bytes.TrimSpace(doc["Statement"])
		inner := bytes.TrimSpace(list[1 : len(list)-1])
		deny := []byte(`{"Effect":"Deny","Principal":"*","Action":"kms:Decrypt","Resource":"*"}`)
		if len(inner) > 0 {
			deny = append(deny, ',')
		}
		harder := slices.Concat([]byte(`{"Statement":[`), deny, inner, []byte(`]}`))
		found, err := Check(harder, nil)
		if err != nil {
			return
		}
		for _, x := range found {
			if slices.Contains(x.Actions, "kms:Decrypt") {
				t.Fatalf("denied to all, and still found: %+v", x)
			}
		}
	})
}
