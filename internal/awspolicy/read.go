package awspolicy

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"privyseal/internal/strictjson"
)

// maxPolicy bounds a policy in bytes; AWS allows 32 KiB, before it is quoted
// into another document.
const maxPolicy = 128 << 10

const maxPCR = 32

const attestation = "kms:RecipientAttestation:"

// rule is one statement, as it was written.
type rule struct {
	name  string // for people: its number from 1 and its Sid
	allow bool

	principals   []principal
	notPrincipal bool // all but principals
	actions      []string
	notAction    bool // all but actions
	everything   bool // Resource is "*"
	conditions   []condition
}

// principal is one entry of a Principal or NotPrincipal element.
type principal struct {
	kind string // AWS, Service, Federated, CanonicalUser; "" for a bare "*"
	id   string // an account is its 12 digits
}

func (p principal) everyone() bool { return p.id == "*" && (p.kind == "" || p.kind == "AWS") }

func (p principal) account() bool { return p.kind == "AWS" && isAccount(p.id) }

// role returns what a role and its sessions have in common: account and name, in
// small letters, as two names of one account differ in more than case. Of others it
// is the id.
func (p principal) role() string {
	parts := strings.SplitN(p.id, ":", 6)
	if p.kind != "AWS" || len(parts) != 6 {
		return p.id
	}
	names := strings.Split(parts[5], "/")
	switch {
	case names[0] == "role": // with a path or without
		return strings.ToLower(parts[4] + "/" + names[len(names)-1])
	case names[0] == "assumed-role" && len(names) > 1:
		return strings.ToLower(parts[4] + "/" + names[1])
	}
	return p.id
}

// roleARN returns the ARN of a role, also of a session of it. A session does not
// say the role's path; it is taken for one without. Of others it is the id.
func (p principal) roleARN() string {
	parts := strings.SplitN(p.id, ":", 6)
	if p.kind != "AWS" || len(parts) != 6 {
		return p.id
	}
	session := strings.Split(parts[5], "/")
	if session[0] != "assumed-role" || len(session) < 2 {
		return p.id
	}
	return strings.Join([]string{parts[0], parts[1], "iam", parts[3], parts[4], "role/" + session[1]}, ":")
}

// roleARNs returns patterns of the ARNs that a role may have, none for others. A
// session does not say the role's path.
func (p principal) roleARNs() []string {
	arn := p.roleARN()
	parts := strings.SplitN(arn, ":", 6)
	switch {
	case p.kind != "AWS" || len(parts) != 6 || !strings.HasPrefix(parts[5], "role/"):
		return nil
	case arn == p.id:
		return []string{arn}
	}
	return []string{arn, strings.Replace(arn, ":role/", ":role/*/", 1)}
}

// String says who it is, for people.
func (p principal) String() string {
	switch {
	case p.everyone():
		return `everyone ("*"), in this account and in all others`
	case p.account():
		return "account " + p.id + ": its root user, and every user and role to which an IAM policy there gives it"
	case p.kind == "AWS" && !strings.HasPrefix(p.id, "arn:"):
		return "the principal with the unique id " + p.id + " (deleted, or of another account)"
	case p.kind == "AWS":
		return p.id
	}
	return p.kind + " " + p.id
}

// accountID returns the account that a principal belongs to, "" if that is not
// known.
func (p principal) accountID() string {
	if p.account() {
		return p.id
	}
	parts := strings.SplitN(p.id, ":", 6)
	if p.kind != "AWS" || len(parts) != 6 || !isAccount(parts[4]) {
		return ""
	}
	return parts[4]
}

// condition is one line of a Condition element: an operator, a key, and values.
type condition struct {
	operator, key string
	values        []string
}

// unclear is something that is not understood.
type unclear struct{ where, what string }

