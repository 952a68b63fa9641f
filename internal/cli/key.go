package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"privyseal/internal/pubkey"
	"privyseal/internal/pubkey/keytext"
	"privyseal/internal/shell"
)

// AddKeyForm adds --format and --prefix: how a public key is printed. more are formats
// beyond those of any public key.
func AddKeyForm(cmd *cobra.Command, f *keytext.Form, more ...string) {
	formats := append(keytext.Formats(), more...)
	cmd.Flags().StringVar(&f.Format, "format", "json", "how to print the public key: "+strings.Join(formats, ", "))
	cmd.Flags().StringVar(&f.Prefix, "prefix", "", "prefix of the format bech32 (default "+keytext.DefaultPrefix+")")
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)))
}

// keyType is the value of a flag that names a type of keys.
type keyType struct{ to *pubkey.Type }

// AddKeyType adds a flag for the type of a key that is made or read. *t is what it is
// without the flag, "" for none.
func AddKeyType(cmd *cobra.Command, t *pubkey.Type, name, usage string) {
	var names []string
	for _, t := range pubkey.Types() {
		names = append(names, string(t))
	}
	cmd.Flags().Var(keyType{t}, name, usage+": "+strings.Join(names, ", "))
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp)))
}

func (v keyType) String() string {
	if v.to == nil { // as pflag makes one, to compare with
		return ""
	}
	return string(*v.to)
}

func (v keyType) Type() string { return "string" }

func (v keyType) Set(text string) error {
	if text == "" { // which NoEmptyFlags refuses, as of any flag
		*v.to = ""
		return nil
	}
	t, err := pubkey.ParseType(text)
	if err != nil {
		return Usage(err)
	}
	*v.to = t
	return nil
}

// WarnPlaintext warns of a key file that was imported and still exists.
func WarnPlaintext(w io.Writer, path string) {
	fmt.Fprintf(w, "the key is still in plain text in %s; once its old signer is off for good: `shred -u %s`\n", path, shell.Word(path))
}
