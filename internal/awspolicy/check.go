package awspolicy

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Kind says how bad a finding is.
type Kind int

// The kinds, from harmless to bad.
const (
	Enclave Kind = iota // somebody may use the key in an expected image, as it should be
	Signer              // the same in any image that the owner of an expected certificate signs
	Destroy             // somebody may end the KMS key, or make it useless, and with it all that is wrapped
	Rewrite             // somebody may replace the policy, and so all that it says
	Unclear             // something was not understood, and may let anybody do anything
	Bypass              // somebody gets around the enclave
)

// Finding is one thing about a policy.
type Finding struct {
	Kind      Kind
	Statement string   // which one, for people
	Who       string   // principal, for people; empty if Unclear
	Actions   []string // what the principal may do
	Text      string   // what follows from it

	who        principal
	conditions []condition // what else the statement asks for
	pcr3       []string    // of which roles the instance has to be, if it is said
	instance   bool        // PCR3 or PCR4 says on whose instance the enclave has to run
}

// power is an action by which somebody could get around the enclave.
type power struct {
	action string
	// attested actions take an attestation document, and a condition on it.
	// Without, a condition that wants one is never met.
	attested bool
	kind     Kind // of who has it: Bypass, Rewrite or Destroy
	means    string
}

func powers() []power {
	const (
		opens  = "opens wrapped keys"
		forges = "wraps a key that it knows, and passes it off as made in the enclave"
		ends   = "ends the KMS key or keeps it from use, and with it every key that is wrapped under it"
	)
	return []power{
		{"kms:Decrypt", true, Bypass, opens},
		{"kms:ReEncryptFrom", false, Bypass, "moves wrapped keys under a KMS key of its own"},
		{"kms:CreateGrant", false, Bypass, "gives these rights to others"},
		{"kms:ReplicateKey", false, Bypass, "makes a replica of the KMS key with another policy"},
		{"kms:GenerateDataKey", true, Bypass, forges},
		{"kms:Encrypt", false, Bypass, forges},
		{"kms:ReEncryptTo", false, Bypass, forges},
		{"kms:ImportKeyMaterial", false, Bypass, "makes the KMS key one that it knows"},
		{"kms:PutKeyPolicy", false, Rewrite, "replaces this policy"},
		{"kms:ScheduleKeyDeletion", false, Destroy, ends},
		{"kms:DeleteImportedKeyMaterial", false, Destroy, ends},
		{"kms:DisableKey", false, Destroy, ends},
		{"kms:RevokeGrant", false, Destroy, ends},
		{"kms:UpdatePrimaryRegion", false, Destroy, ends},
	}
}

// Check reads a key policy, or what `aws kms get-key-policy` prints, and names
// every principal that can use the KMS key other than from inside one of the
// images, replace the policy, or end the KMS key. Without images any image is as good as another,
// as long as the policy names it. It errs on the bad side: a condition that it
// does not understand does not count, and a denial only where it is certain.
//
// It cannot see grants, replicas, IAM policies, or where the key's material
// comes from. The error is for text that is no policy.
func Check(text []byte, images []Image) ([]Finding, error) {
	rules, unknown, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("cannot read the key policy: %w", err)
	}
	var found []Finding
	for _, u := range unknown {
		found = append(found, Finding{Kind: Unclear, Statement: u.where, Text: "not understood: " + u.what})
	}
	var denials []rule
	for _, r := range rules {
		if !r.allow {
			denials = append(denials, r)
		}
	}
	for _, r := range rules {
		if r.allow {
			found = append(found, judge(r, denials, images)...)
		}
	}
	return condemn(found, rules), nil
}

