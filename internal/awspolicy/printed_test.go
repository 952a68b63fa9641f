package awspolicy

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// printed are policies as `privyseal nitro key-policy` prints them for the host of this
// small world: one for each choice of registers.
func printed() map[string]KeyPolicy {
	a, b := []Image{image(0xa0)}, []Image{image(0xa0), image(0xb0)}
	return map[string]KeyPolicy{
		"PCR0":                 {Role: hostRole, Images: a},
		"PCR0, two images":     {Role: hostRole, Images: b},
		"PCR0 and PCR8":        {Role: hostRole, Images: a, Signed: true},
		"PCR0, PCR1 and PCR2":  {Role: hostRole, Images: a, Parts: true},
		"parts":                {Role: hostRole, Images: a, Parts: true, WithoutPCR0: true},
		"parts, two images":    {Role: hostRole, Images: b, Parts: true, WithoutPCR0: true},
		"parts and PCR8":       {Role: hostRole, Images: a, Parts: true, Signed: true, WithoutPCR0: true},
		"PCR8":                 {Role: hostRole, Images: a, Signed: true, WithoutPCR0: true},
		"on one instance":      {Role: hostRole, Images: a, Instance: "i-0123456789abcdef0"},
		"on another instance":  {Role: hostRole, Images: a, Instance: "i-0000000000000000e"},
		"with an admin":        {Role: hostRole, Images: a, Admins: []string{"arn:aws:iam::111122223333:user/admin"}},
		"with a role as admin": {Role: hostRole, Images: a, Admins: []string{"arn:aws:iam::111122223333:role/w"}},
		"of another role":      {Role: "arn:aws:iam::111122223333:role/w", Images: a},
	}
}

