package sgx

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"privyseal/internal/claims"
	"privyseal/internal/config"
	"privyseal/internal/daemon"
	"privyseal/internal/key/sgxseal"
	"privyseal/internal/policy"
	"privyseal/internal/provider"
	"privyseal/internal/secret"
	"privyseal/internal/sgx/sgxtest"
	"privyseal/internal/sgxhost"
)

// check says when collateral ends, a week before it does.
func TestCheckCollateral(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		name  string
		made  time.Duration // ago
		level provider.Verdict
		says  string
	}{
		{"new", 0, provider.Good, "is good until "},
		{"of last month", 26 * day, provider.Unsure, "is good until "},
		{"of the month before", 60 * day, provider.Unsure, "its collateral is of no use"},
	} {
		w := newTestWorld(t)
		intel, err := sgxtest.New(time.Now().Add(-c.made))
		if err != nil {
			t.Fatal(err)
		}
		collateral, err := intel.Collateral()
		if err != nil {
			t.Fatal(err)
		}
		w.write("platform.json", collateral)
		w.policy.AttestationRoot = string(intel.RootPEM())
		data, err := w.policy.Encode()
		if err != nil {
			t.Fatal(err)
		}
		w.write("policy.json", data)
		r := &provider.Report{Config: &config.Config{Tables: enclaves.Tables("main", w.config)}}
		checkEnclave(r, "main")
		found := false
		for _, row := range r.Rows {
			if strings.Contains(row.Text, "collateral") {
				found = row.Verdict == c.level && strings.Contains(row.Text, c.says) && (row.Verdict == provider.Good || strings.Contains(row.Cure, "--refresh"))
			}
		}
		if !found {
			t.Errorf("%s: %+v", c.name, r.Rows)
		}
	}
}

// check finds a backup that the enclave would not take on the day that it is needed.
func TestCheckBackup(t *testing.T) {
	recipient := func() policy.Recipient {
		key, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return policy.Recipient{X25519: key.PublicKey()}
	}
	ours, other := recipient(), recipient()
	p := &policy.Policy{SGX: policy.SGX{Seal: policy.SealMRENCLAVE, RecoveryKey: "hpke-x25519:" + base64.StdEncoding.EncodeToString(ours.X25519.Bytes())}}
	backup := func(to policy.Recipient) []byte {
		b, err := sgxseal.MakeBackup(to, secret.Key{ChainID: "c", KeyType: "ed25519", Public: make([]byte, 32), Secret: secret.NewBytes(make([]byte, 32)), Origin: claims.Generated})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, c := range map[string]struct {
		data []byte // nil is no file
		says string
	}{
		"ours": {backup(ours), ""}, "none": {nil, ""}, "cut off": {backup(ours)[:99], "is of no use: not a backup of a key"}, "long": {make([]byte, maxBackup+1), "is of no use: "},
		"another's": {backup(other), fmt.Sprintf("is for the recovery key %q, and the policy of the enclave names %s", other.ID(), ours.ID())},
	} {
		path := filepath.Join(t.TempDir(), "c.backup")
		if c.data != nil {
			if err := os.WriteFile(path, c.data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r := &provider.Report{}
		checkBackup(r, 3, "enclave main", path, p)
		if c.says == "" && len(r.Rows) == 0 {
			continue
		}
		if len(r.Rows) != 1 || c.says == "" || r.Rows[0].Verdict != provider.Unsure || !strings.Contains(r.Rows[0].Text, c.says) || r.Rows[0].Cure == "" {
			t.Errorf("%s: %+v", name, r.Rows)
		}
	}
}

// A folder that is not whole is found before a start, by whichever file, and what is said has one
// cure: that of the file, or else the backup.
func TestFolderNotWhole(t *testing.T) {
	for file, next := range map[string]string{
		sgxhost.ProgramFile: "make it with", sgxhost.ManifestFile: "make it with", sgxhost.SignedFile: "sign it: ",
		sgxhost.SignatureFile: "sign it: ", policy.File: "put the folder back from the backup",
	} {
		w := newTestWorld(t)
		if err := os.Remove(filepath.Join(w.config.Folder, file)); err != nil {
			t.Fatal(err)
		}
		c := &config.Config{Tables: enclaves.Tables("main", w.config)}
		r := &provider.Report{Config: c}
		checkEnclave(r, "main")
		if len(r.Rows) != 1 || r.Rows[0].Verdict != provider.Bad || strings.Contains(r.Rows[0].Text, "\n") || !strings.HasPrefix(r.Rows[0].Cure, next) {
			t.Errorf("%s: %+v", file, r.Rows)
		}
		if file != sgxhost.SignatureFile && file != policy.File {
			continue // Gramine says it when it is run
		}
		_, _, err := world{}.Host(&daemon.Daemon{Config: c}, "main")
		if err == nil || strings.Count(err.Error(), "\n") != 1 || !strings.Contains(err.Error(), "\n"+next) || strings.Contains(err.Error(), "; put") {
			t.Errorf("%s: %v", file, err)
		}
	}
}
