package awspolicy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// What PCR3 and PCR4 are the hash of: a wrong letter here is a register that no
// instance ever has.
func TestRolesAndInstances(t *testing.T) {
	for text, good := range map[string]bool{
		"arn:aws:iam::111122223333:role/v": true, "arn:aws:iam::111122223333:role/path/to/v": true, "arn:aws-us-gov:iam::111122223333:role/v": true, "arn:aws-cn:iam::111122223333:role/a+b=c,d.e@f-g_h": true,
		"": false, "v": false, "role/v": false, "arn:aws:iam::111122223333:role": false, "arn:aws:iam::111122223333:role/": false, "arn:aws:iam::111122223333:role/v/": false,
		"arn:aws:iam::11112222333:role/v": false, "arn:aws:iam::11112222333a:role/v": false, "arn:aws:iam:eu-central-1:111122223333:role/v": false, "arn:gcp:iam::111122223333:role/v": false,
		"ARN:aws:iam::111122223333:role/v": false, "arn:aws:sts::111122223333:assumed-role/v/s": false, "arn:aws:iam::111122223333:instance-profile/v": false, "arn:aws:iam::111122223333:root": false,
		"arn:aws:iam::111122223333:role/v*": false, "arn:aws:iam::111122223333:role/?": false, "arn:aws:iam::111122223333:role/v ": false, "arn:aws:iam::111122223333:role/v\n": false,
		"\ufeffarn:aws:iam::111122223333:role/v": false, "arn:aws:iam::111122223333:role/v\u200b": false, "arn:aws:iam::111122223333:role/ν": false, "arn:aws:iam::111122223333:role/v\x00": false,
	} {
		if err := CheckRole(text); (err == nil) != good {
			t.Errorf("role %q: %v", text, err)
		}
	}
	for text, good := range map[string]bool{
		"i-0123456789abcdef0": true, "i-01234567": true,
		"": false, "i-": false, "0123456789abcdef0": false, "i-0123456789abcdef": false, "i-0123456789abcdef01": false, "i-0123456789ABCDEF0": false, "i-0123456789abcdefg": false,
		"i-0123456789abcdef0\n": false, " i-0123456789abcdef0": false, "i-0123456-": false, "m-01234567": false,
	} {
		if err := CheckInstance(text); (err == nil) != good {
			t.Errorf("instance %q: %v", text, err)
		}
	}
}

// Who may be named as an administrator.
func TestAdministrators(t *testing.T) {
	const host = "the role of the instance"
	for _, tt := range []struct{ admins, wrong string }{
		{"arn:aws:iam::111122223333:root", ""}, {"arn:aws:iam::111122223333:user/u arn:aws:iam::111122223333:role/w", ""}, {"arn:aws:iam::999999999999:role/validator", ""},
		{"arn:aws:sts::111122223333:assumed-role/w/alice", ""}, {"arn:aws:iam::111122223333:user/validator", ""}, {"arn:aws:iam::111122223333:role/validators", ""},
		{"arn:aws:iam::111122223333:role/validator", host}, {"arn:aws:iam::111122223333:user/u arn:aws:iam::111122223333:role/validator", host},
		{"arn:aws:sts::111122223333:assumed-role/validator/i-0", host}, {"arn:aws:iam::111122223333:role/path/validator", host}, {"arn:aws:iam::111122223333:role/VALIDATOR", host},
		{"arn:aws:iam::111122223333:user/u arn:aws:iam::999999999999:user/u", "another account"}, {"arn:aws:iam::999999999999:user/u arn:aws:iam::111122223333:root", "another account"},
		{"111122223333", "not the ARN"}, {"root", "not the ARN"}, {"*", "not the ARN"}, {"arn:aws:iam::111122223333:role/*", "not the ARN"}, {"arn:aws:iam::*:root", "not the ARN"},
		{"arn:", "not the ARN"}, {"arn:aws:iam:::user/u", "not the ARN"}, {"arn:aws:iam::111122223333:user/ü", "not the ARN"}, {"AIDAEXAMPLE", "not the ARN"},
	} {
		text, err := KeyPolicy{Role: role, Images: []Image{image(0xa0)}, Admins: strings.Fields(tt.admins)}.JSON()
		switch {
		case tt.wrong == "" && err != nil, tt.wrong != "" && (err == nil || !strings.Contains(err.Error(), tt.wrong)):
			t.Errorf("%s: %v, want %q", tt.admins, err, tt.wrong)
		case err == nil && !slices.ContainsFunc(strings.Fields(tt.admins), func(a string) bool { return strings.Contains(string(text), `"`+a+`"`) }):
			t.Errorf("%s: not in %s", tt.admins, text)
		}
	}
}