func model(t *testing.T, text []byte) (p modelPolicy) {
	t.Helper()
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// What the printed policies let in: the host from the images that were named, with the
// registers that were asked for, and nobody else from anywhere.
func TestPrintedPoliciesAdmit(t *testing.T) {
	admits := map[string]string{
		"PCR0": "A", "PCR0, two images": "A B", "PCR0 and PCR8": "A", "PCR0, PCR1 and PCR2": "A",
		"parts": "A", "parts, two images": "A B", "parts and PCR8": "A", "PCR8": "A|C signed like A",
		"on one instance": "A", "on another instance": "", "with an admin": "A", "with a role as admin": "A", "of another role": "",
	}
	for name, policy := range printed() {
		text, err := policy.JSON()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		p := model(t, text)
		for _, action := range []string{"kms:Decrypt", "kms:GenerateDataKey"} {
			var in []string
			for _, doc := range slices.Sorted(maps.Keys(docs)) {
				if len(p.grants(request{who: theHost, action: action, pcrs: docs[doc]})) > 0 {
					in = append(in, doc)
				}
			}
			if got := strings.Join(in, "|"); got != strings.ReplaceAll(admits[name], " B", "|B") {
				t.Errorf("%s: %s from %q, want %q", name, action, got, admits[name])
			}
		}
		for _, w := range wrongs(map[string]bool{hostRole: true}, true) {
			signed := w.why == "C signed like A" || w.why == "the host" // by design; by an admin
			if by := p.grants(w.request); len(by) > 0 && !signed {
				t.Errorf("%s: %s may %s (%s) by statements %v", name, w.who.arn, w.action, w.why, by)
			}
		}
	}
}

// Whoever manages the KMS key may do that and not use it, and the host may not.
func TestPrintedPoliciesAreManaged(t *testing.T) {
	for name, policy := range printed() {
		text, err := policy.JSON()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		p := model(t, text)
		for _, c := range callers {
			admin := slices.Contains(policy.Admins, c.arn) || slices.Contains(policy.Admins, c.role) || policy.Admins == nil && c.account == "111122223333"
			for _, action := range adminActions {
				if got := len(p.grants(request{who: c, action: action})) > 0; got != admin {
					t.Errorf("%s: %s may %s: %t", name, c.arn, action, got)
				}
			}
			for _, action := range []string{"kms:Encrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:CreateGrant", "kms:ReplicateKey", "kms:ImportKeyMaterial", "kms:GenerateDataKeyWithoutPlaintext", "kms:Sign"} {
				if by := p.grants(request{who: c, action: action}); len(by) > 0 {
					t.Errorf("%s: %s may %s by statements %v", name, c.arn, action, by)
				}
			}
		}
	}
}

// edit is one change of one statement, as somebody makes it who repairs a policy by hand.
type edit struct {
	name   string
	change func(s *modelStatement)
}

func edits() (list []edit) {
	add := func(name string, change func(s *modelStatement)) { list = append(list, edit{name, change}) }
	add("Effect turned round", func(s *modelStatement) {
		s.Effect = map[string]string{"Allow": "Deny", "Deny": "Allow"}[s.Effect]
	})
	for _, who := range []string{"everyone", "*", "111122223333", "iam/role/v", "iam/role/w", "iam/role/path/p", "iam/user/u", "arn:aws:iam::999999999999:role/v", "999999999999", "Service=ec2.amazonaws.com", "AROAHOST"} {
		add("for "+who, func(s *modelStatement) { s.Principal, s.NotPrincipal = named(who), nil })
		add("for all but "+who, func(s *modelStatement) { s.Principal, s.NotPrincipal = nil, named(who) })
	}
	for _, action := range []string{"*", "kms:*", "kms:Decrypt", "kms:decrypt", "kms:GenerateDataKey*", "kms:Put*", "kms:?ecrypt", "s3:*"} {
		add("only "+action, func(s *modelStatement) { s.Action, s.NotAction = modelTexts{action}, nil })
		add("also "+action, func(s *modelStatement) { s.Action = append(slices.Clone(s.Action), action) })
		add("all but "+action, func(s *modelStatement) { s.Action, s.NotAction = nil, modelTexts{action} })
	}
	add("of one key", func(s *modelStatement) {
		s.Resource = modelTexts{"arn:aws:kms:eu-central-1:111122223333:key/x"}
	})
	add("without conditions", func(s *modelStatement) { s.Condition = nil })
	return append(list, conditionEdits()...)
}

// conditionEdits are those of the operators, keys and values of a statement.
func conditionEdits() (list []edit) {
	each := func(name string, change func(operator, key string, values modelTexts) (string, string, modelTexts)) {
		list = append(list, edit{name, func(s *modelStatement) {
			changed := map[string]map[string]modelTexts{}
			for operator, keys := range s.Condition {
				for key, values := range keys {
					o, k, v := change(operator, key, values)
					if o == "" {
						continue
					}
					if changed[o] == nil {
						changed[o] = map[string]modelTexts{}
					}
					changed[o][k] = v
				}
			}
			s.Condition = changed
		}})
	}
	for _, operator := range []string{"StringEquals", "StringNotEquals", "StringEqualsIgnoreCaseIfExists", "StringLike", "StringNotLike", "ForAllValues:StringEquals", "ForAnyValue:StringEquals", "ForAllValues:StringNotEquals", "StringNotEqualsIfExists"} {
		each("by "+operator, func(_, key string, values modelTexts) (string, string, modelTexts) { return operator, key, values })
	}
	for _, register := range []string{"PCR0", "PCR1", "PCR2", "PCR3", "PCR4", "PCR8"} {
		each("without "+register, func(operator, key string, values modelTexts) (string, string, modelTexts) {
			if strings.HasSuffix(key, register) {
				return "", "", nil
			}
			return operator, key, values
		})
		each("with another "+register, func(operator, key string, values modelTexts) (string, string, modelTexts) {
			if strings.HasSuffix(key, register) {
				values = append(slices.Clone(values), expand("C"+register[3:]), expand("ZERO"))
			}
			return operator, key, values
		})
	}
	each("in capitals", func(operator, key string, values modelTexts) (string, string, modelTexts) {
		var l modelTexts
		for _, v := range values {
			l = append(l, strings.ToUpper(v))
		}
		return operator, key, l
	})
	each("of keys in capitals", func(operator, key string, values modelTexts) (string, string, modelTexts) {
		return operator, strings.ToUpper(key), values
	})
	return list
}

// Each edit of each statement of a printed policy, of all at once but the first, and each
// statement left out: what KMS then grants to whom it should not, Check names.
func TestEveryEditOfAPrintedPolicy(t *testing.T) {
	edited, bad := 0, 0
	for _, name := range []string{"PCR0", "parts, two images", "PCR8", "with a role as admin"} {
		text, err := printed()[name].JSON()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all := len(model(t, text).Statement)
		for i := range all + 1 {
			for _, e := range append(edits(), edit{"left out", nil}) {
				p := model(t, text)
				switch {
				case i < all && e.change == nil:
					p.Statement = slices.Delete(p.Statement, i, i+1)
				case i < all:
					e.change(&p.Statement[i])
				case e.change != nil:
					for j := range all - 1 {
						e.change(&p.Statement[j+1])
					}
				}
				edited++
				if why := unsound(t, p.text(t)); why != "" {
					t.Fatalf("%s, statement %d %s: %s", name, i+1, e.name, why)
				}
				if v := verdictOf(t, p); v == "BYPASS" || v == "UNCLEAR" {
					bad++
				}
			}
		}
	}
	if bad < edited/20 || bad > edited*19/20 {
		t.Errorf("%d of %d edits are found bad: they are too much alike", bad, edited)
	}
}

// Whose a principal is, in all the ways in which it is written.
func TestPrincipals(t *testing.T) {
	for _, tt := range []struct{ kind, id, account, role, arn string }{
		{"AWS", "arn:aws:iam::111122223333:root", "111122223333", "111122223333", "111122223333"},
		{"AWS", "111122223333", "111122223333", "111122223333", "111122223333"},
		{"AWS", "arn:aws-us-gov:iam::111122223333:root", "111122223333", "111122223333", "111122223333"},
		{"AWS", hostRole, "111122223333", "111122223333/v", hostRole},
		{"AWS", "arn:aws:iam::111122223333:role/a/b/V", "111122223333", "111122223333/v", "arn:aws:iam::111122223333:role/a/b/V"},
		{"AWS", "arn:aws:sts::111122223333:assumed-role/v/i-0", "111122223333", "111122223333/v", hostRole},
		{"AWS", "arn:aws-cn:sts::111122223333:assumed-role/v/a/b", "111122223333", "111122223333/v", "arn:aws-cn:iam::111122223333:role/v"},
		{"AWS", "arn:aws:sts::111122223333:assumed-role", "111122223333", "arn:aws:sts::111122223333:assumed-role", "arn:aws:sts::111122223333:assumed-role"},
		{"AWS", "arn:aws:sts::111122223333:federated-user/v", "111122223333", "arn:aws:sts::111122223333:federated-user/v", "arn:aws:sts::111122223333:federated-user/v"},
		{"AWS", "arn:aws:iam::111122223333:user/v", "111122223333", "arn:aws:iam::111122223333:user/v", "arn:aws:iam::111122223333:user/v"},
		{"AWS", "arn:aws:iam::1111:role/v", "", "1111/v", "arn:aws:iam::1111:role/v"},
		{"AWS", "AROAEXAMPLE", "", "AROAEXAMPLE", "AROAEXAMPLE"},
		{"AWS", "*", "", "*", "*"},
		{"Service", "arn:aws:iam::111122223333:role/v", "", "arn:aws:iam::111122223333:role/v", "arn:aws:iam::111122223333:role/v"},
		{"Federated", "arn:aws:iam::111122223333:saml-provider/x", "", "arn:aws:iam::111122223333:saml-provider/x", "arn:aws:iam::111122223333:saml-provider/x"},
	} {
		p := principal{tt.kind, accountOf(tt.id)}
		if got := fmt.Sprint(p.accountID(), " ", p.role(), " ", p.roleARN()); got != fmt.Sprint(tt.account, " ", tt.role, " ", tt.arn) {
			t.Errorf("%s %s: account, role and ARN are %s", tt.kind, tt.id, got)
		}
	}
}

// A pinned policy serves the keys that were named and no other: by the encryption context
// of the request, in which the wrapped key names itself.
func TestPinnedPolicies(t *testing.T) {
	pinned := KeyPolicy{
		Role: hostRole, Images: []Image{image(0xa0)},
		Context:  map[string][]string{"privyseal-public-key": {"key", "identity"}},
		Optional: map[string][]string{"privyseal-chain": {"chain-1", "chain-2"}},
	}
	text, err := pinned.JSON()
	if err != nil {
		t.Fatal(err)
	}
	p := model(t, text)
	for _, tt := range []struct {
		key, chain string
		want       bool
	}{
		{"key", "chain-1", true}, {"key", "chain-2", true}, {"identity", "", true}, {"key", "", true},
		{"", "", false}, {"", "chain-1", false}, {"another", "chain-1", false}, {"key", "chain-3", false}, {"KEY", "chain-1", false}, {"key", "CHAIN-1", false}, {"key*", "", false},
	} {
		encryption := map[string]string{"privyseal-public-key": tt.key, "privyseal-chain": tt.chain}
		for _, doc := range []string{"A", "C", "debug"} {
			by := p.grants(request{who: theHost, action: "kms:Decrypt", pcrs: docs[doc], encryption: encryption})
			if want := tt.want && doc == "A"; want != (len(by) > 0) {
				t.Errorf("key %q and chain %q from %s: granted by %v, want %t", tt.key, tt.chain, doc, by, want)
			}
		}
	}
	if v := verdictOf(t, p); v != "rewrite" {
		t.Errorf("Check says %s of a pinned policy", v)
	}
}
