package recovery

import (
	"crypto/ecdh"
	"crypto/rand"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/policy"
)

// NewKey returns `privyseal sgx recovery-key`.
func NewKey() *cobra.Command {
	return &cobra.Command{
		Use:   "recovery-key FILE",
		Short: "Make the key that opens the backups of SGX enclaves",
		Long: `Make the key that opens the backups of SGX enclaves, on a machine that is not the
validator's and stays offline. The private half goes into FILE, which must not be there yet;
whoever has it and the backups has the validator's keys, and without it a key is lost with its
CPU: keep two copies, in two places. The public half is printed as a policy has it.

A key in an HSM does as well: its public half, RSA of 2048 to 4096 bits in PEM, goes into the
policy as it is.`,
		Example: "  privyseal sgx recovery-key recovery.key",
		Args:    cli.Arguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return makeKey(cmd.OutOrStdout(), cmd.ErrOrStderr(), args[0], sgxDevice)
		},
	}
}

func makeKey(stdout, stderr io.Writer, path, device string) error {
	var text string
	err := cli.WriteNewFrom(path, 0o600, func() ([]byte, error) {
		key, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		text = publicText(key.PublicKey())
		return encodeKey(key), nil
	})
	if err != nil {
		return err
	}
	if why := nearEnclaves(path, device); why != "" {
		fmt.Fprintf(stderr, "warning: %s: whoever takes over this machine has the backups and %s, and so the validator's keys; make the recovery key on another one\n", why, path)
	}
	r, err := policy.ParseRecipient(text)
	if err != nil {
		return err
	}
	fmt.Fprintf(stderr, "backups will name it %s\n", r.ID())
	_, err = fmt.Fprintln(stdout, text)
	return err
}
