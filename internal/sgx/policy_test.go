package sgx

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"privyseal/internal/sgx/sgxtest"
)

// table returns the rows of a file in testdata, split at spaces.
func table(t *testing.T, name string) (rows [][]string) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 0 && !strings.HasPrefix(line, "#") {
			rows = append(rows, fields)
		}
	}
	return rows
}

// The state of a platform is that of its parts together, by testdata/states.txt.
func TestStates(t *testing.T) {
	short := map[string]Status{"U": UpToDate, "H": HardeningNeeded, "C": configurationNeeded, "CH": configurationHardening, "O": outOfDate, "OC": outOfDateConfiguration, "R": revoked}
	rows := table(t, "states.txt")
	if len(rows) != len(short)+1 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, row := range rows[1:] {
		for i, part := range rows[0][1:] {
			if got, want := short[row[0]].with(short[part]), short[row[i+1]]; got != want || want == "" {
				t.Errorf("%s with %s: %s, want %s", row[0], part, got, want)
			}
		}
	}
}

// The advisories are those of all parts, and the date is the older one.
func TestStatesAndAdvisories(t *testing.T) {
	got := Level{UpToDate, []string{"INTEL-SA-00002"}, day}.with(Level{outOfDate, []string{"INTEL-SA-00003", "INTEL-SA-00001", "INTEL-SA-00002"}, day.Add(-1)})
	if got.Status != outOfDate || strings.Join(got.Advisories, " ") != "INTEL-SA-00001 INTEL-SA-00002 INTEL-SA-00003" || !got.Date.Equal(day.Add(-1)) {
		t.Errorf("%+v", got)
	}
}

// list splits what stands between commas; - is nothing.
func list(text string) []string {
	if text == "-" {
		return nil
	}
	return strings.Split(text, ",")
}

func advisories(text string) (names []string) {
	for _, n := range list(text) {
		names = append(names, "INTEL-SA-0000"+n)
	}
	return names
}

// A policy accepts a state by testdata/policy.txt.
func TestAcceptedStates(t *testing.T) {
	rows := table(t, "policy.txt")
	if len(rows) < 30 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, row := range rows {
		p := Policy{AnyEnclave: true, Advisories: advisories(row[3])}
		for _, s := range list(row[2]) {
			p.Statuses = append(p.Statuses, Status(s))
		}
		v := &Verified{Quote: &Quote{Enclave: &Enclave{}}, Level: Level{Status: Status(row[0]), Advisories: advisories(row[1])}}
		verdict := "accepted"
		var m Mismatches
		if err := p.Check(v); errors.As(err, &m) {
			verdict, _, _ = strings.Cut(m[0].Field, " ")
		} else if err != nil {
			t.Fatal(err)
		}
		if verdict != row[4] {
			t.Errorf("%s: %s", strings.Join(row, " "), verdict)
		}
	}
}