// judge returns what follows from one Allow, with one finding for each
// principal and kind.
func judge(r rule, denials []rule, images []Image) (found []Finding) {
	limits := r.limits()
	for _, who := range r.named() {
		group := map[string]int{}
		for _, p := range powers() {
			if !r.covers(p.action) {
				continue
			}
			kind, means, must, possible := verdict(limits, who, p, denials, images)
			if !possible {
				continue
			}
			conditions := slices.Concat(r.conditions, left(who, p, denials))
			key := fmt.Sprint(kind, means, conditions)
			at, known := group[key]
			if !known {
				at = len(found)
				group[key] = at
				found = append(found, Finding{
					Kind: kind, Statement: r.name, Who: who.String() + r.remark(), Text: means,
					who: who, conditions: conditions, pcr3: must[3], instance: must.nameInstance(),
				})
			}
			found[at].Actions = append(found[at].Actions, p.action)
		}
	}
	return found
}

// verdict says what a principal can do with a power, after all denials, and which
// registers the enclave has to have for it.
func verdict(l limits, who principal, p power, denials []rule, images []Image) (k Kind, means string, must registers, possible bool) {
	if len(l.is) > 0 && !p.attested {
		return 0, "", nil, false // the condition is never met
	}
	for _, d := range denials {
		if !d.everything || !d.covers(p.action) || !d.includes(who) {
			continue
		}
		guard, certain := d.guard(p.attested)
		switch {
		case !certain:
		case guard.none() || !p.attested:
			return 0, "", nil, false
		default:
			l = l.and(guard)
		}
	}
	if !p.attested {
		return p.kind, p.means, nil, true
	}
	must = l.must()
	switch {
	case must.empty():
		return 0, "", nil, false // no document meets it
	case !must.nameImage() && !must.nameSigner() && len(must) > 0:
		return Bypass, p.means + ", in any image with " + must.String(), nil, true
	case !must.nameImage() && !must.nameSigner():
		return Bypass, p.means + ", in any enclave or in none", nil, true
	}
	if bad := must.unexpected(images); bad != "" {
		return Bypass, p.means + ", " + bad, nil, true
	}
	if must.nameImage() {
		return Enclave, "in the enclave only: " + must.String(), must, true
	}
	if !l.noDebug() {
		return Bypass, p.means + ", in an image of that signer in debug mode, which hides nothing from its host: deny it where PCR0 is zero", nil, true
	}
	return Signer, "in every image that the owner of the signing key signs, now or later: " + must.String(), must, true
}

// limits are what an attestation has to be, and what it must not be. The second
// holds for a request without attestation, too.
type limits struct{ is, not registers }

func (l limits) none() bool { return len(l.is) == 0 && len(l.not) == 0 }

// and returns what meets both.
func (l limits) and(other limits) limits {
	not := registers{}
	for i := range maxPCR {
		if both := slices.Concat(l.not[i], other.not[i]); len(both) > 0 {
			not[i] = both
		}
	}
	return limits{l.is.and(other.is), not}
}

// must returns the values that are left.
func (l limits) must() registers {
	left := registers{}
	for i, values := range l.is {
		left[i] = slices.DeleteFunc(slices.Clone(values), func(v string) bool { return slices.Contains(l.not[i], v) })
	}
	return left
}

// noDebug reports whether an enclave in debug mode is shut out. PCR0, PCR1 and PCR2
// are zero there; that the others are, nobody promises.
func (l limits) noDebug() bool {
	must := l.must()
	for i := range 3 {
		if _, named := must[i]; named && !slices.ContainsFunc(must[i], isZero) || slices.ContainsFunc(l.not[i], isZero) {
			return true
		}
	}
	return false
}

func isZero(measurement string) bool { return strings.Trim(measurement, "0") == "" }

// registers are the values that the attestation must have, in lower-case hex.
type registers map[int][]string

// and returns what meets both.
func (r registers) and(other registers) registers {
	both := registers{}
	for i, values := range r {
		both[i] = values
	}
	for i, values := range other {
		mine, there := both[i]
		if !there {
			both[i] = values
			continue
		}
		both[i] = slices.DeleteFunc(slices.Clone(mine), func(v string) bool { return !slices.Contains(values, v) })
	}
	return both
}

func (r registers) nameImage() bool {
	_, whole := r[0]
	_, kernel := r[1]
	_, program := r[2]
	return whole || kernel && program
}

