package nitro

import (
	"fmt"

	"github.com/spf13/cobra"

	"privyseal/internal/claims"
	"privyseal/internal/cli"
	"privyseal/internal/enclavekey"
	"privyseal/internal/home"
	"privyseal/internal/hostlink"
	"privyseal/internal/provider"
	"privyseal/internal/shell"
)

// An existing key comes into an enclave in three steps:
//
//  1. privyseal nitro import-key, on the instance: the enclave makes an RSA key
//     and attests it.
//  2. privyseal key seal, on the machine that has the key, which needs no
//     network: it verifies the document against the image, and encrypts the key
//     to it, bound to chain and state.
//  3. privyseal init --import-sealed, on the instance: the enclave opens it.
//
// The RSA key lives as long as that boot of the enclave. The instance sees
// neither the key, nor can it lower the state.

func newNitroImportKeyCommand(a *provider.House) *cobra.Command {
	f := &enclaveFlags{}
	var out string
	cmd := &cobra.Command{
		Use:   "import-key --eif FILE --out FILE",
		Short: "Have the enclave make a key to seal an existing key to",
		Long: `Have the enclave make a key to which an existing validator key can be sealed, and
write its attestation document. Take that to the machine with the validator's key:
"privyseal key seal" verifies it there, without a network.

The enclave is launched if it does not run yet. It keeps the key until it ends, so
do not stop it before "privyseal init --import-sealed".`,
		Example: "  privyseal nitro import-key --eif privyseal.eif --out import.b64",
		Args:    cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				return cli.Usagef("--out FILE is missing: where the document goes")
			}
			in, err := home.NewInstaller(a)
			if err != nil {
				return err
			}
			e, err := f.open(cmd.Context(), a, in.Config, false)
			if err != nil {
				return err
			}
			defer e.Close()
			reply, err := e.Call(cmd.Context(), hostlink.Request{ImportKey: &hostlink.ImportKey{}})
			if err != nil {
				return err
			}
			if _, err := e.Verify(reply.Document, claims.PurposeImport); err != nil {
				return fmt.Errorf("cannot use the import key: %w", err)
			}
			if err := cli.WriteNew(out, enclavekey.EncodeDocument(reply.Document), 0o644); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "take %s to the machine with the key. Take the image there from where it was built, not from this instance, which could give you another. Type there:\n  privyseal key seal KEYFILE --to %s --eif FILE --pcr3 ROLE-ARN --chain-id ID --import-state FILE --out sealed.json\n", out, shell.Word(out))
			return err
		},
	}
	f.Add(cmd)
	cmd.Flags().StringVar(&out, "out", "", "file to make")
	return cmd
}