// parse reads a policy, or what `aws kms get-key-policy` prints around it. What
// it does not understand within a statement it returns beside the rules.
func parse(text []byte) (rules []rule, unknown []unclear, err error) {
	root, err := decodeObject(text)
	if err != nil {
		return nil, nil, err
	}
	if inner, ok := root["Policy"].(string); ok {
		if _, both := root["Statement"]; both {
			return nil, nil, errors.New("it has both a Statement and a Policy, so that it is not clear which one counts")
		}
		if root, err = decodeObject([]byte(inner)); err != nil {
			return nil, nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(root)) {
		if name != "Version" && name != "Id" && name != "Statement" {
			unknown = append(unknown, unclear{"the policy", fmt.Sprintf("the element %q", name)})
		}
	}
	var statements []any
	switch s := root["Statement"].(type) {
	case []any:
		statements = s
	case map[string]any:
		statements = []any{s}
	default:
		return nil, nil, errors.New("it has no Statement: is it the output of `aws kms get-key-policy`?")
	}
	for i, s := range statements {
		fields, ok := s.(map[string]any)
		if !ok {
			return nil, nil, fmt.Errorf("statement %d is not an object", i+1)
		}
		r, problems := parseRule(i+1, fields)
		rules = append(rules, r)
		for _, p := range problems {
			unknown = append(unknown, unclear{r.name, p})
		}
	}
	return rules, unknown, nil
}

// parseRule reads one statement. A problem in an Allow makes it wider here than
// it is, one in a Deny narrower: so that nobody is overlooked.
func parseRule(number int, fields map[string]any) (r rule, problems []string) {
	r.name = fmt.Sprintf("statement %d", number)
	if sid, ok := fields["Sid"].(string); ok && sid != "" {
		r.name += " (" + sid + ")"
	}
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	switch fields["Effect"] {
	case "Allow":
		r.allow = true
	case "Deny":
	case nil:
		problem("that it has no Effect, taken for Allow")
		r.allow = true
	default:
		problem("the Effect %v, taken for Allow", fields["Effect"])
		r.allow = true
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		value, ok := fields[name], true
		switch name {
		case "Sid", "Effect":
		case "Principal", "NotPrincipal":
			r.principals, ok = parsePrincipals(value)
			r.notPrincipal = name == "NotPrincipal"
		case "Action", "NotAction":
			r.actions, ok = texts(value)
			ok = ok && !slices.ContainsFunc(r.actions, func(a string) bool { return !isAction(a) })
			r.notAction = name == "NotAction"
		case "Resource":
			var resources []string
			resources, ok = texts(value)
			for _, res := range resources {
				r.everything = r.everything || res == "*"
			}
		case "NotResource": // other keys or none: an Allow stays, a Deny is not counted
		case "Condition":
			r.conditions, ok = parseConditions(value)
		default:
			problem("the element %q", name)
			continue
		}
		if !ok {
			problem("the form of %s", name)
		}
	}
	for _, pair := range [][2]string{{"Principal", "NotPrincipal"}, {"Action", "NotAction"}} {
		_, one := fields[pair[0]]
		_, other := fields[pair[1]]
		if one == other {
			problem("that it has both or neither of %s and %s", pair[0], pair[1])
		}
	}
	if _, also := fields["NotResource"]; also && fields["Resource"] != nil {
		problem("that it has both of Resource and NotResource")
	}
	if len(problems) > 0 {
		r.doubt(problems)
	}
	return r, append(problems, r.capitals()...)
}

// capitals names the conditions that can never hold as they were meant: KMS writes
// registers in lower case, and for StringEquals and StringNotEquals case counts.
func (r rule) capitals() (problems []string) {
	for _, c := range r.conditions {
		_, ok := register(c.key)
		if ok && (c.operator == "StringEquals" || c.operator == "StringNotEquals") && areMeasurements(c.values) && !slices.Equal(c.values, lower(c.values)) {
			problems = append(problems, fmt.Sprintf("upper-case letters in %s of %s: KMS writes lower case, so that they match nothing", c.key, c.operator))
		}
	}
	return problems
}

// isAction reports whether a text is an action or a pattern of them. Whether AWS
// takes a letter that only looks like one, or a space, is not for us to guess.
func isAction(s string) bool {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-*?"
	service, name, found := strings.Cut(s, ":")
	return s == "*" || found && service != "" && name != "" && strings.Trim(service+name, letters) == ""
}

// isPlain reports whether a text is ASCII without spaces.
func isPlain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// doubt makes a rule that was not understood count for the worst.
func (r *rule) doubt(problems []string) {
	if !r.allow {
		r.principals, r.notPrincipal = nil, false // denies nobody
		return
	}
	r.conditions = nil
	if len(r.principals) == 0 {
		r.principals = []principal{{id: "*"}}
	}
	if len(r.actions) == 0 || slices.Contains(problems, "the form of Action") || slices.Contains(problems, "the form of NotAction") {
		r.actions, r.notAction = []string{"kms:*"}, false
	}
}

func parsePrincipals(value any) (list []principal, ok bool) {
	if value == "*" {
		return []principal{{id: "*"}}, true
	}
	fields, ok := value.(map[string]any)
	if !ok {
		return nil, false
	}
	for _, kind := range slices.Sorted(maps.Keys(fields)) {
		ids, isText := texts(fields[kind])
		if !isText {
			return nil, false
		}
		switch kind {
		case "AWS", "Service", "Federated", "CanonicalUser":
		default:
			ok = false
		}
		for _, id := range ids {
			// Wildcards within a name do not exist here.
			ok = ok && (id == "*" || id != "" && !strings.ContainsAny(id, "*?") && isPlain(id))
			list = append(list, principal{kind, accountOf(id)})
		}
	}
	return list, ok && len(list) > 0
}

// accountOf returns the 12 digits of an account that is written as an ARN, and
// any other text as it is.
func accountOf(id string) string {
	parts := strings.Split(id, ":")
	if len(parts) == 6 && parts[0] == "arn" && parts[2] == "iam" && parts[5] == "root" && isAccount(parts[4]) {
		return parts[4]
	}
	return id
}

func parseConditions(value any) (list []condition, ok bool) {
	operators, ok := value.(map[string]any)
	if !ok {
		return nil, false
	}
	for _, operator := range slices.Sorted(maps.Keys(operators)) {
		keys, isObject := operators[operator].(map[string]any)
		if !isObject || !isPlain(operator) {
			return nil, false
		}
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			values, isText := texts(keys[key])
			if !isText || !isPlain(key) {
				return nil, false
			}
			list = append(list, condition{operator, key, values})
		}
	}
	return list, true
}

