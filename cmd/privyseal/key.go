package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"privyseal/internal/config"
	"privyseal/internal/key/soft"
	"privyseal/internal/noiseconn"
	"privyseal/internal/pubkey"
	"privyseal/internal/shell"
)

func newKeyCommand(a *app) *cobra.Command {
	return newGroupCommand("key", "Generate, import, show and seal keys",
		newKeyGenerateCommand(), newKeyImportCommand(), newKeyShowCommand(a), newKeySealCommand())
}

// formatFlags say how a public key is printed.
type formatFlags struct{ format, prefix string }

// add adds the flags; more are formats beyond those of a public key.
func (f *formatFlags) add(cmd *cobra.Command, more ...string) {
	formats := append(pubkey.Formats(), more...)
	cmd.Flags().StringVar(&f.format, "format", "json", "how to print the public key: "+strings.Join(formats, ", "))
	cmd.Flags().StringVar(&f.prefix, "prefix", "", "prefix of the format bech32 (default "+pubkey.DefaultPrefix+")")
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)))
}

// check finds what is wrong with the flags, before a key exists.
func (f *formatFlags) check(more ...string) error {
	formats := append(pubkey.Formats(), more...)
	if !slices.Contains(formats, f.format) {
		return usagef("--format %q is not one of %s", f.format, strings.Join(formats, ", "))
	}
	if f.prefix != "" && f.format != "bech32" {
		return usagef("--prefix goes with --format bech32 only")
	}
	return nil
}

// typeFlag is --type of the commands that make or read a key.
type typeFlag struct{ name string }

func (f *typeFlag) add(cmd *cobra.Command, name, value, usage string) {
	var names []string
	for _, t := range pubkey.Types() {
		names = append(names, string(t))
	}
	cmd.Flags().StringVar(&f.name, name, value, usage+": "+strings.Join(names, ", "))
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp)))
}

// parse returns the type, and "" for none.
func (f *typeFlag) parse() (pubkey.Type, error) {
	if f.name == "" {
		return "", nil
	}
	t, err := pubkey.ParseType(f.name)
	if err != nil {
		return "", usageError{err}
	}
	return t, nil
}

