package cli

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"privyseal/internal/noiseconn"
	"privyseal/internal/pubkey"
	"privyseal/internal/shell"
)

// KeyFormat is --format and --prefix: how a public key is printed.
type KeyFormat struct{ Format, Prefix string }

// Add adds the flags; more are formats beyond those of a public key.
func (f *KeyFormat) Add(cmd *cobra.Command, more ...string) {
	formats := append(pubkey.Formats(), more...)
	cmd.Flags().StringVar(&f.Format, "format", "json", "how to print the public key: "+strings.Join(formats, ", "))
	cmd.Flags().StringVar(&f.Prefix, "prefix", "", "prefix of the format bech32 (default "+pubkey.DefaultPrefix+")")
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)))
}

// Check finds what is wrong with the flags, before a key exists.
func (f *KeyFormat) Check(more ...string) error {
	formats := append(pubkey.Formats(), more...)
	if !slices.Contains(formats, f.Format) {
		return Usagef("--format %q is not one of %s", f.Format, strings.Join(formats, ", "))
	}
	if f.Prefix != "" && f.Format != "bech32" {
		return Usagef("--prefix goes with --format bech32 only")
	}
	return nil
}

// KeyType is --type of the commands that make or read a key.
type KeyType struct{ Name string }

func (f *KeyType) Add(cmd *cobra.Command, name, value, usage string) {
	var names []string
	for _, t := range pubkey.Types() {
		names = append(names, string(t))
	}
	cmd.Flags().StringVar(&f.Name, name, value, usage+": "+strings.Join(names, ", "))
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp)))
}

// Parse returns the type, and "" for none.
func (f *KeyType) Parse() (pubkey.Type, error) {
	if f.Name == "" {
		return "", nil
	}
	t, err := pubkey.ParseType(f.Name)
	if err != nil {
		return "", Usage(err)
	}
	return t, nil
}

// FormatKey returns the public key as text.
func FormatKey(key pubkey.Key, form KeyFormat) (string, error) {
	var text string
	var err error
	switch form.Format {
	case "node-id":
		text = key.NodeID()
	case "peer-id":
		if key.Type() != pubkey.Ed25519 {
			return "", Usagef("only an ed25519 key has a peer id, this one is %s", key.Type())
		}
		text = PeerID(key)
	default:
		text, err = key.Format(form.Format, form.Prefix)
	}
	if err != nil {
		return "", Usage(err)
	}
	return text, nil
}

// WarnPlaintext warns of a key file that was imported and still exists.
func WarnPlaintext(w io.Writer, path string) {
	fmt.Fprintf(w, "the key is still in plain text in %s; once its old signer is off for good: `shred -u %s`\n", path, shell.Word(path))
}

// KeyJSON returns the public key as in genesis.json.
func KeyJSON(key pubkey.Key) (json.RawMessage, error) {
	text, err := key.Format("json", "")
	return json.RawMessage(text), err
}

// PeerID returns the libp2p name of an identity key, which is ed25519.
func PeerID(identity pubkey.Key) string {
	return noiseconn.PeerIDOf(identity.Bytes()).String()
}

// IsPublicKey reports whether text is a public key in any of its forms, the address among
// them.
func IsPublicKey(key pubkey.Key, text string) bool {
	text = strings.TrimSpace(text)
	if other, err := pubkey.Parse(text); err == nil && other.Equal(key) {
		return true
	}
	// An address, and the bare bytes of a key, which do not show its type.
	for _, format := range []string{"address", "hex", "base64"} {
		printed, err := key.Format(format, "")
		if err == nil && (printed == text || format != "base64" && strings.EqualFold(printed, text)) {
			return true
		}
	}
	return false
}

// CheckPublicKeyName finds what is wrong with text as the name of a public key: the key
// itself, its address, or the hash that stands for a long one in an attestation.
func CheckPublicKeyName(text string) error {
	text = strings.TrimSpace(text)
	_, err := pubkey.Parse(text)
	digits, size := text, 20
	if hash, found := strings.CutPrefix(text, "sha256:"); found {
		digits, size = hash, 32
	}
	if raw, hexErr := hex.DecodeString(digits); hexErr == nil && len(raw) == size {
		return nil
	}
	return err
}

// ParsePublicKey reads a public key that an operator pastes, in any format in
// which we print one.
func ParsePublicKey(text string) (pubkey.Key, error) {
	return pubkey.Parse(strings.TrimSpace(text))
}
