package enclavecommand

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/cure"
	"privyseal/internal/enclavekey"
	"privyseal/internal/hostlink"
	"privyseal/internal/monitor"
	"privyseal/internal/provider"
)

// NewAttest returns the command that has a running enclave make a document.
func (k Kind) NewAttest(a *provider.House) *cobra.Command {
	var chain cli.ChainFlag
	var nonce, out string
	cmd := &cobra.Command{
		Use:   "attest [--nonce HEX]",
		Short: "Have the running enclave attest the key that it signs with",
		Long: `Have the enclave of the running signer attest its key, and print the document in
base64: which ` + k.Program + ` it is, which key it signs with, where that key comes from, and
how far it has signed. "privyseal verify" checks the document, anywhere.

Whoever wants to know that the document is new gives you a nonce, such as 32 random
bytes in hex.`,
		Example: "  privyseal " + k.Provider + " attest --nonce $(openssl rand -hex 32) > attestation.b64",
		Args:    cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			bytes, err := Nonce(nonce)
			if err != nil {
				return err
			}
			_, ch, err := chain.Choose(a.App)
			if err != nil {
				return err
			}
			home, err := a.Home()
			if err != nil {
				return err
			}
			doc, err := monitor.ReadAttestation(cmd.Context(), home, ch.Name, bytes)
			if errors.Is(err, monitor.ErrNotRunning) {
				return cure.Add(fmt.Errorf("%w, and only a running one can attest", err), "start it with %s", a.Command("start"))
			}
			if err != nil {
				return err
			}
			text := enclavekey.EncodeDocument(doc)
			if out != "" {
				return cli.WriteNew(out, text, 0o644)
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	chain.Add(a.App, cmd)
	cmd.Flags().StringVar(&nonce, "nonce", "", "bytes in hex that the document has to contain")
	cmd.Flags().StringVar(&out, "out", "", "write it to this file (default: standard output)")
	return cmd
}

// Nonce reads the flag --nonce.
func Nonce(text string) ([]byte, error) {
	nonce, err := hex.DecodeString(text)
	if err != nil || len(nonce) > hostlink.MaxNonce {
		return nil, cli.Usagef("--nonce is not hex of at most %d bytes", hostlink.MaxNonce)
	}
	return nonce, nil
}
