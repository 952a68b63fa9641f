package vault

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"privyseal/internal/key/reference"
	"privyseal/internal/pubkey"
)

const goodReference = "privyseal vault key 1\nname val-1\nversion 3\npublic 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n"

func TestReference(t *testing.T) {
	r, err := ParseReference([]byte(goodReference))
	if err != nil || r.Name != "val-1" || r.Version != 3 || r.Public.Type() != pubkey.Ed25519 {
		t.Fatalf("%+v, %v", r, err)
	}
	for name, text := range map[string]string{
		"empty":             "",
		"cut off":           goodReference[:len(goodReference)-1],
		"a line more":       goodReference + "x\n",
		"another format":    strings.Replace(goodReference, "key 1", "key 2", 1),
		"a name of a path":  strings.Replace(goodReference, "val-1", "../val", 1),
		"version 0":         strings.Replace(goodReference, "version 3", "version 0", 1),
		"version +3":        strings.Replace(goodReference, "version 3", "version +3", 1),
		"a negative one":    strings.Replace(goodReference, "version 3", "version -3", 1),
		"a short key":       strings.Replace(goodReference, "11qY", "", 1),
		"not base64":        strings.Replace(goodReference, "11qY", "!!!!", 1),
		"another end":       strings.Replace(goodReference, "Ro=", "Rp=", 1),
		"other line feeds":  strings.ReplaceAll(goodReference, "\n", "\r\n"),
		"other order":       "privyseal vault key 1\nversion 3\nname val-1\npublic 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n",
		"a name of no size": strings.Replace(goodReference, "val-1", strings.Repeat("x", reference.MaxSize), 1),
	} {
		if r, err := ParseReference([]byte(text)); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestReadReference(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for name, tt := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"good":                {goodReference, 0o644, ""},
		"written by a group":  {goodReference, 0o620, "may be written by others"},
		"written by all":      {goodReference, 0o602, "may be written by others"},
		"of another provider": {"privyseal software key 1\ntype ed25519\n", 0o600, "it is of another provider: it begins with \"privyseal software key 1\", not with \"privyseal vault key 1\"\ncorrect the provider"},
		"torn":                {goodReference[:40], 0o600, "it is truncated"},
		"long":                {goodReference + strings.Repeat("x", 2*reference.MaxSize), 0o600, "more than 1024 bytes"},
	} {
		os.Remove(path)
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		_, err := ReadReference(path)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadReference(filepath.Dir(path)); err == nil {
		t.Error("a folder was read")
	}
	os.Remove(path)
	if _, err := ReadReference(path); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("no file: %v", err)
	}
}

// What is accepted is, byte for byte, what is written.
func FuzzReference(f *testing.F) {
	f.Add([]byte(goodReference))
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := ParseReference(data); err == nil && !bytes.Equal(r.Encode(), data) {
			t.Errorf("%q became %q", data, r.Encode())
		}
	})
}
