package awspolicy

import (
	"slices"
	"strings"
)

// condemn finds those who have a right that they should not: to replace the policy
// or to end the KMS key, where they are anybody or the enclave's own host; to use
// the key in the enclave, where that may run on anybody's instance.
//
// The role of the instance is the host's: whoever is root there has its
// credentials. A second enclave of the same image leaks no key, but it signs from
// the state that its host gives it: in the hands of somebody else that is a double
// signature.
func condemn(found []Finding, rules []rule) []Finding {
	hosts, home := hostsOf(found), homeOf(found, rules)
	for i := range found {
		f := &found[i]
		var why string
		switch f.Kind {
		case Enclave, Signer:
			why = f.elsewhere(home)
		case Rewrite:
			why = f.unfit(hosts, "the host could let in any image")
		case Destroy:
			why = f.unfit(hosts, "the host could take the validator's key away forever")
			if why == "" && !f.who.everyone() && !home[f.who.accountID()] {
				why = "although it belongs to another account"
			}
		}
		if why == "" && (f.Kind != Rewrite && f.Kind != Destroy || !f.who.everyone()) {
			continue
		}
		f.Kind = Bypass
		if why != "" {
			f.Text += ", " + why
		}
	}
	return found
}

// elsewhere says why the enclave may run where nobody watches over its state.
func (f *Finding) elsewhere(home map[string]bool) string {
	const twin = "; the instance is not restricted (PCR3 of its role), so it can run a second enclave from an older state, which signs twice"
	switch {
	case f.instance:
	case f.who.everyone():
		return "for everybody" + twin
	case f.who.kind != "AWS":
		return "on behalf of somebody who is not named" + twin
	case !home[f.who.accountID()]:
		return "for another account" + twin
	case len(home) > 1:
		return "although two accounts manage the KMS key, and only its own account can" + twin
	}
	return ""
}

// unfit says why a principal must not manage the KMS key, where it is not simply
// everybody.
func (f *Finding) unfit(hosts hosts, threat string) string {
	switch {
	case f.who.everyone():
	case f.who.kind != "AWS":
		return "on behalf of somebody who is not named here"
	case f.who.account():
		if f.aimsAt(hosts) {
			return "under a condition that may mean who uses the key in the enclave: " + threat
		}
	case hosts.has(f.who):
		return "although it uses the key in the enclave: " + threat
	case f.who.accountID() == "":
		return "and nobody can know who that is: " + threat + " if it is the enclave's role"
	}
	return ""
}

// hosts are those who have the credentials of an enclave's host.
type hosts struct {
	named    map[string]bool // principal.role of roles and others
	arns     []string        // of roles; from a condition also patterns
	measured map[string]bool // PCR3: the hash of a role's ARN
}

// hostsOf returns whoever may use the key in an enclave, and every role whose ARN is
// behind a PCR3 that it has to have. Where use is granted to an account, a condition
// or PCR3 alone says which role that is.
func hostsOf(found []Finding) hosts {
	h := hosts{named: map[string]bool{}, measured: map[string]bool{}}
	add := func(p principal) {
		if !p.account() && !p.everyone() {
			h.named[p.role()] = true
			h.arns = append(h.arns, p.roleARN())
		}
	}
	for _, f := range found {
		if f.Kind != Enclave && f.Kind != Signer {
			continue
		}
		for _, p := range f.callers() {
			add(p)
		}
		for _, v := range f.pcr3 {
			h.measured[v] = true
		}
	}
	for _, f := range found {
		for _, p := range f.callers() {
			if h.measured[parentPCR(p.roleARN())] {
				add(p) // and its sessions, which do not say the role's path
			}
		}
	}
	return h
}

// callers returns the principal of a finding, and those that its conditions name.
func (f *Finding) callers() []principal {
	list := []principal{f.who}
	for _, c := range f.conditions {
		if positive, ok := c.compares(); ok && positive && strings.EqualFold(c.key, "aws:PrincipalArn") {
			for _, v := range c.values {
				list = append(list, principal{"AWS", accountOf(v)})
			}
		}
	}
	return list
}

// has reports whether a principal may be a host: by name, by its hash, or as a role that
// a pattern leaves room for.
func (h hosts) has(p principal) bool {
	return h.named[p.role()] || h.measured[parentPCR(p.roleARN())] ||
		slices.ContainsFunc(p.roleARNs(), func(arn string) bool { return h.match(arn) })
}