// Two patterns overlap if a text matches both: by search among all short texts.
func TestOverlap(t *testing.T) {
	var all []string
	for n, from := 0, []string{""}; n <= 6; n++ {
		all = append(all, from...)
		var next []string
		for _, s := range from {
			next = append(next, s+"a", s+"b")
		}
		from = next
	}
	r := rand.New(rand.NewPCG(1, 2))
	pattern := func() (s string) {
		for range r.IntN(5) {
			s += pick(r, "a", "b", "?", "*")
		}
		return s
	}
	both := 0
	for range 2000 {
		a, b := pattern(), pattern()
		want := slices.ContainsFunc(all, func(s string) bool { return match(a, s) && match(b, s) })
		if overlap(a, b) != want || overlap(b, a) != want {
			t.Fatalf("overlap(%q, %q) is not %t", a, b, want)
		}
		if want {
			both++
		}
	}
	if both < 200 || both > 1800 {
		t.Errorf("%d of 2000 overlap", both)
	}
	long := strings.Repeat("x", 2000)
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"role/V*", "role/v", true}, {"role/${aws:username}", "role/alice", true}, {"role/${*}", "role/w", true}, {"role/${aws:username", "role/x", true},
		{"role/${a}-x", "role/v", false}, {"${a}${b}", "x", true}, {long, long + "y", true}, {long[:900], long[:901], false},
	} {
		if got := overlap(tt.a, tt.b); got != tt.want {
			t.Errorf("overlap(%.40q, %.40q) = %t", tt.a, tt.b, got)
		}
	}
}

// witnesses are all combinations of three registers that an attestation may have, and
// none at all.
var witnesses = func() (list []map[int]string) {
	for _, zero := range []string{"A0", "B0", "C0", "B2", "ZERO"} {
		for _, three := range []string{"V3", "C8", "B2"} {
			for _, eight := range []string{"A8", "C8", "B2", "ZERO"} {
				list = append(list, map[int]string{0: expand(zero), 3: expand(three), 8: expand(eight)})
			}
		}
	}
	return append(list, nil)
}()

// Whoever is named can indeed do it: in policies of plain conditions, each finding has a
// request that KMS would grant by that statement. A judge that cries wolf is not
// listened to.
func TestNobodyIsNamedForNothing(t *testing.T) {
	r, seen := rand.New(rand.NewPCG(3, 4)), map[Kind]int{}
	for range 700 {
		p := plainPolicy(r)
		found, err := Check(p.text(t), []Image{image(0xa0), image(0xb0)})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			seen[f.Kind]++
			for _, action := range f.Actions {
				if !witnessed(p, f.Statement, action) {
					t.Fatalf("nobody can %s by %s, and Check says %s (%s):\n%s", action, f.Statement, f.Who, f.Text, p.text(t))
				}
			}
		}
	}
	if seen[Enclave] < 50 || seen[Signer] < 5 || seen[Bypass] < 100 || seen[Unclear] > 0 {
		t.Errorf("findings by kind: %v", seen)
	}
}

func witnessed(p modelPolicy, statement, action string) bool {
	documents := witnesses
	if !strings.HasSuffix(action, "Decrypt") && !strings.HasSuffix(action, "GenerateDataKey") {
		documents = documents[len(documents)-1:]
	}
	for _, c := range callers {
		for _, pcrs := range documents {
			if slices.ContainsFunc(p.grants(request{who: c, action: action, pcrs: pcrs}), func(by int) bool { return statement == fmt.Sprintf("statement %d", by) }) {
				return true
			}
		}
	}
	return false
}

// plainPolicy returns a policy of equalities alone.
func plainPolicy(r *rand.Rand) (p modelPolicy) {
	values := map[string][]string{"PCR0": {"A0", "A0", "B0", "C0", "ZERO"}, "PCR3": {"V3", "C8"}, "PCR8": {"A8", "A8", "C8", "ZERO"}}
	condition := func(operator string, most int) map[string]map[string]modelTexts {
		keys := map[string]modelTexts{}
		for range r.IntN(most + 1) {
			name := pick(r, "PCR0", "PCR3", "PCR8")
			l := modelTexts{}
			for _, short := range some(r, values[name]...) {
				l = append(l, expand(short))
			}
			keys["kms:RecipientAttestation:"+name] = l
		}
		return map[string]map[string]modelTexts{operator: keys}
	}
	for range 1 + r.IntN(3) {
		p.Statement = append(p.Statement, modelStatement{
			Effect: "Allow", Principal: named(pick(r, "iam/role/v", "iam/role/w", "iam/user/admin", "iam/root", "everyone", "999999999999", "Service=ec2.amazonaws.com")), Resource: modelTexts{"*"},
			Action: some(r, "kms:Decrypt", "kms:GenerateDataKey", "kms:Encrypt", "kms:PutKeyPolicy"), Condition: condition("StringEquals", 3),
		})
	}
	if r.IntN(3) == 0 {
		p.Statement = append(p.Statement, modelStatement{
			Effect: "Deny", Principal: named("everyone"), Resource: modelTexts{"*"}, Action: modelTexts{"kms:Decrypt", "kms:GenerateDataKey"},
			Condition: map[string]map[string]modelTexts{"StringEquals": {"kms:RecipientAttestation:PCR0": {expand("ZERO")}}},
		})
	}
	for range r.IntN(3) {
		p.Statement = append(p.Statement, modelStatement{
			Effect: "Deny", Principal: named("everyone"), Resource: modelTexts{"*"},
			Action: some(r, "kms:Decrypt", "kms:GenerateDataKey*", "kms:Encrypt"), Condition: condition(pick(r, "StringNotEquals", "StringEquals"), 1),
		})
	}
	return p
}
