package verify

import (
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"time"

	"privyseal/internal/claims"
	"privyseal/internal/sgx"
	"privyseal/internal/statement"
)

// report prints what the quote proves, and what it does not.
func (v *verified) report(w io.Writer) error {
	var b strings.Builder
	line := statement.Line(func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) })
	if !v.Anchor.IsIntel() {
		line("NOT INTEL: --test-root names a root of your own, %s.\nWhoever holds its key can make any quote. This is for tests; it proves nothing about a real enclave.\n", v.Anchor.Fingerprint())
	}
	who := "a platform of Intel's"
	if !v.Anchor.IsIntel() {
		who = "somebody below that root"
	}
	line("the quote is genuine: %s signed it, not in debug mode", who)
	v.reportMeasurements(line)
	v.reportPlatform(line)
	v.reportClaims(line)
	line.Proof(v.proves(), v.provesNot())
	_, err := io.WriteString(w, b.String())
	return err
}

// reportMeasurements prints what the enclave or trust domain is.
func (v *verified) reportMeasurements(line statement.Line) {
	if td := v.Quote.TD; td != nil {
		line("MRTD        %x", td.MRTD)
		for i, r := range td.RTMR {
			line("RTMR%d       %x", i, r)
		}
		line("attributes  %x, XFAM %x", td.Attributes, td.XFAM)
	} else {
		e := v.Enclave
		line("MRENCLAVE   %x", e.MRENCLAVE)
		line("MRSIGNER    %x", e.MRSIGNER)
		line("product     %d, SVN %d", e.ProductID, e.SVN)
		line("attributes  %x", e.Attributes)
	}
	if v.bare() {
		line("report data %x", v.ReportData())
	}
}

// reportPlatform prints on what it runs, and in which state that is.
func (v *verified) reportPlatform(line statement.Line) {
	p := v.Platform
	line("platform    PPID %x, FMSPC %x, certified by Intel's %s CA", p.PPID, p.FMSPC, p.CA)
	line("status      %s, by Intel's TCB evaluation %d, of all that was known on %s", v.Status, v.Evaluation, v.Date.UTC().Format("2006-01-02"))
	for _, part := range v.Parts {
		if part.Status != v.Status || len(v.Parts) > 1 && part.Status != sgx.UpToDate {
			line("  %-15s %s", part.Name, part.Status)
		}
	}
	if len(v.Advisories) > 0 {
		line("advisories  %s", strings.Join(v.Advisories, " "))
	}
	line("good until  %s, when %s ends", v.First.Until.UTC().Format(time.RFC3339), v.First.What)
}

// reportClaims prints the user data.
func (v *verified) reportClaims(line statement.Line) {
	if v.bare() {
		return
	}
	c := v.said.Claims
	if c.Purpose == "" {
		line("user data   %d bytes that privyseal did not write, SHA-256 %x", len(v.document.UserData), sha256.Sum256(v.document.UserData))
		return
	}
	line.Fields([][2]string{
		{"purpose", c.Purpose}, {"chain", c.Chain}, {"key type", c.KeyType}, {"origin", c.Origin}, {"sealed to", c.Seal}, {"backups for", c.Recipient},
		{"boot", c.Boot}, {"mark", c.Mark}, {"start", c.Start}, {"store", c.Store},
	}...)
	if c.Seq > 0 {
		line("%-11s %d", "sequence", c.Seq)
	}
	line.Key(v.said)
}

// what names who made the quote.
func (v *verified) what() string {
	switch {
	case v.named && v.Quote.TD != nil:
		return "the expected trust domain"
	case v.named && v.signer:
		return "an enclave of the expected signer and product"
	case v.named:
		return "the expected enclave"
	case v.Quote.TD != nil:
		return "some trust domain"
	}
	return "some enclave"
}

// proves returns what follows from the quote, given that all of it is as expected.
func (v *verified) proves() (list []string) {
	c, what := v.said.Claims, v.what()
	switch {
	case v.bare():
		list = append(list, what+" had the report data above quoted")
	case !v.named || c.Purpose == "":
		list = append(list, what+" made the document")
	case c.Purpose == claims.PurposeImport || c.Purpose == claims.PurposeWrap:
		list = append(list, what+" holds the private half of the document's own public key")
	default:
		held := "holds the key above in this boot, and signs with it under the rule of that program"
		switch c.Purpose {
		case claims.PurposeCreate:
			held = "sealed the key above, with the first record of its state"
		case claims.PurposeRecover:
			held = "took the key above out of a backup, and sealed it"
		case claims.PurposeState:
			held = "made a new state for the key above, at the mark above"
		}
		list = append(list, what+" "+held)
		if c.Purpose == claims.PurposeCreate && c.Origin == claims.Generated {
			list = append(list, "the key was made inside that enclave, and left it only for those who can open its backups")
		}
		if text := v.said.Signed(); text != "" {
			list = append(list, text)
		}
	}
	list = append(list, fmt.Sprintf("the platform was certified as %s by what Intel knew in its TCB evaluation %d", v.Status, v.Evaluation))
	if v.nonce {
		list = append(list, "the document was made after the nonce was chosen")
	}
	return list
}

// provesNot returns what a reader could believe all the same.
func (v *verified) provesNot() (list []string) {
	c := v.said.Claims
	if !v.named {
		list = append(list, "anything about privyseal: any program in anybody's enclave can claim the same")
	}
	if !v.nonce {
		list = append(list, "that it is fresh: without a nonce of yours it can be an old one, shown again, from a platform that is no longer in this state")
	}
	list = append(list, "that nobody has opened the machine: with a board between processor and memory, for less than 1,000 dollars, quoting keys were read (WireTap, Battering RAM, TEE.fail), and then any quote can be made; Intel calls that out of scope. Know where the machine is, and name it with --ppid")
	if !v.pinned {
		list = append(list, "on whose machine it runs: no --ppid was expected")
	}
	if key := v.named && c.Key != ""; key {
		switch {
		case strings.HasPrefix(c.Origin, claims.Imported):
			list = append(list, "that the key is nowhere else: it was imported, and copies may exist")
		case c.Purpose != claims.PurposeCreate:
			list = append(list, "that the key was made inside: only its sealed form says so; the document of its creation, which `privyseal init` saved, proves it")
		}
		if c.Recipient != "" {
			list = append(list, "that nobody else has the key: whoever holds the private half of "+c.Recipient+" can open its backups")
		}
		if c.Store == "" {
			list = append(list, "that no second enclave runs with an older state: SGX has no counter that a host cannot set back; compare boot, sequence and mark over time")
		}
	}
	if v.signer {
		list = append(list, "which program runs: the signer can sign another one with the same product and SVN; name it with --mrenclave or --sigstruct")
	}
	return list
}