// What a policy names is compared, and what it does not name is not.
func TestPolicy(t *testing.T) {
	b := func(first byte, n int) []byte { return append([]byte{first}, make([]byte, n-1)...) }
	enclave := &Verified{
		Quote:    &Quote{Enclave: &Enclave{MRENCLAVE: [32]byte{1}, MRSIGNER: [32]byte{2}, ProductID: 7, SVN: 3, ReportData: [64]byte{4}}},
		Platform: Platform{PPID: [16]byte{5}, FMSPC: [6]byte{6}}, Level: Level{Status: UpToDate}, Contents: Contents{Evaluation: 17},
	}
	td := &Verified{Quote: &Quote{TD: &TD{MRTD: [48]byte{1}, ReportData: [64]byte{4}}}, Level: Level{Status: HardeningNeeded}}
	for name, tt := range map[string]struct {
		v      *Verified
		policy Policy
		wrong  string // fields that differ, as text
	}{
		"the enclave":             {enclave, Policy{MRENCLAVE: b(1, 32)}, ""},
		"another enclave":         {enclave, Policy{MRENCLAVE: b(2, 32)}, "MRENCLAVE"},
		"a part of it":            {enclave, Policy{MRENCLAVE: b(1, 31)}, "MRENCLAVE"},
		"the signer's product":    {enclave, Policy{MRSIGNER: b(2, 32), ProductID: 7, MinSVN: 3}, ""},
		"an older floor":          {enclave, Policy{MRSIGNER: b(2, 32), ProductID: 7, MinSVN: 2}, ""},
		"a later floor":           {enclave, Policy{MRSIGNER: b(2, 32), ProductID: 7, MinSVN: 4}, "SVN"},
		"another product":         {enclave, Policy{MRSIGNER: b(2, 32), ProductID: 8}, "product"},
		"another signer":          {enclave, Policy{MRSIGNER: b(1, 32), ProductID: 7}, "MRSIGNER"},
		"both":                    {enclave, Policy{MRENCLAVE: b(1, 32), MRSIGNER: b(2, 32), ProductID: 7}, ""},
		"a domain in its place":   {enclave, Policy{MRTD: b(1, 48)}, "MRTD"},
		"any":                     {enclave, Policy{AnyEnclave: true}, ""},
		"product without signer":  {enclave, Policy{AnyEnclave: true, ProductID: 9, MinSVN: 9}, ""},
		"the domain":              {td, Policy{MRTD: b(1, 48)}, ""},
		"another domain":          {td, Policy{MRTD: b(2, 48)}, "MRTD"},
		"an enclave in its place": {td, Policy{MRENCLAVE: b(1, 32), MRSIGNER: b(2, 32), ProductID: 7}, "MRENCLAVE MRSIGNER"},

		"report data":          {enclave, Policy{AnyEnclave: true, ReportData: b(4, 64)}, ""},
		"of 32 bytes":          {enclave, Policy{AnyEnclave: true, ReportData: b(4, 32)}, ""},
		"of a domain":          {td, Policy{AnyEnclave: true, ReportData: b(4, 64)}, ""},
		"other report data":    {enclave, Policy{AnyEnclave: true, ReportData: b(5, 64)}, "report data"},
		"report data of none":  {enclave, Policy{AnyEnclave: true, ReportData: []byte{}}, "report data"},
		"too much report data": {enclave, Policy{AnyEnclave: true, ReportData: b(4, 65)}, "report data"},

		"the evaluation":   {enclave, Policy{AnyEnclave: true, MinEvaluation: 17}, ""},
		"a later one":      {enclave, Policy{AnyEnclave: true, MinEvaluation: 18}, "TCB evaluation"},
		"the platform":     {enclave, Policy{AnyEnclave: true, PPIDs: [][]byte{b(9, 16), b(5, 16)}, FMSPCs: [][]byte{b(6, 6)}}, ""},
		"another platform": {enclave, Policy{AnyEnclave: true, PPIDs: [][]byte{b(9, 16)}}, "PPID"},
		"another model":    {enclave, Policy{AnyEnclave: true, FMSPCs: [][]byte{b(9, 6), b(6, 5)}}, "FMSPC"},
		"everything at once": {enclave, Policy{MRENCLAVE: b(9, 32), MRSIGNER: b(9, 32), ProductID: 9, MinSVN: 9, ReportData: b(9, 9), PPIDs: [][]byte{{}}},
			"MRENCLAVE MRSIGNER product SVN report data PPID"},
	} {
		err := tt.policy.Check(tt.v)
		var m Mismatches
		if err != nil && !errors.As(err, &m) {
			t.Errorf("%s: %v", name, err)
		}
		var fields []string
		for _, x := range m {
			fields = append(fields, x.Field)
		}
		if got := strings.Join(fields, " "); got != tt.wrong {
			t.Errorf("%s: %q, want %q", name, got, tt.wrong)
		}
		if m != nil && !strings.HasPrefix(m.Error(), "the quote is not as expected:\n  "+m[0].Field+": got ") {
			t.Errorf("%s: %v", name, m)
		}
	}
	for name, p := range map[string]Policy{"nothing": {}, "a product alone": {ProductID: 7, MinSVN: 3}, "report data alone": {ReportData: b(4, 64)}} {
		if err := p.Check(enclave); err != errNoEnclave {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The words of Intel that an operator types.
func TestWords(t *testing.T) {
	for text, good := range map[string]bool{"OutOfDate": true, "UpToDate": true, "ConfigurationAndSWHardeningNeeded": true, "Revoked": false, "": false, "outofdate": false} {
		if s, err := ParseStatus(text); (err == nil) != good || good && string(s) != text {
			t.Errorf("%q: %v", text, err)
		}
	}
	for text, good := range map[string]bool{"INTEL-SA-00615": true, "INTEL-SA-0615": false, "SA-00615": false, "INTEL-SA-00615\n": false, "INTEL-SA-0061x": false, "": false} {
		if err := ParseAdvisory(text); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A bundle is read back as it was written, and nothing else is read.
func TestBundle(t *testing.T) {
	w := newWorld(t)
	text, err := w.Collateral()
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseCollateral(text)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	d, err := ParseCollateral(again)
	if err != nil || fmt.Sprint(c) != fmt.Sprint(d) {
		t.Errorf("%v, %v", d, err)
	}
	for name, change := range map[string]func(string) string{
		"a field that is unknown":   func(s string) string { return strings.Replace(s, "{", `{"x": 1,`, 1) },
		"a field that is twice":     func(s string) string { return strings.Replace(s, "{", `{"qe_identity": "",`, 1) },
		"hex in capitals":           func(s string) string { return strings.Replace(s, `"root_ca_crl": "`, `"root_ca_crl": "AA`, 1) },
		"hex of half a byte":        func(s string) string { return strings.Replace(s, `"root_ca_crl": "`, `"root_ca_crl": "3`, 1) },
		"a number for hex":          func(s string) string { return strings.Replace(s, `"root_ca_crl": "`, `"root_ca_crl": 3082, "x": "`, 1) },
		"something behind":          func(s string) string { return s + "x" },
		"nothing":                   func(s string) string { return "" },
		"four megabytes and a byte": func(s string) string { return s + strings.Repeat(" ", MaxCollateral) },
	} {
		changed := change(string(again))
		if changed == string(again) {
			t.Errorf("%s: nothing was changed", name)
		}
		if _, err := ParseCollateral([]byte(changed)); err == nil {
			t.Errorf("%s is read", name)
		}
	}
}

// Collateral says for what it is.
func TestContents(t *testing.T) {
	w := newWorld(t)
	anchor, err := ParseAnchor(w.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	onText(sgxtest.QEIdentity, func(m map[string]any) { m["tcbEvaluationDataNumber"] = 16 })(w)
	for tee, make := range map[string]func() ([]byte, error){"SGX": w.Collateral, "TDX": w.TDCollateral} {
		text, err := make()
		if err != nil {
			t.Fatal(err)
		}
		c, err := ParseCollateral(text)
		if err != nil {
			t.Fatal(err)
		}
		k, err := c.Verify(anchor, day)
		if err != nil || k.TEE != tee || k.FMSPC != w.FMSPC || k.CA != "platform" || k.Evaluation != 16 || !k.First.Until.Equal(day.AddDate(0, 0, 30)) {
			t.Errorf("%+v, %v", k, err)
		}
		if claims, err := c.Claims(); err != nil || claims.TEE != k.TEE || claims.FMSPC != k.FMSPC || claims.CA != k.CA || claims.Evaluation != 17 {
			t.Errorf("it claims %+v, %v", claims, err)
		}
		if _, err := c.Verify(Anchor{}, day); !errors.Is(err, errChain) {
			t.Errorf("under Intel's root: %v", err)
		}
	}
}

// Collateral whose own CA is revoked is of no use, whatever quote it is for.
func TestContentsOfARevokedCA(t *testing.T) {
	w := newWorld(t)
	w.Revoked = []string{sgxtest.PlatformCA}
	anchor, err := ParseAnchor(w.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := collateralOf(w.Intel).Verify(anchor, day); !errors.Is(err, errRevoked) {
		t.Error(err)
	}
}

// seeds are quotes for fuzzing.
func seeds(f *testing.F) (list [][]byte) {
	i := newIntel(f)
	sgx, err := i.Quote(sgxtest.Enclave{})
	if err != nil {
		f.Fatal(err)
	}
	td, err := i.TDQuote(sgxtest.TD{})
	if err != nil {
		f.Fatal(err)
	}
	return [][]byte{sgx, td, slices.Concat(td, []byte{0, 0}), sgx[:500], bytes.Repeat([]byte{3}, 700), {4, 0, 2, 0, 0x81}}
}

// Whatever somebody hands in as a quote is refused or is one, and nothing panics.
func FuzzQuote(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	i := newIntel(f)
	text, err := i.Collateral()
	if err != nil {
		f.Fatal(err)
	}
	anchor, err := ParseAnchor(i.RootPEM())
	if err != nil {
		f.Fatal(err)
	}
	c, err := ParseCollateral(text)
	if err != nil {
		f.Fatal(err)
	}
	o, err := c.open(anchor, day)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		q, err := Parse(raw)
		if err != nil {
			if !errors.Is(err, errMalformed) || q != nil {
				t.Fatalf("%v, %v", q, err)
			}
			return
		}
		if (q.Enclave == nil) == (q.TD == nil) || len(q.signature) != 64 || len(q.attestation) != 64 || len(q.qe) != enclaveSize || len(q.chain) == 0 {
			t.Fatalf("%+v", q)
		}
		if v, err := q.verify(o); err == nil {
			t.Fatalf("a quote that this Intel has not signed is %+v", v)
		}
	})
}

// Collateral comes from anybody, too.
func FuzzCollateral(f *testing.F) {
	w := newIntel(f)
	text, err := w.Collateral()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"qe_identity": "{}"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ParseCollateral(text)
		if err != nil {
			return
		}
		if again, err := c.Encode(); err != nil {
			t.Fatal(err)
		} else if d, err := ParseCollateral(again); err != nil || fmt.Sprint(c) != fmt.Sprint(d) {
			t.Fatalf("%v is read back as %v: %v", c, d, err)
		}
		if _, err := c.Verify(Anchor{}, day); err == nil {
			t.Fatal("it is Intel's")
		}
		parseTCBInfo([]byte(c.TCBInfo))
		parseQEIdentity([]byte(c.Identity))
	})
}
