// Package verify says what the attestation of a key on a YubiHSM proves, and what not:
// offline, on any machine, for operators and delegators alike.
//
// It trusts Yubico's certificates, or a root that the caller names, and the clock or the
// time that it is given.
package verify

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/cure"
	"privyseal/internal/home"
	"privyseal/internal/pubkey"
	"privyseal/internal/pubkey/keytext"
	"privyseal/internal/yubico"
)

// Documents are the attestations of keys, for `privyseal verify`.
func Documents() *home.Documents {
	return &home.Documents{
		Noun: "the attestation of a key on a YubiHSM",
		Help: `The attestation of a key on a YubiHSM, certificates in PEM, of "privyseal init" or
"privyseal yubihsm": the certificates are checked from the key's, which the device has made,
over that of the device up to Yubico's root. A key is expected that was made in the device and
cannot leave it; --any-key takes any, and says what is known of it.`,
		Example:  "privyseal verify chain-1.attestation --public-key $PUBKEY",
		Verifier: func() home.Verifier { return &flags{} },
	}
}

// flags are those of `privyseal verify` for such documents. It is a [home.Verifier].
type flags struct {
	root   string
	anyKey bool
}

// Add implements [home.Verifier].
func (f *flags) Add(cmd *cobra.Command) {
	addRoot(cmd.Flags(), &f.root)
	cmd.Flags().BoolVar(&f.anyKey, "any-key", false, "take a key that others may have too, or that no validator has")
}

// Recognises implements [home.Verifier].
func (f *flags) Recognises(document []byte) bool {
	return bytes.HasPrefix(document, []byte("-----BEGIN CERTIFICATE-----"))
}

// Verify implements [home.Verifier].
func (f *flags) Verify(w io.Writer, document []byte, want home.Expected) error {
	anchor, err := readRoot(f.root)
	if err != nil {
		return err
	}
	p, err := OfFile(document, anchor, want.At)
	if err != nil {
		return err
	}
	if wrong := f.compare(p, want.PublicKey); len(wrong) > 0 {
		return fmt.Errorf("the attestation is genuine, and the key is not as expected:\n  %s", strings.Join(wrong, "\n  "))
	}
	return p.Report(w, want.PublicKey != "")
}

// OfFile verifies the attestation in a file, at a time.
func OfFile(text []byte, anchor yubico.Anchor, at time.Time) (*Proof, error) {
	e, err := yubico.Parse(text)
	if err != nil {
		return nil, err
	}
	p, err := Of(e, anchor, at)
	if unknown, ok := errors.AsType[*yubico.IssuerError](err); ok {
		err = cure.Add(err, "append that certificate to the file%s", cli.Prefixed("; if it is one of Yubico's, it is at ", unknown.URL))
	}
	return p, err
}

// compare returns what is not as expected, one text each.
func (f *flags) compare(p *Proof, public string) (wrong []string) {
	if !f.anyKey {
		wrong = p.Copies()
		if p.Key.IsZero() {
			wrong = append(wrong, "it is of a kind that no validator has")
		}
	}
	if public != "" && (p.Key.IsZero() || !keytext.Names(public, p.Key)) {
		wrong = append(wrong, fmt.Sprintf("public key: got %s, want %s", textOf(p.Key), public))
	}
	return wrong
}

func textOf(key pubkey.Key) string {
	if key.IsZero() {
		return "a key of another kind"
	}
	return key.Base64()
}