// match reports whether a pattern of ARNs leaves room for a host.
func (h hosts) match(pattern string) bool {
	return slices.ContainsFunc(h.arns, func(arn string) bool { return overlap(pattern, arn) })
}

// aimsAt reports whether the conditions of an Allow for a whole account leave it to
// the host, or to somebody of whom that is unknown. Conditions that have nothing
// to do with who asks leave it to the account, whose administrators are trusted.
func (f *Finding) aimsAt(h hosts) bool {
	aims := false
	for _, c := range f.conditions {
		positive, compares := c.compares()
		key := strings.ToLower(c.key)
		switch {
		case !compares:
		case strings.HasPrefix(key, "ec2:"), strings.HasPrefix(key, "aws:ec2instance"):
			aims = aims || positive // credentials of an instance
		case key == "aws:userid":
			// AIDA is a user; another unique id may be the role's.
			aims = aims || positive && slices.ContainsFunc(c.values, func(v string) bool { return !strings.HasPrefix(v, "AIDA") })
		case key == "aws:principalarn" && positive:
			aims = aims || slices.ContainsFunc(c.values, h.may)
		case key == "aws:principalarn" && h.excluded(c):
			return false
		}
	}
	return aims
}

// may reports whether a value of aws:PrincipalArn, which can be a pattern, may be a
// host.
func (h hosts) may(value string) bool {
	if strings.Contains(value, "${") || strings.ContainsAny(value, "*?") && h.unnamed() {
		return true
	}
	return h.has(principal{"AWS", accountOf(value)}) || h.match(value)
}

// unnamed reports whether a role is known by its hash alone. It is not one of those that
// are named, and may be any that a pattern leaves room for.
func (h hosts) unnamed() bool {
	for pcr3 := range h.measured {
		if !slices.ContainsFunc(h.arns, func(arn string) bool { return parentPCR(arn) == pcr3 }) {
			return true
		}
	}
	return false
}

// excluded reports whether a negated condition certainly shuts out each host.
func (h hosts) excluded(c condition) bool {
	if len(h.arns) == 0 || strings.Contains(c.operator, ":") || h.unnamed() {
		return false
	}
	for _, arn := range h.arns {
		if !slices.Contains(c.values, arn) {
			return false
		}
	}
	return true
}

// left returns what denials ask of whoever a power is left to: one for all but a role
// is as good as an Allow for that role.
func left(who principal, p power, denials []rule) (list []condition) {
	for _, d := range denials {
		if !d.everything || !d.covers(p.action) || !d.includes(who) || len(d.conditions) != 1 {
			continue
		}
		c := d.conditions[0]
		positive, ok := c.compares()
		switch {
		case !ok:
		case !positive:
			list = append(list, condition{"StringLike", c.key, c.values})
		case !strings.Contains(c.operator, ":"):
			list = append(list, condition{"StringNotLike", c.key, c.values})
		}
	}
	return list
}

// compares reports whether a condition compares texts or ARNs, and whether it holds
// where they are the same.
func (c condition) compares() (positive, ok bool) {
	name := strings.ToLower(c.operator)
	if _, rest, set := strings.Cut(name, ":"); set {
		name = rest
	}
	switch strings.TrimSuffix(name, "ifexists") {
	case "stringequals", "stringequalsignorecase", "stringlike", "arnequals", "arnlike":
		return true, true
	case "stringnotequals", "stringnotequalsignorecase", "stringnotlike", "arnnotequals", "arnnotlike":
		return false, true
	}
	return false, false
}

// homeOf returns the accounts whose the KMS key may be: of those who may replace its
// policy. KMS lets nobody else do that, so that of two one has no right to it. Where
// nobody may, it is that of all whom the policy names, if they have one.
func homeOf(found []Finding, rules []rule) map[string]bool {
	managers, named := map[string]bool{}, map[string]bool{}
	for _, f := range found {
		if id := f.who.accountID(); id != "" && f.Kind == Rewrite {
			managers[id] = true
		}
	}
	for _, r := range rules {
		for _, who := range r.principals {
			if id := who.accountID(); id != "" && r.allow && !r.notPrincipal {
				named[id] = true
			}
		}
	}
	switch {
	case len(managers) > 0:
		return managers
	case len(named) == 1:
		return named
	}
	return map[string]bool{}
}