// nameSigner reports whether the image has to be signed with a certificate that is
// named.
func (r registers) nameSigner() bool { return len(r[8]) > 0 && !slices.ContainsFunc(r[8], isZero) }

// nameInstance reports whether the enclave has to run on the instance of a role
// (PCR3), or on one instance (PCR4). Zero is an instance without a role.
func (r registers) nameInstance() bool {
	return len(r[3]) > 0 && !slices.ContainsFunc(r[3], isZero) || len(r[4]) > 0 && !slices.ContainsFunc(r[4], isZero)
}

func (r registers) empty() bool {
	for _, values := range r {
		if len(values) == 0 {
			return true
		}
	}
	return false
}

// unexpected says what is wrong with the images that r lets through, if
// anything is.
func (r registers) unexpected(images []Image) string {
	for i := range 3 {
		if slices.ContainsFunc(r[i], isZero) {
			return "in an enclave in debug mode, which hides nothing from its host"
		}
	}
	if len(images) == 0 {
		return ""
	}
	one := func(value string, register func(Image) []byte) bool {
		return slices.ContainsFunc(images, func(i Image) bool { return hex.EncodeToString(register(i)) == value })
	}
	var names []string
	_, whole := r[0]
	switch {
	case whole:
		for _, v := range r[0] {
			if !one(v, pcr0) {
				names = append(names, v)
			}
		}
	case r.nameImage():
		for _, kernel := range r[1] {
			for _, program := range r[2] {
				if !slices.ContainsFunc(images, func(i Image) bool {
					return hex.EncodeToString(i.PCR1) == kernel && hex.EncodeToString(i.PCR2) == program
				}) {
					names = append(names, kernel+" with "+program)
				}
			}
		}
	default:
		for _, v := range r[8] {
			if !one(v, pcr8) {
				names = append(names, "any that is signed with the certificate of PCR8 "+v)
			}
		}
	}
	if len(names) > 0 {
		return "in another image: " + strings.Join(names, ", ")
	}
	return ""
}

// String lists the registers for people.
func (r registers) String() string {
	var parts []string
	for i := range maxPCR {
		if values, there := r[i]; there {
			parts = append(parts, fmt.Sprintf("PCR%d %s", i, strings.Join(values, " or ")))
		}
	}
	return strings.Join(parts, ", ")
}

const maxPCR = 32

// limits returns the registers that an Allow demands. Only plain equality with
// whole values counts: IfExists and ForAllValues hold where nothing is attested.
func (r rule) limits() limits {
	l := registers{}
	for _, c := range r.conditions {
		if c.operator != "StringEquals" && c.operator != "StringEqualsIgnoreCase" {
			continue
		}
		if i, ok := register(c.key); ok && areMeasurements(c.values) {
			l = l.and(registers{i: lower(c.values)})
		}
	}
	return limits{is: l}
}

// guard returns what a request has to attest to escape a Deny: nothing, for one
// without conditions, lets nobody escape. If it is not certain, whoever meets
// the conditions otherwise may.
func (r rule) guard(attested bool) (escape limits, certain bool) {
	switch len(r.conditions) {
	case 0:
		return limits{}, true
	case 1:
	default:
		return limits{}, false // all conditions have to hold, or nothing is denied
	}
	c := r.conditions[0]
	i, ok := register(c.key)
	values := lower(c.values)
	switch c.operator {
	case "StringNotEquals", "StringNotEqualsIgnoreCase":
		return limits{is: registers{i: values}}, ok && areMeasurements(values)
	case "StringEquals", "StringEqualsIgnoreCase":
		// AWS writes small letters; capitals would equal nothing.
		same := c.operator == "StringEqualsIgnoreCase" || slices.Equal(values, c.values)
		return limits{not: registers{i: values}}, ok && attested && same && areMeasurements(values)
	case "Null":
		return limits{}, ok && !attested && slices.Equal(c.values, []string{"true"})
	}
	return limits{}, false
}

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

