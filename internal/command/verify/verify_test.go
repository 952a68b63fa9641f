package verify

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/home"
)

// kind verifies documents that begin with its name, and are not "NAME forged".
type kind struct {
	name   string
	flag   bool
	shared string // by all but plums
}

func (k *kind) Add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&k.flag, k.name, false, "")
	if k.name != "plum" {
		cmd.Flags().StringVar(&k.shared, "color", "", "color of the "+k.name)
	}
}

func (k *kind) Recognises(document []byte) bool { return bytes.HasPrefix(document, []byte(k.name)) }

func (k *kind) Verify(w io.Writer, document []byte, want home.Expected) error {
	if string(document) == k.name+" forged" {
		return errors.New("it is forged")
	}
	_, err := fmt.Fprintf(w, "%s%s %v, %q at %s", k.shared, k.name, k.flag, want.PublicKey, want.At.Format(time.DateOnly))
	return err
}

// build has a kind for each of the names, and a provider without one.
func build(names ...string) home.Build {
	b := home.Build{Providers: []home.Provider{{}}}
	for _, name := range names {
		b.Providers = append(b.Providers, home.Provider{Documents: &home.Documents{Noun: "a " + name, Help: name + "s are verified.", Example: "verify " + name,
			Verifier: func() home.Verifier { return &kind{name: name} }}})
	}
	return b
}

// A document goes to the kind that it is of, with what is expected of it, and with the flags of
// that kind alone.
func TestKinds(t *testing.T) {
	const public = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
	dir := t.TempDir()
	file := func(text string) string {
		path := filepath.Join(dir, fmt.Sprintf("%.20q", strings.ReplaceAll(text, "/", "")))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tt := range []struct {
		stdin, want string
		usage       bool
		args        []string
	}{
		{"", `apple false, "" at 20`, false, []string{file("apple 1")}},
		{"", `pear true, "` + public + `" at 2026-11-20`, false, []string{file("pear 1"), "--pear", "--public-key", public, "--at", "2026-11-20T12:00:00Z"}},
		{"pear 2", `pear false, "sha256:` + strings.Repeat("0a", 32), false, []string{"-", "--public-key", "sha256:" + strings.Repeat("0a", 32)}},
		{"", "redapple false", false, []string{file("apple 1"), "--color", "red"}},
		{"", "redpear false", false, []string{file("pear 1"), "--color", "red"}},
		{"", "--color is for a apple, and " + file("plum 1") + " is a plum", true, []string{file("plum 1"), "--color", "red"}},
		{"", "it is forged", false, []string{file("apple forged")}},
		{"", "is not a document that can be verified: not a apple, and not a pear, and not a plum", false, []string{file("cherry")}},
		{"", "--pear is for a pear, and " + file("apple 1") + " is a apple", true, []string{file("apple 1"), "--pear"}},
		{"", "--public-key: ", true, []string{file("apple 1"), "--public-key", "x"}},
		{"", `--at "noon" is not a time`, true, []string{file("apple 1"), "--at", "noon"}},
		{"", "no such file", false, []string{filepath.Join(dir, "none")}},
		{"", "has more than 65536 bytes", false, []string{file("apple" + strings.Repeat(" ", 1<<16))}},
		{"apple" + strings.Repeat(" ", 1<<16), "standard input has more than a document has", false, []string{"-"}},
	} {
		cmd := NewCommand(build("apple", "pear", "plum"))
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetIn(strings.NewReader(tt.stdin))
		cmd.SetArgs(tt.args)
		err := cmd.Execute()
		text := out.String()
		if err != nil {
			text += err.Error()
		}
		if _, usage := errors.AsType[cli.UsageError](err); !strings.Contains(text, tt.want) || usage != tt.usage {
			t.Errorf("%.60q: %.200q, want %q", tt.args, text, tt.want)
		}
	}
}

// The help has what each kind says of itself; a build without documents has no command.
func TestHelp(t *testing.T) {
	cmd := NewCommand(build("apple", "pear"))
	if !strings.Contains(cmd.Long, "apples are verified.\n\npears are verified.\n\n") || cmd.Example != "  verify apple\n  verify pear" {
		t.Errorf("%s\n%s", cmd.Long, cmd.Example)
	}
	if usage := cmd.UsageString(); strings.Count(usage, "color of the apple") != 1 || !strings.Contains(usage, "For a apple, and for a pear:\n      --color") {
		t.Error(usage)
	}
	if cmd := NewCommand(build()); cmd != nil {
		t.Errorf("%+v", cmd)
	}
}
