package verify

import (
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"privyseal/internal/cli"
	"privyseal/internal/yubico"
)

// Trust are the flags that say what the certificates of a device have to lead to.
type Trust struct{ root, subCA string }

// Add adds the flags.
func (t *Trust) Add(fl *pflag.FlagSet) {
	addRoot(fl, &t.root)
	fl.StringVar(&t.subCA, "sub-ca", "", "PEM file of the certificates between the root and the device's, if privyseal does not know them; saved with the attestation")
}

// Words are those of a command line that trusts the same.
func (t *Trust) Words() (words []string) {
	if t.root != "" {
		words = append(words, "--root", t.root)
	}
	if t.subCA != "" {
		words = append(words, "--sub-ca", t.subCA)
	}
	return words
}

func addRoot(fl *pflag.FlagSet, root *string) {
	fl.StringVar(root, "root", "", "PEM file of a root to trust in place of Yubico's; for tests")
}

// maxTrust bounds in bytes a file with certificates.
const maxTrust = 1 << 16

// Read returns the root, and the certificates below it, in DER.
func (t *Trust) Read() (anchor yubico.Anchor, between [][]byte, err error) {
	if anchor, err = readRoot(t.root); err != nil || t.subCA == "" {
		return anchor, nil, err
	}
	text, err := cli.ReadBounded(t.subCA, maxTrust)
	if err != nil {
		return anchor, nil, cli.OfFlag("sub-ca", err)
	}
	if between, err = certificates(text); err != nil {
		return anchor, nil, fmt.Errorf("--sub-ca %s: %w", t.subCA, err)
	}
	return anchor, between, nil
}

func readRoot(path string) (anchor yubico.Anchor, err error) {
	if path == "" {
		return anchor, nil
	}
	text, err := cli.ReadBounded(path, maxTrust)
	if err != nil {
		return anchor, cli.OfFlag("root", err)
	}
	if anchor, err = yubico.ParseAnchor(text); err != nil {
		return anchor, fmt.Errorf("--root %s: %w", path, err)
	}
	return anchor, nil
}

// certificates returns those of a PEM text, in DER. Whether they are any good is seen when
// something is verified by them.
func certificates(text []byte) (list [][]byte, err error) {
	for {
		block, rest := pem.Decode(text)
		switch {
		case block == nil && len(list) > 0:
			return list, nil
		case block == nil || block.Type != "CERTIFICATE":
			return nil, errors.New("it is not a file of certificates in PEM")
		}
		list, text = append(list, block.Bytes), rest
	}
}