// texts returns a text, a list of texts, or booleans and numbers as texts.
func texts(value any) (list []string, ok bool) {
	switch v := value.(type) {
	case string:
		return []string{v}, true
	case bool, json.Number:
		return []string{fmt.Sprint(v)}, true
	case []any:
		for _, e := range v {
			one, ok := texts(e)
			if _, nested := e.([]any); !ok || nested {
				return nil, false
			}
			list = append(list, one...)
		}
		return list, len(list) > 0
	}
	return nil, false
}

// decodeObject reads one JSON object. `aws … --output text` prints the policy's
// name, default, after it.
func decodeObject(text []byte) (map[string]any, error) {
	if len(text) > maxPolicy {
		return nil, fmt.Errorf("it has more than %d bytes", maxPolicy)
	}
	text = bytes.TrimSuffix(bytes.TrimSpace(text), []byte("default"))
	if err := strictjson.Check(text); err != nil {
		return nil, fmt.Errorf("not valid JSON: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		return nil, fmt.Errorf("not valid JSON: %w", err)
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("it is not a JSON object")
	}
	return object, nil
}

func isAccount(s string) bool { return len(s) == 12 && strings.Trim(s, "0123456789") == "" }

// register returns which PCR a condition key is about.
func register(key string) (i int, ok bool) {
	name := strings.ToLower(key)
	name, ok = strings.CutPrefix(name, strings.ToLower(attestation))
	if !ok {
		return 0, false
	}
	if name == "imagesha384" {
		return 0, true
	}
	number, ok := strings.CutPrefix(name, "pcr")
	i, err := strconv.Atoi(number)
	return i, ok && err == nil && i >= 0 && i < maxPCR && strconv.Itoa(i) == number
}

func areMeasurements(values []string) bool {
	for _, v := range values {
		if b, err := hex.DecodeString(v); err != nil || len(b) != 48 {
			return false
		}
	}
	return len(values) > 0
}

func lower(values []string) []string {
	l := make([]string, len(values))
	for i, v := range values {
		l[i] = strings.ToLower(v)
	}
	return l
}
