package nitro

import (
	"bytes"
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
	"privyseal/internal/hostlink"
	"privyseal/internal/key/soft/keyfile"
	"privyseal/internal/ops/nitro/verify"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/shell"
	"privyseal/internal/watermark"
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
			defer e.close()
			reply, err := e.call(cmd.Context(), hostlink.Request{ImportKey: &hostlink.ImportKey{}})
			if err != nil {
				return err
			}
			if _, err := e.verify(reply.Document, claims.PurposeImport); err != nil {
				return fmt.Errorf("cannot use the import key: %w", err)
			}
			if err := cli.WriteNew(out, encodeDocument(reply.Document), 0o644); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "take %s to the machine with the key. Take the image there from where it was built, not from this instance, which could give you another. Type there:\n  privyseal key seal KEYFILE --to %s --eif FILE --pcr3 ROLE-ARN --chain-id ID --import-state FILE --out sealed.json\n", out, shell.Word(out))
			return err
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&out, "out", "", "file to make")
	return cmd
}

// sealedKey is what `key seal` writes: a JSON object of these keys, in this
// order. It holds no secret in the clear; what is altered in it, the enclave refuses.
type sealedKey struct {
	Format    string          `json:"format"`  // "privyseal-sealed-key"
	Version   int             `json:"version"` // 1
	Boot      string          `json:"boot"`    // of the enclave that can open it
	ChainID   string          `json:"chain_id"`
	PublicKey json.RawMessage `json:"public_key"` // as in genesis.json
	Fresh     bool            `json:"fresh"`      // it never signed for this chain
	Height    int64           `json:"height,string"`
	Round     int32           `json:"round"`
	Step      string          `json:"step"`
	SignBytes []byte          `json:"sign_bytes"` // null if they are not known
	Sealed    []byte          `json:"sealed"`
}

const (
	sealedFormat  = "privyseal-sealed-key"
	sealedVersion = 1
	maxSealed     = 64 << 10 // bytes
)

func (s sealedKey) encode() ([]byte, error) {
	data, err := json.MarshalIndent(s, "", "  ")
	return append(data, '\n'), err
}

// readSealed reads what `key seal` wrote, and returns the request that it is
// for.
func readSealed(path string) (sealedKey, *hostlink.Import, error) {
	data, err := cli.ReadBounded(path, maxSealed)
	if err != nil {
		return sealedKey{}, nil, err
	}
	s, imp, err := decodeSealed(data)
	if err != nil {
		return s, nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, imp, nil
}

// decodeSealed takes nothing but what encode has written.
func decodeSealed(data []byte) (s sealedKey, imp *hostlink.Import, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil || s.Format != sealedFormat || s.Version != sealedVersion {
		return s, nil, errors.New("it is not what `privyseal key seal` writes")
	}
	again, err := s.encode()
	if err != nil || !bytes.Equal(again, data) {
		return s, nil, errors.New("it was altered: it is not what `privyseal key seal` writes")
	}
	key, err := pubkey.ParseJSON(s.PublicKey)
	if err != nil {
		return s, nil, err
	}
	step, err := home.ParseStep(s.Step)
	if err != nil {
		return s, nil, err
	}
	imp = newImport(s.ChainID, key, watermark.Mark{Height: s.Height, Round: s.Round, Step: step, SignBytes: s.SignBytes})
	imp.Sealed = s.Sealed
	if s.Fresh != imp.Fresh {
		return s, nil, fmt.Errorf("it was altered: fresh is %v, and its state is at height %d", s.Fresh, s.Height)
	}
	return s, imp, nil
}

// newImport returns a request without a secret. The zero mark is the word that
// the key never signed.
func newImport(chainID string, key pubkey.Key, m watermark.Mark) *hostlink.Import {
	return &hostlink.Import{
		ChainID: chainID, KeyType: string(key.Type()), Public: key.Bytes(),
		Height: m.Height, Round: m.Round, Step: uint8(m.Step), SignBytes: m.SignBytes, Fresh: m.IsZero(),
	}
}

// sealFlags are the flags of `privyseal key seal`.
type sealFlags struct {
	image   verify.Image
	to, at  string
	chainID string
	from    home.Start
	keyType cli.KeyType
	out     string
}

func NewSeal(a *provider.House) *cobra.Command {
	f := &sealFlags{}
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
	fl.StringVar(&f.at, "at", "", "when that was made, as 2026-11-20T12:00:00Z, if it is older than three hours")
	fl.StringVar(&f.chainID, "chain-id", "", "chain to sign for")
	fl.StringVar(&f.out, "out", "", "file to make")
	f.from.Add(a, cmd)
	f.from.AddFile(cmd)
	f.keyType.Add(cmd, "type", "", "type of the key, if its file does not say")
	return cmd
}

func (f *sealFlags) run(cmd *cobra.Command, path string) error {
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
	t, err := f.keyType.Parse()
	if err != nil {
		return err
	}
	key, err := keyfile.ReadForeign(path, t)
	if err != nil {
		return err
	}
	defer key.Wipe()
	if err := entry().Has(key.Type()); err != nil {
		return err
	}
	saved, err := f.from.Admit(cmd, config.NewChain(f.chainID, ""), key.PublicKey(), "", path)
	if err != nil {
		return err
	}
	mark := saved.Mark
	imp := newImport(f.chainID, key.PublicKey(), mark)
	secret := key.Secret()
	defer clear(secret)
	if err := imp.Seal(to, secret); err != nil {
		return fmt.Errorf("cannot seal the key: %w", err)
	}
	s := sealedKey{
		Format: sealedFormat, Version: sealedVersion, Boot: v.Statement.Claims.Boot, ChainID: f.chainID, Fresh: imp.Fresh,
		Height: mark.Height, Round: mark.Round, Step: mark.Step.String(), SignBytes: mark.SignBytes, Sealed: imp.Sealed,
	}
	if s.PublicKey, err = cli.KeyJSON(key.PublicKey()); err != nil {
		return err
	}
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
func (f *sealFlags) check() error {
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
		return cli.Usagef("one of --import-state FILE, --fresh-state and --after-height H says what the key has signed")
	}
	if err := config.CheckChainID(f.chainID); err != nil {
		return cli.Usagef("--chain-id: %w", err)
	}
	return f.from.Check()
}

// recipient verifies the document and returns the key in it.
func (f *sealFlags) recipient() (*rsa.PublicKey, *verify.Verified, error) {
	raw, err := verify.ReadDocument(f.to, bytes.NewReader(nil))
	if err != nil {
		return nil, nil, cli.OfFlag("to", err)
	}
	f.image.Ours = true
	v, err := (&verify.Flags{Image: f.image, At: f.at}).Verify(raw)
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
