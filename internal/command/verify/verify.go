// Package verify is `privyseal verify`: it finds out which kind of document a file holds, and
// has the provider that it is of verify it. It knows no provider.
package verify

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"privyseal/internal/cli"
	"privyseal/internal/home"
	"privyseal/internal/pubkey/keytext"
)

// maxDocument bounds in bytes what is read as a document.
const maxDocument = 1 << 16

// verifying is `privyseal verify`.
type verifying struct {
	kinds         []*kindOfDocument
	publicKey, at string
}

// kindOfDocument is one kind of documents, with the flags that are for it alone.
type kindOfDocument struct {
	*home.Documents
	home.Verifier
	flags []string
}

const help = `Check what proves where a validator's key is, offline: a file that "privyseal init" or
another command of ours has saved, or that somebody shows you. - is standard input. Anybody
can show the proof of some other key, so name yours with --public-key.

%s

The exit status is 1 if anything is not as expected.`

// NewCommand returns `privyseal verify`; nil for a build whose providers have no documents.
func NewCommand(build home.Build) *cobra.Command {
	f := &verifying{}
	var kinds, examples []string
	for _, p := range build.Providers {
		if p.Documents != nil {
			f.kinds = append(f.kinds, &kindOfDocument{Documents: p.Documents, Verifier: p.Documents.Verifier()})
			kinds, examples = append(kinds, p.Documents.Help), append(examples, "  "+p.Documents.Example)
		}
	}
	if len(f.kinds) == 0 {
		return nil
	}
	cmd := &cobra.Command{
		Use:     "verify FILE",
		Short:   "Check what proves where a key is, offline",
		Long:    fmt.Sprintf(help, strings.Join(kinds, "\n\n")),
		Example: strings.Join(examples, "\n"),
		Args:    cli.Arguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd, args[0])
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.publicKey, "public-key", "", "public key that is expected, in any format, or its address")
	fl.StringVar(&f.at, "at", "", "when the document was received, as 2026-11-20T12:00:00Z (default: now)")
	for _, k := range f.kinds {
		own := &cobra.Command{}
		k.Add(own)
		k.flags = cli.Shared(cmd, "For "+k.Noun, own.Flags())
	}
	return cmd
}

func (f *verifying) run(cmd *cobra.Command, path string) error {
	want := home.Expected{PublicKey: f.publicKey}
	var err error
	if want.At, err = cli.ParseAt(f.at); err != nil {
		return err
	}
	if f.publicKey != "" {
		if err := keytext.CheckName(f.publicKey); err != nil {
			return cli.Usagef("--public-key: %w", err)
		}
	}
	document, err := readDocument(path, cmd.InOrStdin())
	if err != nil {
		return err
	}
	i := slices.IndexFunc(f.kinds, func(k *kindOfDocument) bool { return k.Recognises(document) })
	if i < 0 {
		return fmt.Errorf("%s is not a document that can be verified: not %s", path, f.nouns())
	}
	if err := f.foreignFlag(cmd, path, f.kinds[i]); err != nil {
		return err
	}
	return f.kinds[i].Verify(cmd.OutOrStdout(), document, want)
}

// nouns returns all kinds, as a list to read.
func (f *verifying) nouns() string {
	nouns := make([]string, len(f.kinds))
	for i, k := range f.kinds {
		nouns[i] = k.Noun
	}
	return strings.Join(nouns, ", and not ")
}

// foreignFlag refuses a flag for documents of another kind.
func (f *verifying) foreignFlag(cmd *cobra.Command, path string, kind *kindOfDocument) (err error) {
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		for _, k := range f.kinds {
			if k != kind && slices.Contains(k.flags, flag.Name) && !slices.Contains(kind.flags, flag.Name) && err == nil {
				err = cli.Usagef("--%s is for %s, and %s is %s", flag.Name, k.Noun, path, kind.Noun)
			}
		}
	})
	return err
}

// readDocument reads a file, or standard input.
func readDocument(path string, stdin io.Reader) ([]byte, error) {
	if path != "-" {
		return cli.ReadBounded(path, maxDocument)
	}
	document, err := io.ReadAll(io.LimitReader(stdin, maxDocument+1))
	if err == nil && len(document) > maxDocument {
		err = errors.New("standard input has more than a document has")
	}
	return document, err
}
