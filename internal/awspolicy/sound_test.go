package awspolicy

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

const hostRole = "arn:aws:iam::111122223333:role/v"

func session(account, path, role, name, unique string) caller {
	return caller{"AWS", "arn:aws:sts::" + account + ":assumed-role/" + role + "/" + name, "arn:aws:iam::" + account + ":role/" + path + role, unique, account}
}

// theHost is the instance whose enclave it is.
var theHost = session("111122223333", "", "v", "i-0", "AROAHOST")

// callers are whom a policy may mean, and those of whom it may not think.
var callers = []caller{
	theHost, session("111122223333", "", "w", "i-1", "AROAOTHER"), session("111122223333", "path/", "p", "i-2", "AROAPATH"),
	{"AWS", "arn:aws:iam::111122223333:user/admin", "", "AIDAADMIN", "111122223333"},
	{"AWS", "arn:aws:iam::111122223333:user/u", "", "AIDAOTHER", "111122223333"},
	session("999999999999", "", "v", "i-3", "AROAFOREIGN"), session("999999999999", "", "stranger", "i-4", "AROASTRANGER"),
	{kind: "Service", arn: "ec2.amazonaws.com"}, {kind: "Service", arn: "lambda.amazonaws.com"}, {kind: "Federated", arn: "cognito-identity.amazonaws.com"},
}

// docs are the attestations that somebody can have made: of the expected images A and
// B on the host's instance, of A elsewhere, of one that nobody expects, of the kernel of
// A with the policy of B, and in debug mode, with PCR8 as it may be at worst.
var docs = func() map[string]map[int]string {
	home := func(zero, one, two, eight string) map[int]string {
		return map[int]string{0: expand(zero), 1: expand(one), 2: expand(two), 3: expand("V3"), 4: parentPCR("i-0123456789abcdef0"), 8: expand(eight)}
	}
	m := map[string]map[int]string{
		"A": home("A0", "A1", "A2", "A8"), "B": home("B0", "B1", "B2", "B8"), "C": home("C0", "C1", "C2", "C8"),
		"A with B": home("C0", "A1", "B2", "C8"), "C signed like A": home("C0", "C1", "C2", "A8"), "debug": home("ZERO", "ZERO", "ZERO", "A8"),
		"A elsewhere": home("A0", "A1", "A2", "A8"),
	}
	m["A elsewhere"][3], m["A elsewhere"][4] = parentPCR("arn:aws:iam::999999999999:role/of-no-policy"), parentPCR("i-0000000000000000f")
	return m
}()

// ownDocs are the same on an instance of each caller's own role.
var ownDocs = func() map[caller]map[string]map[int]string {
	m := map[caller]map[string]map[int]string{}
	for _, c := range callers {
		m[c] = map[string]map[int]string{}
		for name, pcrs := range docs {
			own := maps.Clone(pcrs)
			own[3] = parentPCR(c.role)
			if c != theHost {
				own[4] = parentPCR("i-0000000000000000d")
			}
			m[c][name] = own
		}
	}
	return m
}()

// wrong is a request that must not be granted unless Check names it, and why.
type wrong struct {
	request
	why string
}

// wrongs returns the requests of this small world that Check promises to name. That the
// image runs elsewhere is one of them where the policy says whose the KMS key is.
func wrongs(hosts map[string]bool, home bool) (list []wrong) {
	for _, c := range callers {
		for _, power := range powers() {
			switch {
			case power.attested:
				list = append(list, wrong{request{who: c, action: power.action}, "without attestation"})
				for name, pcrs := range docs {
					good := name == "A" || name == "B" || name == "C signed like A" || name == "A elsewhere" && (c.account == "111122223333" || !home)
					if !good {
						list = append(list, wrong{request{who: c, action: power.action, pcrs: pcrs}, name})
					}
				}
			case power.kind == Bypass:
				list = append(list, wrong{request{who: c, action: power.action}, "not in the enclave"})
			case hosts[c.role]:
				list = append(list, wrong{request{who: c, action: power.action}, "the host"})
			}
		}
	}
	return list
}

