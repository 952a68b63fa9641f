package sgx

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"privyseal/internal/cli"
	"privyseal/internal/cure"
	"privyseal/internal/enclavechain/sharing"
	"privyseal/internal/enclavekey"
	"privyseal/internal/key/sgxseal"
	"privyseal/internal/policy"
	"privyseal/internal/provider"
	"privyseal/internal/regular"
	"privyseal/internal/sgx"
	"privyseal/internal/sgxhost"
)

// soon is how long before its end collateral is worth a word: Intel's is good for 30 days.
const soon = 7 * 24 * time.Hour

// checkEnclave checks the files of an enclave, and whether its policy lets it sign for the
// chains that are to be in it.
func checkEnclave(r *provider.Report, name string) {
	line, what := r.Config.Line(table, name, "folder"), "enclave "+name
	e := enclaves.Of(r.Config)[name]
	path := r.Config.Path(e.Folder)
	f, err := readFolder(path)
	if err == nil {
		err = sgxhost.Missing(path)
	}
	if err != nil {
		err = withCure(err, "put the folder back from the backup, or make it again: the same inputs give the same enclave")
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
		line := r.Config.Line("chain", i, table)
		if why != "" {
			r.Add(provider.Bad, line, what, why, cure)
		}
		for _, path := range []string{ch.Key, ch.Identity} {
			if path != "" {
				checkBackup(r, line, what, enclavekey.BackupPath(r.Config.Path(path)), f.policy)
			}
		}
	}
}

// checkBackup looks whether an enclave with the policy takes the backup that lies where
// `recover` looks for it. One that is not there may be kept elsewhere.
func checkBackup(r *provider.Report, line int, what, path string, p *policy.Policy) {
	data, err := cli.ReadBounded(path, maxBackup)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var b sgxseal.Backup
	if err == nil {
		b, err = sgxseal.InspectBackup(data)
	}
	switch id := p.Recipient().ID(); {
	case err != nil:
		r.Add(provider.Unsure, line, what, fmt.Sprintf("the backup %s is of no use: %v", path, regular.Reason(err)), "put it back from where it was backed up")
	case b.Recipient != id:
		r.Add(provider.Unsure, line, what, fmt.Sprintf("the backup %s is for the recovery key %+q, and the policy of the enclave names %s: no key comes back out of it here", path, b.Recipient, id),
			"put the backup there that `privyseal sgx make-backup` wrote for that recovery key: doc/sgx.md, \"Another recovery key\"")
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
