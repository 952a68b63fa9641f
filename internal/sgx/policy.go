package sgx

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// errNoEnclave says that a quote was to be checked without naming the enclave that made it.
// Anybody's enclave gets good quotes.
var errNoEnclave = errors.New("no enclave is expected, and a quote of just any enclave proves nothing: name MRENCLAVE, or MRSIGNER with its product, or the MRTD of a trust domain")

// Policy is what a quote has to say. The zero Policy names no enclave, and so refuses every
// quote.
type Policy struct {
	MRENCLAVE []byte // of 32 bytes
	// MRSIGNER is that of a signer, of whose product ProductID every enclave from MinSVN on
	// is expected.
	MRSIGNER  []byte
	ProductID uint16
	MinSVN    uint16
	MRTD      []byte // of 48 bytes, of a trust domain
	// AnyEnclave lets all of the above be absent.
	AnyEnclave bool

	// ReportData are compared if they are not nil, with zeros after them up to 64 bytes.
	ReportData []byte

	// Statuses and Advisories are accepted: a state that is neither UpToDate nor
	// SWHardeningNeeded only if its status is named, and each of its advisories.
	Statuses   []Status
	Advisories []string
	// MinEvaluation is the least number of Intel's evaluations that the collateral is of.
	MinEvaluation uint32

	// PPIDs and FMSPCs are those of platforms that are expected, if there are any.
	PPIDs, FMSPCs [][]byte
}

// Mismatch is something in a quote that is not as expected.
type Mismatch struct {
	Field string // "MRENCLAVE", "status", …
	Got   string // hex of bytes; empty if it is not there
	Want  string
}

// Mismatches are all that were found, never none. Others may append theirs.
type Mismatches []Mismatch

// Error returns one line for each mismatch.
func (m Mismatches) Error() string {
	var b strings.Builder
	b.WriteString("the quote is not as expected:")
	for _, x := range m {
		fmt.Fprintf(&b, "\n  %s: got %s, want %s", x.Field, cmp.Or(x.Got, "nothing"), cmp.Or(x.Want, "nothing"))
	}
	return b.String()
}

// Check compares a quote with p. The error is [errNoEnclave], or [Mismatches] with all that
// differs.
func (p Policy) Check(v *Verified) error {
	if p.MRENCLAVE == nil && p.MRSIGNER == nil && p.MRTD == nil && !p.AnyEnclave {
		return errNoEnclave
	}
	m := p.measurements(v)
	if p.ReportData != nil {
		got, want := v.ReportData(), [64]byte{}
		copy(want[:], p.ReportData)
		if got != want || len(p.ReportData) > len(want) {
			m = append(m, Mismatch{"report data", hex.EncodeToString(got[:]), hex.EncodeToString(p.ReportData)})
		}
	}
	m = append(m, p.state(v.Level)...)
	if v.Evaluation < p.MinEvaluation {
		m = append(m, Mismatch{"TCB evaluation", fmt.Sprint(v.Evaluation), fmt.Sprintf("%d or a later one", p.MinEvaluation)})
	}
	m.among("PPID", v.Platform.PPID[:], p.PPIDs)
	m.among("FMSPC", v.Platform.FMSPC[:], p.FMSPCs)
	if m != nil {
		return m
	}
	return nil
}

// among notes a value that is not among those expected, if there are any.
func (m *Mismatches) among(field string, got []byte, want [][]byte) {
	if len(want) == 0 || slices.ContainsFunc(want, func(w []byte) bool { return bytes.Equal(got, w) }) {
		return
	}
	var list []string
	for _, w := range want {
		list = append(list, hex.EncodeToString(w))
	}
	*m = append(*m, Mismatch{field, hex.EncodeToString(got), strings.Join(list, " or ")})
}

// measurements compares what the enclave or trust domain is.
func (p Policy) measurements(v *Verified) (m Mismatches) {
	compare := func(field string, got, want []byte) {
		if want != nil && !bytes.Equal(got, want) {
			m = append(m, Mismatch{field, hex.EncodeToString(got), hex.EncodeToString(want)})
		}
	}
	if v.TD != nil {
		compare("MRENCLAVE", nil, p.MRENCLAVE)
		compare("MRSIGNER", nil, p.MRSIGNER)
		compare("MRTD", v.TD.MRTD[:], p.MRTD)
		return m
	}
	e := v.Enclave
	compare("MRENCLAVE", e.MRENCLAVE[:], p.MRENCLAVE)
	compare("MRSIGNER", e.MRSIGNER[:], p.MRSIGNER)
	compare("MRTD", nil, p.MRTD)
	if p.MRSIGNER != nil && e.ProductID != p.ProductID {
		m = append(m, Mismatch{"product", fmt.Sprint(e.ProductID), fmt.Sprint(p.ProductID)})
	}
	if p.MRSIGNER != nil && e.SVN < p.MinSVN {
		m = append(m, Mismatch{"SVN", fmt.Sprint(e.SVN), fmt.Sprintf("%d or a later one", p.MinSVN)})
	}
	return m
}

// state notes what in a level is not accepted.
func (p Policy) state(l Level) (m Mismatches) {
	if l.Status == UpToDate || l.Status == HardeningNeeded {
		return nil
	}
	if l.Status == revoked || !slices.Contains(p.Statuses, l.Status) {
		return Mismatches{{"status", string(l.Status), strings.Join(p.accepted(), " or ")}}
	}
	for _, a := range l.Advisories {
		if !slices.Contains(p.Advisories, a) {
			m = append(m, Mismatch{"advisory of " + string(l.Status), a, "only those that are accepted"})
		}
	}
	return m
}

func (p Policy) accepted() []string {
	list := []string{string(UpToDate), string(HardeningNeeded)}
	for _, s := range p.Statuses {
		if s != revoked && !slices.Contains(list, string(s)) {
			list = append(list, string(s))
		}
	}
	return list
}