func newKeyGenerateCommand() *cobra.Command {
	var out string
	var typ typeFlag
	var form formatFlags
	cmd := &cobra.Command{
		Use:   "generate --out FILE",
		Short: "Make a new key in a file, and print its public key",
		Long: `Make a new key in a file of mode 0600, and print its public key. Nothing is
overwritten. For a validator "privyseal init" does this and all the rest.`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := typ.parse()
			if err == nil {
				err = form.check()
			}
			if err != nil {
				return err
			}
			if out == "" {
				return usagef("--out FILE is missing: where the key goes")
			}
			key, err := soft.Generate(t)
			if err != nil {
				return err
			}
			return saveKey(cmd.OutOrStdout(), out, key, form)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file to make")
	typ.add(cmd, "type", string(pubkey.Ed25519), "type of the key")
	form.add(cmd)
	return cmd
}

func newKeyImportCommand() *cobra.Command {
	var out string
	var typ typeFlag
	var form formatFlags
	cmd := &cobra.Command{
		Use:   "import FILE --out FILE",
		Short: "Write a key of another signer in our format",
		Long: `Write a key of another signer in our format, and print its public key. Read are
CometBFT's priv_validator_key.json and node_key.json, the base64 keys of tmkms,
tmkms-light and cosmos-kms, and our own. Nothing is overwritten or deleted.

This takes the key only. What it has signed is a matter of its state:
"privyseal init --import-key" asks for it, "privyseal migrate" brings both.`,
		Args: arguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := typ.parse()
			if err == nil {
				err = form.check()
			}
			if err != nil {
				return err
			}
			if out == "" {
				return usagef("--out FILE is missing: where the key goes")
			}
			key, err := soft.ReadForeign(args[0], t)
			if err != nil {
				return err
			}
			if err := saveKey(cmd.OutOrStdout(), out, key, form); err != nil {
				return err
			}
			warnPlaintext(cmd.ErrOrStderr(), args[0])
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file to make")
	typ.add(cmd, "type", "", "type of a key that does not tell it itself")
	form.add(cmd)
	return cmd
}

func newKeyShowCommand(a *app) *cobra.Command {
	var chain chainFlag
	var form formatFlags
	cmd := &cobra.Command{
		Use:   "show [FILE]",
		Short: "Print the public key of a chain, or of a key file",
		Long: `Print the public key of a chain, or of a key file. The formats node-id and
peer-id are of the identity key: the names by which a tcp:// and a noise:// node
know this signer.`,
		Args: atMostOne("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			identity := form.format == "node-id" || form.format == "peer-id"
			if err := form.check("node-id", "peer-id"); err != nil {
				return err
			}
			key, err := a.keyToShow(&chain, args, identity)
			if err != nil {
				return err
			}
			text, err := formatKey(key, form)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		},
	}
	chain.add(a, cmd)
	form.add(cmd, "node-id", "peer-id")
	return cmd
}

func (a *app) keyToShow(chain *chainFlag, args []string, identity bool) (pubkey.Key, error) {
	path := ""
	if len(args) == 1 {
		path = args[0]
	} else {
		c, ch, err := chain.choose(a)
		switch {
		case err != nil:
			return pubkey.Key{}, err
		case !identity:
			return publicKey(c, ch)
		case ch.Identity == "":
			return pubkey.Key{}, usagef("chain %q has no identity key; only tcp:// and noise:// nodes need one", ch.Name)
		case ch.Provider == "nitro":
			_, _, key, err := readWrapped(c.Path(ch.Identity), "")
			return key, err
		}
		path = c.Path(ch.Identity)
	}
	key, err := openFile(path)
	if err != nil {
		return pubkey.Key{}, err
	}
	defer key.Wipe()
	return key.PublicKey(), nil
}

// openFile opens a key file of ours.
func openFile(path string) (*soft.Key, error) {
	key, err := soft.Open(path, os.Getenv("CREDENTIALS_DIRECTORY"))
	if err != nil {
		return nil, actError{err}
	}
	return key, nil
}

// publicKey returns the public key of a chain.
func publicKey(c *config.Config, ch config.Chain) (pubkey.Key, error) {
	if ch.Provider == "nitro" {
		_, _, key, err := readWrapped(c.Path(ch.Key), ch.ID)
		if err != nil {
			return pubkey.Key{}, actError{err}
		}
		return key, nil
	}
	key, err := openKey(c, ch)
	if err != nil {
		return pubkey.Key{}, actError{err}
	}
	defer key.Wipe()
	return key.PublicKey(), nil
}

// saveKey writes a key and prints its public half.
func saveKey(w io.Writer, path string, key *soft.Key, form formatFlags) error {
	defer key.Wipe()
	text, err := formatKey(key.PublicKey(), form)
	if err != nil {
		return err
	}
	if err := soft.Create(path, key); err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, text)
	return err
}

// formatKey returns the public key as text.
func formatKey(key pubkey.Key, form formatFlags) (string, error) {
	var text string
	var err error
	switch form.format {
	case "node-id":
		text = key.NodeID()
	case "peer-id":
		if key.Type() != pubkey.Ed25519 {
			return "", usagef("only an ed25519 key has a peer id, this one is %s", key.Type())
		}
		text = peerID(key)
	default:
		text, err = key.Format(form.format, form.prefix)
	}
	if err != nil {
		return "", usageError{err}
	}
	return text, nil
}

// warnPlaintext tells of a key file that was imported and still exists.
func warnPlaintext(w io.Writer, path string) {
	fmt.Fprintf(w, "the key still lies in plain text in %s; once its old signer is off for good: `shred -u %s`\n", path, shell.Word(path))
}

// keyJSON returns the public key as in genesis.json.
func keyJSON(key pubkey.Key) (json.RawMessage, error) {
	text, err := key.Format("json", "")
	return json.RawMessage(text), err
}

// peerID returns the libp2p name of an identity key, which is ed25519.
func peerID(identity pubkey.Key) string {
	return noiseconn.PeerIDOf(identity.Bytes()).String()
}