// covers reports whether a statement is about an action. Case does not count.
func (r rule) covers(action string) bool {
	matches := slices.ContainsFunc(r.actions, func(pattern string) bool {
		return wildcard(strings.ToLower(pattern), strings.ToLower(action))
	})
	return matches != r.notAction
}

// wildcard reports whether text matches a pattern with * and ?. It goes back to
// the last * only, which is enough, and keeps it linear in both.
func wildcard(pattern, text string) bool {
	i, j, star, mark := 0, 0, -1, 0
	for j < len(text) {
		switch {
		case i < len(pattern) && pattern[i] == '*':
			star, mark = i, j
			i++
		case i < len(pattern) && (pattern[i] == '?' || pattern[i] == text[j]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[i:], "*") == ""
}

// overlap reports whether some text matches both patterns, whatever its case. A
// variable, ${…}, is any text. What would take too long to say may.
func overlap(a, b string) bool {
	a, b = withoutVariables(strings.ToLower(a)), withoutVariables(strings.ToLower(b))
	if len(a)*len(b) > 1<<20 {
		return true
	}
	// row[j] says whether a[i:] and b[j:] overlap, next[j] the same of a[i+1:].
	next := make([]bool, len(b)+1)
	for i := len(a); i >= 0; i-- {
		row := make([]bool, len(b)+1)
		for j := len(b); j >= 0; j-- {
			switch {
			case i == len(a) && j == len(b):
				row[j] = true
			case i < len(a) && a[i] == '*', j < len(b) && b[j] == '*':
				row[j] = i < len(a) && next[j] || j < len(b) && row[j+1]
			case i < len(a) && j < len(b):
				row[j] = (a[i] == b[j] || a[i] == '?' || b[j] == '?') && next[j+1]
			}
		}
		next = row
	}
	return next[0]
}

// withoutVariables returns a pattern in which each variable is a star.
func withoutVariables(pattern string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(pattern, "${")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		b.WriteByte('*')
		_, pattern, _ = strings.Cut(rest, "}")
	}
}

// named returns whom an Allow is for.
func (r rule) named() []principal {
	if !r.notPrincipal {
		return r.principals
	}
	// All but some is as good as all: it holds for everybody elsewhere, too.
	return []principal{{id: "*"}}
}

// remark returns what else an Allow is bound to, for people. It may shut
// everybody out, but that is for them to judge.
func (r rule) remark() string {
	var parts []string
	if r.notPrincipal {
		var but []string
		for _, p := range r.principals {
			but = append(but, p.String())
		}
		parts = append(parts, "except "+strings.Join(but, " and "))
	}
	for _, c := range r.conditions {
		if _, ok := register(c.key); ok && (c.operator == "StringEquals" || c.operator == "StringEqualsIgnoreCase") {
			continue
		}
		parts = append(parts, fmt.Sprintf("if %s %s %s", c.key, c.operator, strings.Join(c.values, " or ")))
	}
	if len(parts) == 0 {
		return ""
	}
	return ", " + strings.Join(parts, ", ")
}

// includes reports whether a Deny certainly is for a principal. An account
// stands for those whom its IAM policies let, and only a Deny for all hits each
// of them.
func (r rule) includes(who principal) bool {
	if !r.notPrincipal {
		return slices.ContainsFunc(r.principals, func(p principal) bool {
			return p.kind == "" && p.everyone() || p.everyone() && who.kind == "AWS" || p == who && !who.account()
		})
	}
	arn := func(p principal) bool { return p.kind == "AWS" && strings.HasPrefix(p.id, "arn:") }
	session := func(p principal) bool { return strings.Contains(p.id, ":sts:") }
	if who.kind != "Service" && !arn(who) || session(who) {
		return false
	}
	// Whether naming a role excepts its sessions, an account its roles, and an
	// identity provider whoever comes from there, is subtle, and a unique id may be
	// anybody's: what is near to an exception counts as one.
	return !slices.ContainsFunc(r.principals, func(p principal) bool {
		return p.role() == who.role() || p.kind != "Service" && !arn(p) || session(p)
	})
}
