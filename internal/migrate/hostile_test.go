package migrate

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
)

// What files and folders are called, and what is in them, was chosen by others. No
// note and no step hands it to the terminal, or to a shell that a step is pasted to.
func TestNamesOfOthers(t *testing.T) {
	const hostile = "a$(touch x)\x1b[2J'`b`\u202e"
	for _, name := range installations() {
		t.Run(name, func(t *testing.T) {
			home := filepath.Join(t.TempDir(), hostile)
			if err := os.Rename(install(t, name), home); err != nil {
				t.Fatal(err)
			}
			appendUnknown(t, home, "\n\"\\u001b[2Jkey\" = 1\n", "tmkms.toml")
			appendUnknown(t, home, "\n\"\\e[2Jkey\": 1\n", "kms.yaml")
			source := sourceOf(name)
			in, err := read(t, source, home)
			if err != nil {
				t.Fatal(err)
			}
			texts := append(append([]string{}, in.Warnings...), in.SwitchOff...)
			for _, c := range in.Chains {
				texts = append(texts, c.Warnings...)
			}
			if in.Enclave != nil {
				texts = append(texts, in.Enclave.Warnings...)
			}
			for _, text := range texts {
				if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
					t.Errorf("not for a terminal: %q", text)
				}
				for _, command := range []string{"`shred -u ", "`rm "} {
					if _, word, found := strings.Cut(text, command); found && strings.HasPrefix(word, "/") {
						t.Errorf("not for a shell: %s", text)
					}
				}
			}
		})
	}
}

// appendUnknown adds text at the top of a config, if the installation has that file.
func appendUnknown(t *testing.T, home, text, name string) {
	path := filepath.Join(home, name)
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return
	}
	if err == nil {
		err = os.WriteFile(path, append([]byte(text), data...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
