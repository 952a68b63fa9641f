package awspolicy

import (
	"slices"
	"strings"
)

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
