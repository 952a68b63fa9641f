package seal

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What somebody has altered in a sealed key on its way is not taken, whatever it is.
func TestSealedKeyIsTakenAsWritten(t *testing.T) {
	const public = `{"type":"tendermint/PubKeyEd25519","value":"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}`
	good := Key{Format: format, Version: version, Boot: "b", ChainID: "chain-1", PublicKey: []byte(public), Height: 7, Round: 1, Step: "prevote", SignBytes: []byte{1}, Sealed: []byte{2}}
	data, err := good.encode()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, c := range []struct{ name, from, to, wrong string }{
		{"as it was", "", "", ""},
		{"another format", format, "sealed", "it is not what `privyseal key seal` writes"},
		{"another version", `"version": 1`, `"version": 2`, "it is not what `privyseal key seal` writes"},
		{"a key more", `"version": 1`, `"version": 1, "more": 1`, "it is not what `privyseal key seal` writes"},
		{"a key twice", `"round": 1`, `"round": 0, "round": 1`, "it was altered"},
		{"spaces", `"round": 1`, `"round":  1`, "it was altered"},
		{"a fresh key with a state", `"fresh": false`, `"fresh": true`, "it was altered: fresh is true, and its state is at height 7"},
		{"a line more", "}\n", "}\n\n", "it was altered"},
		{"a step that is none", `"prevote"`, `"vote"`, "vote"},
		{"a key that is none", "11qYAYKxCrfVS", "11qY", "public key"},
	} {
		path := filepath.Join(dir, "sealed")
		text := data
		if c.from != "" {
			text = bytes.Replace(data, []byte(c.from), []byte(c.to), -1)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		_, imp, err := Read(path)
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) || (imp == nil) != (err != nil) {
			t.Errorf("%s: %v, want %q", c.name, err, c.wrong)
		}
		if imp != nil && (imp.ChainID != "chain-1" || imp.Height != 7 || imp.Round != 1 || imp.Step != 2 || imp.Fresh || imp.KeyType != "ed25519" || len(imp.Public) != 32 || !bytes.Equal(imp.Sealed, []byte{2}) || !bytes.Equal(imp.SignBytes, []byte{1})) {
			t.Errorf("%s: %+v", c.name, imp)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "long"), make([]byte, maxSize+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Read(filepath.Join(dir, "long")); err == nil || !strings.Contains(err.Error(), "more than 65536 bytes") {
		t.Errorf("long: %v", err)
	}
}
