package seal

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"privyseal/internal/claims"
	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/home"
	"privyseal/internal/key/soft/keyfile"
	"privyseal/internal/ops/nitro/verify"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/shell"
)

// flags are those of `privyseal key seal`.
type flags struct {
	has     func(pubkey.Type) error // refuses a key that enclaves do not sign with
	image   verify.Image
	to, at  string
	chainID string
	from    home.Start
	keyType pubkey.Type
	out     string
}

// NewCommand returns `privyseal key seal`; has refuses types of keys that no enclave has.
func NewCommand(a *provider.House, has func(pubkey.Type) error) *cobra.Command {
	f := &flags{has: has}
	cmd := &cobra.Command{
		Use:   "seal KEYFILE --to DOCUMENT --eif FILE --chain-id ID --out FILE",
		Short: "Encrypt an existing key to a Nitro enclave",
		Long: `Encrypt an existing key to a Nitro enclave, where the key is: the attestation
document of "privyseal nitro import-key" is verified against the image, and the key
is encrypted, with its state, so that only that enclave can open it and nobody can
lower the state. No network is needed. The key file stays as it is.

The image is named as for "privyseal verify". The state is one of three:
--import-state with the state file of the old signer, which has stopped for good;
--fresh-state to confirm that the key never signed for this chain id; or
--after-height H, at and below which nothing is ever signed.`,
		Example: "  privyseal key seal priv_validator_key.json --to import.b64 --eif privyseal.eif --chain-id chain-1 --import-state priv_validator_state.json --out sealed.json",
		Args:    cli.Arguments("KEYFILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd, args[0])
		},
	}
	f.image.Add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.to, "to", "", "attestation document of \"privyseal nitro import-key\"")
	fl.StringVar(&f.at, "at", "", "when the document was made, as in 2026-11-20T12:00:00Z, if that was more than three hours ago")
	fl.StringVar(&f.chainID, "chain-id", "", "chain to sign for")
	fl.StringVar(&f.out, "out", "", "file to make")
	f.from.Add(a, cmd)
	f.from.AddFile(cmd)
	cli.AddKeyType(cmd, &f.keyType, "type", "type of the key, if its file does not say")
	return cmd
}

func (f *flags) run(cmd *cobra.Command, path string) error {
	stdout, stderr := cmd.OutOrStdout(), cmd.ErrOrStderr()
	if err := f.check(); err != nil {
		return err
	}
	to, v, err := f.recipient()
	if err != nil {
		return err
	}
	if !v.Anchor.IsAWS() {
		fmt.Fprintln(stderr, verify.NotAWS(v.Anchor))
	}
	if v.Policy == nil {
		fmt.Fprintln(stderr, "warning: --pcr0 alone does not say which KMS the image trusts, and whoever runs that KMS learns the key; name the image with --eif, or with --pcr1 and --policy")
	}
	key, err := keyfile.ReadForeign(path, f.keyType)
	if err != nil {
		return err
	}
	defer key.Wipe()
	if err := f.has(key.Type()); err != nil {
		return err
	}
	saved, err := f.from.Admit(cmd, config.NewChain(f.chainID, ""), key.PublicKey(), "", path)
	if err != nil {
		return err
	}
	mark := saved.Mark
	imp := NewImport(f.chainID, key.PublicKey(), mark)
	secret := key.Secret()
	defer clear(secret)
	if err := imp.Seal(to, secret); err != nil {
		return fmt.Errorf("cannot seal the key: %w", err)
	}
	s := Key{
		Format: format, Version: version, Boot: v.Statement.Claims.Boot, ChainID: f.chainID, Fresh: imp.Fresh,
		Height: mark.Height, Round: mark.Round, Step: mark.Step.String(), SignBytes: mark.SignBytes, Sealed: imp.Sealed,
	}
	s.PublicKey = json.RawMessage(key.PublicKey().JSON())
	data, err := s.encode()
	if err != nil {
		return err
	}
	if err := cli.WriteNew(f.out, data, 0o600); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "sealed %s for chain %s, at %s, to the image with PCR0 %x\n", s.PublicKey, f.chainID, home.MarkText(mark), v.Doc.PCRs[0])
	fmt.Fprintf(stderr, "take %s to the instance: `privyseal init --provider nitro --import-sealed %s …`\n", f.out, shell.Word(f.out))
	cli.WarnPlaintext(stderr, path)
	return nil
}

// check finds what is wrong with the command line alone.
func (f *flags) check() error {
	given := f.from.Count()
	switch {
	case f.to == "":
		return cli.Usagef("--to DOCUMENT is missing: what `privyseal nitro import-key` wrote")
	case f.image.EIF == "" && f.image.PCR0 == "" && f.image.PCR1 == "":
		return cli.Usagef("name the image that the key may go to: --eif FILE, --pcr0 HEX, or --pcr1 HEX with --policy FILE")
	case f.chainID == "":
		return cli.Usagef("--chain-id is missing: the chain_id in the node's genesis.json")
	case f.out == "":
		return cli.Usagef("--out FILE is missing: where the sealed key goes")
	case given != 1:
		return cli.Usagef("add one of --import-state FILE, --fresh-state and --after-height H: it says what the key has signed")
	}
	if err := config.CheckChainID(f.chainID); err != nil {
		return cli.Usagef("--chain-id: %w", err)
	}
	return f.from.Check()
}

// recipient verifies the document and returns the key in it.
func (f *flags) recipient() (*rsa.PublicKey, *verify.Verified, error) {
	at, err := cli.ParseAt(f.at)
	if err != nil {
		return nil, nil, err
	}
	raw, err := verify.ReadDocument(f.to)
	if err != nil {
		return nil, nil, cli.OfFlag("to", err)
	}
	f.image.Ours = true
	v, err := (&verify.Flags{Image: f.image}).Check(raw, home.Expected{At: at})
	if err != nil {
		return nil, nil, fmt.Errorf("the key is not sealed to %s: %w", f.to, err)
	}
	if !v.Statement.Ours || v.Statement.Claims.Purpose != claims.PurposeImport {
		return nil, nil, fmt.Errorf("%s is not a document of `privyseal nitro import-key`", f.to)
	}
	to, err := importKeyOf(v.Doc.PublicKey)
	return to, v, err
}

// importKeyOf parses the key in an import document.
func importKeyOf(spki []byte) (*rsa.PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, fmt.Errorf("the import key is malformed: %w", err)
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok || key.N.BitLen() < 2048 {
		return nil, errors.New("the import key is not an RSA key of 2048 bits or more")
	}
	return key, nil
}
