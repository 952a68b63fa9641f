package sgx

import (
	"fmt"
	"time"

	"privyseal/internal/cure"
	"privyseal/internal/enclavechain/sharing"
	"privyseal/internal/provider"
	"privyseal/internal/sgx"
	"privyseal/internal/sgxhost"
)

// soon is how long before its end collateral is worth a word: Intel's is good for 30 days.
const soon = 7 * 24 * time.Hour

// checkEnclave checks the files of an enclave, and whether its policy lets it sign for the
// chains that are to be in it.
func checkEnclave(r *provider.Report, name string) {
	line, what := r.Config.Line(table, name, "folder"), "enclave "+name
	e := Enclaves(r.Config)[name]
	path := r.Config.Path(e.Folder)
	f, err := readFolder(path)
	if err == nil {
		err = sgxhost.Missing(path)
	}
	if err != nil {
		err = mended(err, "put the folder back from the backup, or make it again: the same inputs give the same enclave")
		r.Add(provider.Bad, line, what, err.Error(), "")
		return
	}
	s := f.signature
	r.Add(provider.Good, line, what, fmt.Sprintf("%s, MRENCLAVE %x, product %d, SVN %d", path, s.MRENCLAVE, s.ProductID, s.SVN), "")
	if f.policy.AttestationRoot != "" {
		r.Add(provider.Unsure, line, what, "its policy names a root of quotes that is not Intel's: this is for tests", "")
	}
	if f.policy.DynamoDB.Named() {
		r.Add(provider.Unsure, line, what, "whoever has the rights of this host's role can put an old mark back into "+f.policy.DynamoDB.String()+", and an enclave that starts then signs with it", "")
	}
	if e.Collateral != "" {
		checkCollateral(r, name, r.Config.Path(e.Collateral), f)
	}
	for i, ch := range r.Config.Chains {
		if r.Config.Kind(ch).Table != table || ch.Table != name {
			continue
		}
		key, identity, _ := keyFiles.Of(r.Config, ch) // rows of their own say what is wrong with them
		if key == nil {
			continue
		}
		why, cure := keyFiles.Disallowed(f.policy, ch.ID, key, identity)
		if why == "" {
			why, cure = says.Misplaced(f.policy, ch, sharing.Reached(r.Config, ch))
		}
		if why != "" {
			r.Add(provider.Bad, r.Config.Line("chain", i, table), what, why, cure)
		}
	}
}

// checkCollateral says until when collateral is good.
func checkCollateral(r *provider.Report, name, path string, f *folder) {
	line, what := r.Config.Line(table, name, "collateral"), "enclave "+name
	next := "fetch it again with " + cure.Command("privyseal", "sgx", "collateral", path, "--refresh")
	c, err := readCollateral(path)
	var anchor sgx.Anchor
	if err == nil {
		anchor, err = anchorOf(f.policy)
	}
	var contents *sgx.Contents
	if err == nil {
		contents, err = c.Verify(anchor, time.Now())
	}
	if err != nil {
		r.Add(provider.Unsure, line, what, "its collateral is of no use: "+err.Error(), next)
		return
	}
	end := contents.First
	text := fmt.Sprintf("collateral %s is good until %s, when %s ends", path, end.Until.UTC().Format(time.RFC3339), end.What)
	if time.Until(end.Until) < soon {
		r.Add(provider.Unsure, line, what, text, next)
		return
	}
	r.Add(provider.Good, line, what, text, "")
}
