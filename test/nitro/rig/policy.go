package rig

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
)

// keyPolicy is a KMS key policy, evaluated as IAM does it: what no statement
// allows is denied, and what one denies is denied. An unknown element, operator or
// field is an error, so that a policy is not read as less than it says.
//
// Rules: "Policy evaluation logic", "IAM JSON policy elements: Condition operators"
// and "AWS KMS condition keys" of AWS's guides.
type keyPolicy struct{ statements []statement }

type statement struct {
	Sid, Effect      string
	Principal        any
	NotPrincipal     any
	Action, Resource stringList
	NotAction        stringList
	Condition        map[string]map[string]stringList
}

// stringList is a string or a list of them. Conditions also have booleans.
type stringList []string

func (l *stringList) UnmarshalJSON(b []byte) error {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	list, isList := v.([]any)
	if !isList {
		list = []any{v}
	}
	for _, x := range list {
		*l = append(*l, fmt.Sprint(x))
	}
	return nil
}

func parsePolicy(text []byte) (*keyPolicy, error) {
	var p struct {
		Version, ID string
		Statement   []json.RawMessage
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return nil, fmt.Errorf("key policy: %w", err)
	}
	out := &keyPolicy{}
	for _, raw := range p.Statement {
		var s statement
		d := json.NewDecoder(strings.NewReader(string(raw)))
		d.DisallowUnknownFields()
		if err := d.Decode(&s); err != nil {
			return nil, fmt.Errorf("key policy: %w", err)
		}
		if s.Effect != "Allow" && s.Effect != "Deny" {
			return nil, fmt.Errorf("key policy: effect %q", s.Effect)
		}
		out.statements = append(out.statements, s)
	}
	return out, nil
}

// call is what a policy judges.
type call struct {
	action    string // kms:Decrypt
	principal string // arn:aws:iam::ACCOUNT:role/NAME
	key       string // ARN
	// context are condition keys in lower case, with their values.
	context map[string][]string
}

// allows returns nil, or who denied it.
func (p *keyPolicy) allows(c call) error {
	allowed := false
	for _, s := range p.statements {
		applies, err := s.applies(c)
		switch {
		case err != nil:
			return err
		case applies && s.Effect == "Deny":
			return fmt.Errorf("with an explicit deny in a resource-based policy (%s)", s.Sid)
		case applies:
			allowed = true
		}
	}
	if !allowed {
		return fmt.Errorf("because no resource-based policy allows the %s action", c.action)
	}
	return nil
}

func (s statement) applies(c call) (bool, error) {
	principal := s.Principal == nil && s.NotPrincipal != nil && !matchesPrincipal(s.NotPrincipal, c.principal) ||
		s.NotPrincipal == nil && matchesPrincipal(s.Principal, c.principal)
	action := s.NotAction == nil && matchesAny(s.Action, c.action, true) ||
		s.NotAction != nil && !matchesAny(s.NotAction, c.action, true)
	if !principal || !action || !matchesAny(s.Resource, c.key, false) {
		return false, nil
	}
	for operator, keys := range s.Condition {
		for key, want := range keys {
			ok, err := condition(operator, c.context[strings.ToLower(key)], want)
			if err != nil || !ok {
				return false, err
			}
		}
	}
	return true, nil
}

func matchesPrincipal(p any, arn string) bool {
	account := strings.Split(arn, ":")[4]
	switch p := p.(type) {
	case string:
		return p == "*"
	case map[string]any:
		raw, _ := json.Marshal(p["AWS"])
		var list stringList
		if p["AWS"] == nil || list.UnmarshalJSON(raw) != nil {
			return false
		}
		// An account's root stands for the account, which hands the decision on to
		// IAM: for these tests, to whoever it is.
		return slices.ContainsFunc(list, func(x string) bool {
			return x == "*" || x == arn || x == account || strings.HasSuffix(x, "::"+account+":root")
		})
	}
	return false
}

func matchesAny(patterns []string, s string, fold bool) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return like(p, s, fold) })
}

// like compares with * and ? standing for characters, slashes too.
func like(pattern, s string, fold bool) bool {
	if fold {
		pattern, s = strings.ToLower(pattern), strings.ToLower(s)
	}
	ok, err := path.Match(strings.ReplaceAll(pattern, "/", "\x00"), strings.ReplaceAll(s, "/", "\x00"))
	return err == nil && ok
}

// condition judges one key. Without a set operator, a key has one value.
func condition(operator string, got, want []string) (bool, error) {
	set, plain, isSet := strings.Cut(operator, ":")
	if !isSet {
		set, plain = "", operator
	}
	if plain == "Null" {
		return fmt.Sprint(got == nil) == want[0], nil
	}
	name, ifExists := strings.CutSuffix(plain, "IfExists")
	one, negative := conditionOperator(name, want)
	if one == nil || set != "" && set != "ForAnyValue" && set != "ForAllValues" {
		return false, fmt.Errorf("key policy: operator %q", operator)
	}
	if ifExists && got == nil {
		return true, nil
	}
	switch {
	case set == "ForAllValues":
		return !slices.ContainsFunc(got, func(v string) bool { return !one(v) }), nil
	case len(got) == 0:
		return negative && set == "", nil
	}
	return slices.ContainsFunc(got, one), nil
}

// conditionOperator returns the test of one value, and whether it is a negation,
// which holds for a key that is not there.
func conditionOperator(name string, want []string) (test func(string) bool, negative bool) {
	equal := func(v string) bool { return slices.Contains(want, v) }
	fold := func(v string) bool {
		return slices.ContainsFunc(want, func(w string) bool { return strings.EqualFold(v, w) })
	}
	glob := func(v string) bool { return matchesAny(want, v, false) }
	switch name {
	case "StringEquals", "ArnEquals":
		return equal, false
	case "StringEqualsIgnoreCase", "Bool":
		return fold, false
	case "StringLike", "ArnLike":
		return glob, false
	case "StringNotEquals", "ArnNotEquals":
		return func(v string) bool { return !equal(v) }, true
	case "StringNotEqualsIgnoreCase":
		return func(v string) bool { return !fold(v) }, true
	case "StringNotLike", "ArnNotLike":
		return func(v string) bool { return !glob(v) }, true
	}
	return nil, false
}
