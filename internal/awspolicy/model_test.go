package awspolicy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// What KMS would do: a second reading of key policies, made of AWS's documents and
// of nothing of this package. It answers for one request at a time, where Check
// answers for all: what it grants to somebody who should not have it, Check has to
// name.
//
//   - IAM User Guide, "Policy evaluation logic": what no statement allows is denied,
//     and what one denies is denied.
//   - "IAM JSON policy elements: Condition operators": a key that is absent makes a
//     condition false, and a negated one true; IfExists and ForAllValues are true.
//   - "IAM JSON policy elements: Principal" and "NotPrincipal": a role stands for its
//     sessions, an account for everybody in it.
//   - KMS Developer Guide, "Condition keys for Nitro Enclaves": the registers, in
//     small letters, for requests with a document only.

// modelTexts is a text or a list of them. Conditions also have booleans.
type modelTexts []string

func (l *modelTexts) UnmarshalJSON(b []byte) error {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	many, isList := v.([]any)
	if !isList {
		many = []any{v}
	}
	for _, x := range many {
		*l = append(*l, fmt.Sprint(x))
	}
	return nil
}

// modelPrincipals is "*", or who by kind.
type modelPrincipals map[string]modelTexts

func (p *modelPrincipals) UnmarshalJSON(b []byte) error {
	if string(b) == `"*"` {
		*p = modelPrincipals{"*": nil}
		return nil
	}
	var m map[string]modelTexts
	err := json.Unmarshal(b, &m)
	*p = m
	return err
}

type modelStatement struct {
	Sid                     string                           `json:",omitempty"`
	Effect                  string                           `json:",omitempty"`
	Principal, NotPrincipal modelPrincipals                  `json:",omitempty"`
	Action, NotAction       modelTexts                       `json:",omitempty"`
	Resource, NotResource   modelTexts                       `json:",omitempty"`
	Condition               map[string]map[string]modelTexts `json:",omitempty"`
}

type modelPolicy struct{ Statement []modelStatement }

// caller is who asks KMS.
type caller struct {
	kind    string // AWS, Service, Federated
	arn     string // of AWS: a user, or the session of a role
	role    string // the ARN of the role, if it is a session
	unique  string // the unique id of the user or role
	account string
}

func (c caller) names() []string {
	return slices.DeleteFunc([]string{c.arn, c.role, c.unique, c.account, "arn:aws:iam::" + c.account + ":root"}, func(n string) bool { return n == "" || n == "arn:aws:iam:::root" })
}

// request is what KMS is asked. PCRs are nil without an attestation document.
type request struct {
	who        caller
	action     string
	pcrs       map[int]string
	encryption map[string]string // the encryption context
}

// context returns the value of a condition key, "" if it is absent.
func (r request) context(key string) string {
	key = strings.ToLower(key)
	name := r.who.role
	if name == "" {
		name = r.who.arn
	}
	if name, pinned := strings.CutPrefix(key, "kms:encryptioncontext:"); pinned {
		return r.encryption[name]
	}
	switch key {
	case "aws:principalarn":
		return name
	case "aws:userid":
		return r.who.unique
	case "kms:calleraccount", "aws:principalaccount":
		return r.who.account
	case "aws:securetransport":
		return "true"
	case "kms:recipientattestation:imagesha384":
		return r.pcrs[0]
	}
	name, _ = strings.CutPrefix(key, "kms:recipientattestation:pcr")
	if i, err := strconv.Atoi(name); err == nil && name == strconv.Itoa(i) {
		return r.pcrs[i]
	}
	return ""
}

// match is *, ? and case, spelled out where this package goes back to the last star.
func match(pattern, text string) bool {
	switch {
	case pattern == "":
		return text == ""
	case pattern[0] == '*':
		return match(pattern[1:], text) || text != "" && match(pattern, text[1:])
	}
	return text != "" && (pattern[0] == '?' || pattern[0] == text[0]) && match(pattern[1:], text[1:])
}

func (p modelPrincipals) include(c caller) bool {
	for kind, ids := range p {
		switch {
		case kind == "*":
			return true
		case kind == c.kind && slices.ContainsFunc(ids, func(id string) bool { return id == "*" || slices.Contains(c.names(), id) }):
			return true
		}
	}
	return false
}

// holds evaluates one line of a Condition.
func (r request) holds(operator, key string, values []string) bool {
	set, name, isSet := strings.Cut(operator, ":")
	if !isSet {
		set, name = "", operator
	}
	actual := r.context(key)
	base, ifExists := strings.CutSuffix(name, "IfExists")
	if base == "Null" {
		return slices.Contains(values, fmt.Sprint(actual == ""))
	}
	positive, negated := strings.Replace(base, "Not", "", 1), strings.Contains(base, "Not")
	switch {
	case actual == "" && set == "ForAnyValue":
		return false
	case actual == "":
		return ifExists || negated || set == "ForAllValues"
	}
	same := func(v string) bool {
		switch positive {
		case "StringEquals", "Bool":
			return v == actual
		case "StringEqualsIgnoreCase":
			return strings.EqualFold(v, actual)
		case "StringLike", "ArnEquals", "ArnLike":
			return match(v, actual)
		}
		panic("the model does not know " + operator)
	}
	return slices.ContainsFunc(values, same) != negated
}

// isAbout reports whether a pattern of actions has that of the request. Case does not count.
func (r request) isAbout(pattern string) bool {
	return strings.EqualFold(pattern, r.action) || strings.ContainsAny(pattern, "*?") && match(strings.ToLower(pattern), strings.ToLower(r.action))
}

