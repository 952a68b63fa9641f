package e2e

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	noderig "privyseal/test/e2e/rig"
	"privyseal/test/e2e/story"
	"privyseal/test/enclave"
	"privyseal/test/sgx/e2e/world"
)

// A host may put anything into the place of each file that the enclave or its operator reads.
// Nothing of it is signed with, and what is wrong is said.
func TestLyingFiles(t *testing.T) {
	t.Parallel()
	ctx := story.Within(t, time.Minute)
	w := newWorld(t)
	folder, err := w.Enclave(ctx)
	check(t, err)
	other, err := w.Enclave(ctx, "--chain", "sgx-unix", "--chain", "sgx-tcp")
	check(t, err)
	s, chains, err := w.InitChains(ctx, w.InitFlags(folder), "unix", "tcp")
	need(t, err)
	c := chains[0]
	key := func(c *enclave.Chain, ext string) string { return filepath.Join(s.Home, "keys", c.ID+ext) }
	read := func(path string) []byte {
		data, err := os.ReadFile(path)
		check(t, err)
		return data
	}
	for _, lie := range []struct {
		name, file string
		data       []byte
		says       string
	}{
		{"the sealed key of another chain", key(c, ".sealed"), read(key(chains[1], ".sealed")), "chain"},
		{"a byte of the sealed key", key(c, ".sealed"), flipped(read(key(c, ".sealed"))), "or it is damaged"},
		{"a program of the host", filepath.Join(folder, "privyseal-sgx"), read(w.Privyseal), "privyseal-sgx"},
		{"another policy", filepath.Join(folder, "policy.json"), read(filepath.Join(other, "policy.json")), "policy.json"},
		{"another manifest", filepath.Join(folder, "privyseal.manifest.sgx"), read(filepath.Join(other, "privyseal.manifest.sgx")), "Invalid measurement"},
		{"an edited manifest", filepath.Join(folder, "privyseal.manifest.sgx"), bytes.Replace(read(filepath.Join(folder, "privyseal.manifest.sgx")), []byte("debug = false"), []byte("debug = true"), 1), "Invalid measurement"},
		{"the signature of another enclave", world.Sigstruct(folder), read(world.Sigstruct(other)), "Invalid measurement"},
	} {
		t.Run(lie.name, func(t *testing.T) {
			was := read(lie.file)
			check(t, os.WriteFile(lie.file, lie.data, 0o755))
			defer func() { check(t, os.WriteFile(lie.file, was, 0o755)) }()
			refusesToSign(ctx, t, s, lie.says)
		})
	}
	t.Run("all files of another enclave", func(t *testing.T) {
		check(t, s.Configure("folder", `"`+other+`"`))
		defer func() { check(t, s.Configure("folder", `"`+folder+`"`)) }()
		refusesToSign(ctx, t, s, "privyseal sgx recover")
	})
	t.Run("what opens a backup", func(t *testing.T) { lieToRecovery(ctx, t, w, s, chains, folder, other) })
	// After all of it the key is there.
	story.StartSigner(t, s)
	story.StartNode(t, c.Node, c.Addr)
	check(t, c.Node.WaitHeight(ctx, 5))
	check(t, c.VerifyCommits(ctx, 1, 4))
}

func flipped(data []byte) []byte {
	data[len(data)-1] ^= 1
	return data
}

// refusesToSign starts the signer, waits until it says what is wrong with the first chain,
// and looks that it did not sign for it.
func refusesToSign(ctx context.Context, t *testing.T, s *noderig.Signer, says string) {
	t.Helper()
	end := mark(s)
	check(t, s.Start())
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := said(ctx, s, end, says)
	s.Stop(time.Minute) // where nothing could be right it has ended already, with a failure
	if err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(filepath.Join(s.Home, "privyseal.log"))
	check(t, err)
	if regexp.MustCompile(`"the enclave signs for this chain"[^\n]*"sgx-unix"`).Match(text[end:]) {
		t.Errorf("it signs:\n%s", text[end:])
	}
}

// lieToRecovery is a host that wants a backup opened for somebody else.
func lieToRecovery(ctx context.Context, t *testing.T, w *world.World, s *noderig.Signer, chains []*enclave.Chain, folder, other string) {
	backup := filepath.Join(s.Home, "keys", chains[0].ID+".backup")
	open := func(doc, sigstruct string) error {
		_, err := w.Run(ctx, "sgx", "open-backup", backup, "--recovery-key", w.RecoveryKey, "--to", doc, "--collateral", w.Collateral(), "--test-root", w.RootPath(), "--sigstruct", sigstruct, "--out", filepath.Join(t.TempDir(), "out"))
		return err
	}
	wrap := func(folder string) (doc, wrapKey string) {
		doc, wrapKey = filepath.Join(t.TempDir(), "doc"), filepath.Join(t.TempDir(), "key")
		check(t, s.Configure("folder", `"`+folder+`"`))
		_, err := w.Run(ctx, "sgx", "cloud-wrap", "--home", s.Home, "--wrap-key", wrapKey, "--out", doc)
		check(t, err)
		return doc, wrapKey
	}
	foreign, _ := wrap(other)
	ours, _ := wrap(folder)
	for _, lie := range []struct{ name, doc, says string }{
		{"a wrap key of another enclave", foreign, "MRENCLAVE"},
		{"the document of a key", filepath.Join(s.Home, "keys", chains[0].ID+".attestation"), "cloud-wrap"},
	} {
		if err := open(lie.doc, world.Sigstruct(folder)); err == nil || !strings.Contains(err.Error(), lie.says) {
			t.Errorf("%s: %v", lie.name, err)
		}
	}
	check(t, open(ours, world.Sigstruct(folder)))
	// The backup of one chain in the place of another's, and of a key that is there already.
	check(t, os.Rename(backup, backup+".kept"))
	mine, err := os.ReadFile(filepath.Join(s.Home, "keys", chains[1].ID+".backup"))
	check(t, err)
	check(t, os.WriteFile(backup, mine, 0o600))
	external := filepath.Join(t.TempDir(), "external")
	if _, err := w.Run(ctx, "sgx", "open-backup", backup, "--recovery-key", w.RecoveryKey, "--to", ours, "--collateral", w.Collateral(), "--test-root", w.RootPath(), "--sigstruct", world.Sigstruct(folder), "--out", external); err != nil {
		t.Error(err)
	}
	if _, err := w.Run(ctx, "sgx", "recover", "--home", s.Home, "--chain-id", chains[0].ID, "--encrypted-key", external, "--wrap-key", ours, "--yes"); err == nil || !strings.Contains(err.Error(), "chain") {
		t.Errorf("the backup of another chain: %v", err)
	}
	check(t, os.Rename(backup+".kept", backup))
}
