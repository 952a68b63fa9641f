package command

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/home"
	"privyseal/internal/key/soft"
	"privyseal/internal/key/soft/keyfile"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/pubkey/keytext"
	"privyseal/internal/shell"
)

func newKeyCommand(a *provider.House, build home.Build) *cobra.Command {
	cmd := cli.NewGroup("key", "Generate, import, show and seal keys", newKeyGenerateCommand(), newKeyImportCommand(), newKeyShowCommand(a))
	for _, p := range build.Providers {
		if p.KeyCommands != nil {
			cmd.AddCommand(p.KeyCommands(a)...)
		}
	}
	return cmd
}

// newKeyFlags say what key a command makes, where, and how it prints the public half.
type newKeyFlags struct {
	out  string
	typ  pubkey.Type
	form keytext.Form
}

func (f *newKeyFlags) add(cmd *cobra.Command, typ pubkey.Type, help string) {
	cmd.Flags().StringVar(&f.out, "out", "", "file to make")
	f.typ = typ
	cli.AddKeyType(cmd, &f.typ, "type", help)
	cli.AddKeyForm(cmd, &f.form)
}

// check finds what is wrong with the command line alone.
func (f *newKeyFlags) check() error {
	if err := f.form.Check(); err != nil {
		return cli.Usage(err)
	}
	if f.out == "" {
		return cli.Usagef("--out FILE is missing: where the key goes")
	}
	return nil
}

func newKeyGenerateCommand() *cobra.Command {
	f := &newKeyFlags{}
	cmd := &cobra.Command{
		Use:   "generate --out FILE",
		Short: "Make a new key in a file, and print its public key",
		Long: `Make a new key in a file of mode 0600, and print its public key. Nothing is
overwritten. For a validator, "privyseal init" does this and everything else.`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			key, err := soft.Generate(f.typ)
			if err != nil {
				return err
			}
			return saveKey(cmd.OutOrStdout(), f.out, key, f.form)
		},
	}
	f.add(cmd, pubkey.Ed25519, "type of the key")
	return cmd
}

func newKeyImportCommand() *cobra.Command {
	f := &newKeyFlags{}
	cmd := &cobra.Command{
		Use:   "import FILE --out FILE",
		Short: "Write a key of another signer in our format",
		Long: `Write a key of another signer in our format, and print its public key. It reads
CometBFT's priv_validator_key.json and node_key.json, the base64 keys of tmkms,
tmkms-light and cosmos-kms, and our own. Nothing is overwritten or deleted.

This imports the key only, not the state, which records what it has signed:
"privyseal init --import-key" asks for that, "privyseal migrate" brings both.`,
		Args: cli.Arguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			key, err := keyfile.ReadForeign(args[0], f.typ)
			if err != nil {
				return err
			}
			if err := saveKey(cmd.OutOrStdout(), f.out, key, f.form); err != nil {
				return err
			}
			noteSigned(cmd.ErrOrStderr(), args[0], f.out, key.PublicKey())
			cli.WarnPlaintext(cmd.ErrOrStderr(), args[0])
			return nil
		},
	}
	f.add(cmd, "", "type of the key, if its file does not say")
	return cmd
}

// noteSigned says what the new file does not hold: that the key has signed, where that
// is known from the old one or from a state beside it.
func noteSigned(w io.Writer, path, out string, key pubkey.Key) {
	for _, f := range home.Beside("", key, []string{path}) {
		switch {
		case f.Err != nil:
			fmt.Fprintf(w, "note: there may be a state of this key in %s, which cannot be read: %v\n", f.Path, f.Err)
		case !f.Mark.IsZero():
			fmt.Fprintf(w, "note: %s says that a key has signed up to %s, which %s does not record: if it is this key, begin with that state, `privyseal init --chain-id ID --node ADDR --import-key %s --import-state %s`\n",
				f.Path, home.MarkText(f.Mark), out, shell.Word(out), shell.Word(f.Path))
		}
	}
}

func newKeyShowCommand(a *provider.House) *cobra.Command {
	var chain cli.ChainFlag
	var form keytext.Form
	cmd := &cobra.Command{
		Use:   "show [FILE]",
		Short: "Print the public key of a chain, or of a key file",
		Long: `Print the public key of a chain, or of a key file. The formats node-id and
peer-id are for the identity key: the names by which tcp:// and noise:// nodes
know this signer.`,
		Args: cli.AtMostOne("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			identity := slices.Contains(keytext.IdentityFormats(), form.Format)
			if err := form.Check(keytext.IdentityFormats()...); err != nil {
				return cli.Usage(err)
			}
			key, err := keyToShow(a, &chain, args, identity)
			if err != nil {
				return err
			}
			text, err := form.Text(key)
			if err != nil {
				return cli.Usage(err)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		},
	}
	chain.Add(a.App, cmd)
	cli.AddKeyForm(cmd, &form, keytext.IdentityFormats()...)
	return cmd
}

func keyToShow(a *provider.House, chain *cli.ChainFlag, args []string, identity bool) (pubkey.Key, error) {
	path := ""
	if len(args) == 1 {
		path = args[0]
	} else {
		c, ch, err := chain.Choose(a.App)
		switch {
		case err != nil:
			return pubkey.Key{}, err
		case !identity:
			return a.Providers.Public(c, ch)
		case ch.Identity == "":
			return pubkey.Key{}, cli.Usagef("chain %q has no identity key; only tcp:// and noise:// nodes need one", ch.Name)
		}
		return a.Providers.Identity(c, ch)
	}
	key, err := provider.OpenFile(path)
	if err != nil {
		return pubkey.Key{}, err
	}
	defer key.Wipe()
	return key.PublicKey(), nil
}

// saveKey writes a key and prints its public half.
func saveKey(w io.Writer, path string, key *soft.Key, form keytext.Form) error {
	defer key.Wipe()
	text, err := form.Text(key.PublicKey())
	if err != nil {
		return cli.Usage(err)
	}
	if err := keyfile.Create(path, key); err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, text)
	return err
}