func (s modelStatement) applies(r request) bool {
	who, action := s.Principal.include(r.who), s.Action
	if s.NotPrincipal != nil {
		who = !s.NotPrincipal.include(r.who)
	}
	if s.NotAction != nil {
		action = s.NotAction
	}
	if !who || slices.ContainsFunc(action, r.isAbout) == (s.NotAction != nil) || s.Resource != nil && !slices.Contains(s.Resource, "*") {
		return false
	}
	for operator, keys := range s.Condition {
		for key, values := range keys {
			if !r.holds(operator, key, values) {
				return false
			}
		}
	}
	return true
}

// grants returns the numbers from 1 of the statements by which a request is granted.
func (p modelPolicy) grants(r request) (by []int) {
	for i, s := range p.Statement {
		switch {
		case !s.applies(r):
		case s.Effect == "Deny":
			return nil
		default:
			by = append(by, i+1)
		}
	}
	return by
}

// The operators, line by line: what holds of a request without a document, with the
// one of the expected image, with the one of another; and what Check makes of each
// where it allows, and where it denies everybody.
func TestOperators(t *testing.T) {
	documents := []map[int]string{nil, docs["A"], docs["C"]}
	table(t, "operators.txt", 3, func(cells []string) string {
		operator, key, values := cells[0], cells[1], strings.Fields(cells[2])
		for i := range values {
			values[i] = expand(values[i])
		}
		condition := map[string]map[string]modelTexts{operator: {"kms:RecipientAttestation:" + key: values}}
		host := modelPrincipals{"AWS": {hostRole}}
		allow := modelPolicy{[]modelStatement{{Effect: "Allow", Principal: host, Action: modelTexts{"kms:Decrypt"}, Resource: modelTexts{"*"}, Condition: condition}}}
		deny := modelPolicy{[]modelStatement{
			{Effect: "Allow", Principal: host, Action: modelTexts{"kms:Decrypt"}, Resource: modelTexts{"*"}},
			{Effect: "Deny", Principal: modelPrincipals{"*": nil}, Action: modelTexts{"kms:Decrypt"}, Resource: modelTexts{"*"}, Condition: condition},
		}}
		var b strings.Builder
		for _, p := range []modelPolicy{allow, deny} {
			var in []string
			for i, pcrs := range documents {
				if len(p.grants(request{who: theHost, action: "kms:Decrypt", pcrs: pcrs})) > 0 {
					in = append(in, []string{"bare", "A", "C"}[i])
				}
			}
			if in == nil {
				in = []string{"-"}
			}
			fmt.Fprintf(&b, "%-8s %-8s| ", strings.Join(in, " "), verdictOf(t, p))
		}
		return strings.TrimRight(b.String(), " |")
	})
}

// verdictOf returns the worst that Check says of a policy, "nobody" for nothing.
func verdictOf(t *testing.T, p modelPolicy) string {
	t.Helper()
	found, err := Check(p.text(t), []Image{image(0xa0), image(0xb0)})
	if err != nil {
		t.Fatal(err)
	}
	worst := "nobody"
	var k Kind
	for _, f := range found {
		if k = max(k, f.Kind); k == f.Kind {
			worst = kindWords[k]
		}
	}
	return worst
}

var kindWords = [...]string{"enclave", "signer", "destroy", "rewrite", "UNCLEAR", "BYPASS"}

// text writes a policy as JSON.
func (p modelPolicy) text(t *testing.T) []byte {
	t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// MarshalJSON writes "*" or who by kind.
func (p modelPrincipals) MarshalJSON() ([]byte, error) {
	if _, all := p["*"]; all {
		return []byte(`"*"`), nil
	}
	return json.Marshal(map[string]modelTexts(p))
}

// A denial for one principal or for all but some, line by line: whether somebody who
// is allowed by name is shut out, as KMS would do it for a session of a role or for a
// user, and whether Check counts on it. It may count on less than KMS does, never on
// more.
func TestDenials(t *testing.T) {
	table(t, "denials.txt", 3, func(cells []string) string {
		allowed, element, who := cells[0], cells[1], cells[2]
		p := modelPolicy{[]modelStatement{
			{Effect: "Allow", Principal: named(allowed), Action: modelTexts{"kms:Encrypt"}, Resource: modelTexts{"*"}},
			{Effect: "Deny", Action: modelTexts{"kms:*"}, Resource: modelTexts{"*"}},
		}}
		if d := &p.Statement[1]; element == "Principal" {
			d.Principal = named(strings.Fields(who)...)
		} else {
			d.NotPrincipal = named(strings.Fields(who)...)
		}
		in := false
		for _, c := range callers {
			in = in || len(p.grants(request{who: c, action: "kms:Encrypt"})) > 0
		}
		counted := verdictOf(t, p) == "nobody"
		if in && counted {
			t.Errorf("%v: somebody is let in, and Check names nobody", cells)
		}
		return fmt.Sprintf("%-8s %s", map[bool]string{true: "let in", false: "out"}[in], map[bool]string{true: "counts", false: "does not count"}[counted])
	})
}

// named returns principals of their short names: Service:x, Federated:x, everyone, or
// what is in an AWS element.
func named(names ...string) modelPrincipals {
	p := modelPrincipals{}
	for _, n := range names {
		kind, id, typed := strings.Cut(n, "=")
		switch {
		case n == "everyone":
			return modelPrincipals{"*": nil}
		case typed:
			p[kind] = append(p[kind], id)
		default:
			p["AWS"] = append(p["AWS"], strings.NewReplacer("iam/", "arn:aws:iam::111122223333:", "sts/", "arn:aws:sts::111122223333:").Replace(n))
		}
	}
	return p
}