// names reports whether a statement means the caller, other than as one of its account,
// whose administrators are trusted.
func (s modelStatement) names(c caller) bool {
	if s.Principal != nil && s.Principal.include(caller{c.kind, c.arn, c.role, "", ""}) {
		return true
	}
	for operator, keys := range s.Condition {
		for key := range keys {
			if strings.EqualFold(key, "aws:PrincipalArn") && !strings.Contains(operator, "Not") && operator != "Null" {
				return true
			}
		}
	}
	return false
}

// hostsIn returns the roles that a policy lets use the key by name, and in the enclave
// only. Whoever gets in by an account alone is known to nobody.
func hostsIn(p modelPolicy) map[string]bool {
	hosts := map[string]bool{}
	for _, c := range callers {
		if c.role == "" || len(p.grants(request{who: c, action: "kms:Decrypt"})) > 0 {
			continue
		}
		in := map[string][]int{}
		for name, pcrs := range ownDocs[c] {
			in[name] = p.grants(request{who: c, action: "kms:Decrypt", pcrs: pcrs})
		}
		byName := slices.ContainsFunc(slices.Concat(in["A"], in["B"]), func(by int) bool { return p.Statement[by-1].names(c) })
		hosts[c.role] = byName && len(in["C"])+len(in["debug"])+len(in["A with B"]) == 0
	}
	return hosts
}

// managedAtHome reports whether somebody of the host's account, named with it, may replace
// the policy: the KMS key is that account's.
func managedAtHome(p modelPolicy) bool {
	for _, c := range callers {
		for _, by := range p.grants(request{who: c, action: "kms:PutKeyPolicy"}) {
			named := slices.DeleteFunc(slices.Clone(p.Statement[by-1].Principal["AWS"]), func(id string) bool { return !strings.Contains(id, "111122223333") })
			if c.account == "111122223333" && (modelPrincipals{"AWS": named}).include(c) {
				return true
			}
		}
	}
	return false
}

// unsound returns the first wrong request that KMS grants, and that Check does not name
// in the statement that grants it; "" if there is none.
func unsound(t *testing.T, text []byte) string {
	t.Helper()
	var p modelPolicy
	found, err := Check(text, []Image{image(0xa0), image(0xb0)})
	if err != nil || json.Unmarshal(text, &p) != nil {
		return ""
	}
	// Whoever gets around the enclave is named for that, and is not a host of one.
	hosts := hostsIn(p)
	if slices.ContainsFunc(found, func(f Finding) bool { return f.Kind == Bypass && slices.Contains(f.Actions, "kms:Decrypt") }) {
		hosts = nil
	}
	for _, w := range wrongs(hosts, managedAtHome(p)) {
		for _, by := range p.grants(w.request) {
			if w.why == "the host" && !p.Statement[by-1].names(w.who) {
				continue
			}
			known := func(f Finding) bool {
				statement, _, _ := strings.Cut(f.Statement, " (")
				here := statement == fmt.Sprintf("statement %d", by)
				return f.Kind == Unclear && (here || statement == "the policy") || f.Kind == Bypass && here && slices.Contains(f.Actions, w.action)
			}
			if !slices.ContainsFunc(found, known) {
				return fmt.Sprintf("%s may %s (%s) by statement %d:\n%s\n%+v", w.who.arn, w.action, w.why, by, text, found)
			}
		}
	}
	return ""
}

// pick returns one of a list.
func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// some returns one to three of a list.
func some(r *rand.Rand, list ...string) (l modelTexts) {
	for range 1 + r.IntN(3) {
		l = append(l, pick(r, list...))
	}
	return l
}

func randomPrincipals(r *rand.Rand) modelPrincipals {
	l := some(r, "everyone", "*", "iam/role/v", "iam/role/v", "iam/role/v", "iam/role/w", "iam/role/path/p", "iam/user/admin", "iam/user/u", "iam/root", "111122223333", "999999999999",
		"arn:aws:iam::999999999999:role/v", "sts/assumed-role/v/i-0", "sts/assumed-role/p/i-2", "AROAHOST", "AROAOTHER", "Service=ec2.amazonaws.com", "Federated=cognito-identity.amazonaws.com")
	return named(l...)
}

