package awspolicy

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

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
