package migrate

import (
	"encoding/base64"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"privyseal/internal/gcmsiv"
	"privyseal/internal/key/soft"
	"privyseal/internal/pubkey"
)

// sgxBackup writes what tmkms-light's enclave and an HSM have, and returns the key in it.
func sgxBackup(t *testing.T, home string) (*soft.Key, SGXBackup) {
	t.Helper()
	key, err := soft.Generate(pubkey.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	ints := func(b []byte) (list []int) {
		for _, x := range b {
			list = append(list, int(x))
		}
		return list
	}
	secret, nonce, public := []byte("the 32 bytes that the HSM keeps."), []byte("twelve bytes"), key.PublicKey().Bytes()
	sealed, err := gcmsiv.Seal(secret, nonce, key.Secret(), public)
	if err != nil {
		t.Fatal(err)
	}
	file, err := json.Marshal(map[string]any{"nonce": ints(nonce), "sealed_secret": ints(sealed), "public_key": ints(public)})
	if err != nil {
		t.Fatal(err)
	}
	b := SGXBackup{Backup: filepath.Join(home, "consensus-key.backup"), Key: filepath.Join(home, "backup.key")}
	write(t, b.Backup, string(file))
	write(t, b.Key, base64.StdEncoding.EncodeToString(secret))
	return key, b
}

func readSGXAt(t *testing.T, home string, b SGXBackup) (*Installation, error) {
	t.Helper()
	return Read(t.Context(), Place{Source: "tmkms-light", Paths: []string{filepath.Join(home, "sgx.toml")}, SGX: b}, settle)
}

// The key of an SGX enclave of tmkms-light comes out of its backup, with its state.
func TestSGXThroughItsBackup(t *testing.T) {
	home := install(t, "tmkms-light")
	key, b := sgxBackup(t, home)
	in, err := readSGXAt(t, home, b)
	if err != nil {
		t.Fatal(err)
	}
	c := in.Chains[0]
	if !c.Key.PublicKey().Equal(key.PublicKey()) || c.ID != "testchain-1" || c.Mark.Height == 0 || c.Identity != nil || c.KeyFile != b.Backup {
		t.Errorf("%+v", c)
	}
	edit(t, filepath.Join(home, "sgx.toml"), "unix:///tmp/validator.socket", "tcp://10.0.0.1:26659")
	if in, err = readSGXAt(t, home, b); err != nil || in.Chains[0].Identity != nil || !strings.Contains(strings.Join(in.Chains[0].Warnings, "\n"), "a new identity is made") {
		t.Errorf("by tcp: %+v, %v", in, err)
	}
}

// Whatever is not there, damaged, or belongs to something else is one sentence, and where
// there is a way out, that.
func TestSGXBackupsThatAreRefused(t *testing.T) {
	home := install(t, "tmkms-light")
	_, good := sgxBackup(t, home)
	other, sealed, none := filepath.Join(home, "other.key"), filepath.Join(home, "sealed.key"), filepath.Join(home, "none")
	write(t, other, strings.Repeat("k", 32))
	write(t, sealed, `{"seal_key_request":{"keyname":4},"nonce":[0],"sealed_secret":[0]}`)
	for name, c := range map[string]struct {
		change func(*SGXBackup)
		want   string
	}{
		"no backup":         {func(b *SGXBackup) { *b = SGXBackup{} }, "which nobody else opens\nadd --sgx-backup consensus-key.backup"},
		"only the key":      {func(b *SGXBackup) { b.Backup = "" }, "which nobody else opens\nadd --sgx-backup consensus-key.backup"},
		"no file":           {func(b *SGXBackup) { b.Backup = none }, "cannot read the backup"},
		"the sealed key":    {func(b *SGXBackup) { b.Backup = sealed }, "which only that enclave opens, and not a backup"},
		"no key":            {func(b *SGXBackup) { b.Key = "" }, "a backup opens with --sgx-backup-key alone"},
		"both keys":         {func(b *SGXBackup) { b.External, b.WrapKey = none, none }, "a backup opens with --sgx-backup-key alone"},
		"half":              {func(b *SGXBackup) { b.Key, b.External = "", none }, "a backup opens with --sgx-backup-key alone"},
		"another key":       {func(b *SGXBackup) { b.Key = other }, "does not open with this key"},
		"a key of any size": {func(b *SGXBackup) { b.Key = sealed }, "it is not the key of a backup"},
		"no external key":   {func(b *SGXBackup) { b.Key, b.External, b.WrapKey = "", none, none }, "cannot read the external key"},
		"a sealed wrap key": {func(b *SGXBackup) { b.Key, b.External, b.WrapKey = "", externalVector(t), sealed }, "take the key of the backup from the HSM"},
	} {
		b := good
		c.change(&b)
		if in, err := readSGXAt(t, home, b); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v", name, in, err)
		}
	}
	if _, err := Read(t.Context(), Place{Source: "tmkms-light", Paths: []string{home}, SGX: good}, settle); err == nil || !strings.Contains(err.Error(), "not in an SGX enclave") {
		t.Errorf("a backup for a key in a file: %v", err)
	}
	edit(t, filepath.Join(home, "sgx.toml"), "sealed_consensus_key_path", "#")
	if _, err := readSGXAt(t, home, good); err == nil || !strings.Contains(err.Error(), "no sealed_consensus_key_path") {
		t.Errorf("no sealed key named: %v", err)
	}
}

func externalVector(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("lightsgx/testdata/external.key")
	if err != nil {
		t.Fatal(err)
	}
	return path
}
