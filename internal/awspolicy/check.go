package awspolicy

import (
	"fmt"
	"slices"
	"strings"
)

// Check reads a key policy, or what `aws kms get-key-policy` prints, and names
// every principal that can use the KMS key other than from inside one of the
// images, replace the policy, or end the KMS key. Without images any image is as good as another,
// as long as the policy names it. It errs on the bad side: a condition that it
// does not understand does not count, and a denial only where it is certain.
//
// It cannot see grants, replicas, IAM policies, or where the key's material
// comes from. The error is for text that is not a policy.
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
		return Bypass, p.means + ", inside any enclave or outside", nil, true
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
