package verify

import (
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"privyseal/internal/claims"
	"privyseal/internal/nitro"
	"privyseal/internal/statement"
)

// report prints what the document proves, and what it does not.
func (v *Verified) report(w io.Writer) error {
	var b strings.Builder
	line := statement.Line(func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) })
	if !v.Anchor.IsAWS() {
		line("%s\n", NotAWS(v.Anchor))
	}
	who := "AWS's hypervisor"
	if !v.Anchor.IsAWS() {
		who = "somebody below that root"
	}
	line("the document is genuine: %s signed it at %s, not in debug mode", who, v.Doc.Time.UTC().Truncate(time.Second).Format(time.RFC3339))
	line("enclave     %s", v.Doc.ModuleID)
	for _, i := range []int{0, 1, 2, 3, 4, 8} {
		if value := v.Doc.PCRs[i]; value != nil {
			line("PCR%d        %x", i, value)
		}
	}
	v.reportClaims(line)
	if v.Policy != nil {
		line("\nthe image's policy permits:")
		for _, text := range permits(v.Policy) {
			line("  = %s", text)
		}
	}
	line.Proof(v.proves(), v.provesNot())
	_, err := io.WriteString(w, b.String())
	return err
}

// NotAWS warns of a document that is checked against a root for tests.
func NotAWS(a nitro.Anchor) string {
	return fmt.Sprintf("NOT AWS: --test-root names an attestation root of your own, %s.\nWhoever holds its key can make any document, and whoever runs the KMS of this image knows its keys. This is for tests; it proves nothing about a real enclave.", a.Fingerprint())
}

// reportClaims prints the user data.
func (v *Verified) reportClaims(line statement.Line) {
	c := v.Statement.Claims
	if !v.Statement.Ours && !v.Statement.foreign {
		if v.Doc.UserData != nil {
			sum := sha256.Sum256(v.Doc.UserData)
			line("user data   %d bytes that privyseal did not write, SHA-256 %x", len(v.Doc.UserData), sum)
		}
		return
	}
	fields := [][2]string{
		{"purpose", c.Purpose}, {"chain", c.Chain}, {"key type", c.KeyType}, {"origin", c.Origin},
		{"KMS key", c.KMSKey}, {"boot", c.Boot}, {"mark", c.Mark},
	}
	if v.Statement.foreign {
		fields[0][1] = "key generation of tmkms-light"
	}
	line.Fields(fields...)
	if c.Seq > 0 {
		line("%-11s %d", "sequence", c.Seq)
	}
	if c.Start != "" {
		line("%-11s %s, where this boot began: below the mark of an earlier document, or equal to it with another tag, it proves that an old state was brought back", "start", c.Start)
	}
	if c.Store != "" {
		line("%-11s %s, %s: what the mark there descends from; where an earlier document has another, it was made or adopted again since", "store", v.database(), c.Store)
	}
	line.Key(v.Statement.Statement)
}

// proves returns what follows from the document, given that all of it is as
// expected.
func (v *Verified) proves() (list []string) {
	c := v.Statement.Claims
	what := "some enclave"
	if v.named {
		what = "an enclave of the expected image"
	}
	switch {
	case v.Statement.foreign:
		list = append(list, fmt.Sprintf("%s said that it made the key above and had it encrypted under the KMS key named %q", what, c.KMSKey))
	case !v.Statement.Ours || !v.named:
		list = append(list, what+" made the document")
	case c.Purpose == claims.PurposeKMS || c.Purpose == claims.PurposeImport:
		list = append(list, what+" holds the private half of the document's own public key, which is for "+map[string]string{
			claims.PurposeKMS: "KMS to encrypt to", claims.PurposeImport: "sealing a key to be imported",
		}[c.Purpose])
	default:
		held := "holds the key above in this boot, and signs with it under the rule of that image"
		switch c.Purpose {
		case claims.PurposeCreate:
			held = "wrapped the key above under the KMS key above, with the first record of its state"
		case claims.PurposeState:
			held = "made a new state for the key above, at the mark above"
		}
		list = append(list, what+" "+held)
		if c.Purpose == claims.PurposeCreate && c.Origin == claims.Generated {
			list = append(list, "the key was made inside that enclave, and was written nowhere but encrypted")
		}
		if text := v.Statement.Signed(); text != "" {
			list = append(list, text)
		}
	}
	switch {
	case !v.inDatabase():
	case v.Policy != nil && v.Policy.Etcd.Named():
		list = append(list, "the mark is in the etcd that the image's policy names: whatever the hosts of such enclaves bring back, none of them signs against another")
	default:
		list = append(list, "the mark is in the database that the image's policy names: no state that a host brings back from its own disk lets an enclave sign against another")
	}
	if v.nonce {
		list = append(list, "the document was made after the nonce was chosen")
	}
	return list
}

// inDatabase reports whether an enclave of the expected image said that its mark is in one.
func (v *Verified) inDatabase() bool {
	return v.named && v.Statement.Ours && v.Statement.Claims.Store != ""
}

// database names the one that has the mark, which the policy alone says.
func (v *Verified) database() string {
	switch {
	case v.Policy != nil && v.Policy.Etcd.Named():
		return "etcd"
	case v.Policy != nil && v.Policy.DynamoDB.Named():
		return "DynamoDB"
	}
	return "a database"
}

// provesNot returns what a reader could believe all the same.
func (v *Verified) provesNot() (list []string) {
	c := v.Statement.Claims
	if !v.named {
		list = append(list, "anything about privyseal: any program in anybody's enclave can claim the same")
	}
	if !v.nonce {
		list = append(list, "that it is fresh: without a nonce of yours it can be an old one, shown again")
	}
	key := v.named && v.Statement.Ours && c.Key != ""
	switch {
	case v.Statement.foreign:
		list = append(list, "that the key is used safely: tmkms-light's state is its host's word")
	case key && c.Origin == claims.Imported:
		list = append(list, "that the key is nowhere else: it was imported, and copies may exist")
	case key && c.Purpose != claims.PurposeCreate:
		list = append(list, "that the key was made inside: only its wrapped form says so; the document of its creation, which `privyseal init` saved, proves it")
		fallthrough
	case key:
		list = append(list, "that no other image ever held the key: see the history of the KMS key's policy (CloudTrail)")
	}
	if text := v.anyProgram(); text != "" {
		list = append(list, text)
	}
	if secret := key || v.named && v.Statement.Ours && c.Purpose == claims.PurposeImport; secret && v.Policy == nil {
		list = append(list, "which KMS the image trusts, and so who else may know the key: name the image with --eif, or with --pcr1 and --policy")
	} else if secret {
		list = append(list, "that nobody has the material of the KMS key: `aws kms describe-key` says Origin AWS_KMS and MultiRegion false where AWS alone has it")
	}
	switch {
	case key && v.inDatabase():
		list = append(list, "that no enclave of an older image, without that database, signs with the key: KMS must not admit one",
			"that nobody set back "+v.database()+": compare store and start over time")
		if v.Policy == nil || !v.Policy.Etcd.Named() {
			list = append(list, "that nobody put an old mark back: for a table of DynamoDB the rights of the host's role are enough, for etcd only an enclave has them; name the policy with --eif or --policy to see which it is")
		}
	case key:
		list = append(list, "that no second enclave runs with an older state: compare boot, sequence and mark over time")
	}
	if v.Doc.PCRs[3] == nil || slices.Equal(v.Doc.PCRs[3], make([]byte, 48)) {
		list = append(list, "on whose instance it runs: the instance has no IAM role")
	}
	return list
}