func randomCondition(r *rand.Rand) map[string]map[string]modelTexts {
	const role = "arn:aws:iam::111122223333:role/"
	c := map[string]map[string]modelTexts{}
	for range r.IntN(3) {
		negated := pick(r, "", "", "Not")
		operator := pick(r, "", "", "", "ForAllValues:", "ForAnyValue:") + "String" + negated + pick(r, "Equals", "EqualsIgnoreCase", "Like") + pick(r, "", "", "IfExists")
		key, values := "kms:RecipientAttestation:"+pick(r, "PCR0", "PCR0", "PCR0", "pcr1", "PCR2", "PCR3", "PCR8", "ImageSha384"), modelTexts{}
		for _, short := range some(r, "A0", "A0", "B0", "A1", "A2", "B1", "B2", "A8", "C0", "ZERO", "V3", "A0C") {
			values = append(values, expand(short))
		}
		if r.IntN(4) == 0 {
			key, values = pick(r, "aws:PrincipalArn", "AWS:principalarn"), some(r, role+"v", role+"w", role+"*", role+"path/*", role+"?", "*")
		}
		if r.IntN(12) == 0 {
			operator, values = "Null", modelTexts{pick(r, "true", "false")}
		}
		if c[operator] == nil {
			c[operator] = map[string]modelTexts{}
		}
		c[operator][key] = values
	}
	return c
}

func randomPolicy(r *rand.Rand) (p modelPolicy) {
	actions := []string{"kms:*", "*", "kms:Decrypt", "kms:decrypt", "kms:D*", "kms:GenerateDataKey", "kms:GenerateDataKey*", "kms:Encrypt", "kms:ReEncrypt*", "kms:CreateGrant", "kms:PutKeyPolicy", "kms:Put*", "kms:DescribeKey", "kms:ScheduleKeyDeletion", "s3:*"}
	for range 1 + r.IntN(4) {
		s := modelStatement{Effect: pick(r, "Allow", "Allow", "Deny"), Resource: modelTexts{pick(r, "*", "*", "*", "arn:aws:kms:eu-central-1:111122223333:key/x")}, Condition: randomCondition(r)}
		if r.IntN(6) == 0 {
			s.NotPrincipal = randomPrincipals(r)
		} else {
			s.Principal = randomPrincipals(r)
		}
		if r.IntN(6) == 0 {
			s.NotAction = some(r, actions...)
		} else {
			s.Action = some(r, actions...)
		}
		p.Statement = append(p.Statement, s)
	}
	return p
}

// Whatever KMS grants that it should not, Check names: of policies at random, and of
// those of check.txt.
func TestNobodyIsOverlooked(t *testing.T) {
	policies := 2500
	if testing.Short() {
		policies = 500
	}
	r := rand.New(rand.NewPCG(9, 7))
	granted := 0
	for range policies {
		p := randomPolicy(r)
		if slices.ContainsFunc(callers, func(c caller) bool { return len(p.grants(request{who: c, action: "kms:Encrypt"})) > 0 }) {
			granted++
		}
		if why := unsound(t, p.text(t)); why != "" {
			t.Fatal(why)
		}
	}
	if granted < policies/10 || granted > policies*9/10 {
		t.Errorf("%d of %d policies let somebody encrypt: they are too much alike", granted, policies)
	}
	for _, c := range blocks(t) {
		if why := unsound(t, []byte(c.policy())); why != "" {
			t.Errorf("%s: %s", c.title, why)
		}
	}
}

// The same from any seed, for `make fuzz`.
func FuzzNobodyIsOverlooked(f *testing.F) {
	f.Add(uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, one, two uint64) {
		r := rand.New(rand.NewPCG(one, two))
		for range 20 {
			if why := unsound(t, randomPolicy(r).text(t)); why != "" {
				t.Fatal(why)
			}
		}
	})
}
