package recovery

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"privyseal/internal/claims"
	"privyseal/internal/cli"
	"privyseal/internal/home"
	"privyseal/internal/key/sgxseal"
	"privyseal/internal/kwp"
	"privyseal/internal/sgx/document"
	"privyseal/internal/shell"
	"privyseal/internal/strictjson"
)

// maxDocument bounds one in base64, which comes from the host.
const maxDocument = 64 << 10

// open is `privyseal sgx open-backup`.
type open struct {
	verifier    home.Verifier
	to, at, out string
	public      string
	forHSM      bool
	opener
}

// NewOpen returns `privyseal sgx open-backup`; verifier is what `privyseal verify` has for
// documents of SGX enclaves.
func NewOpen(verifier home.Verifier) *cobra.Command {
	o := &open{verifier: verifier}
	cmd := &cobra.Command{
		Use:   "open-backup BACKUP --recovery-key FILE --to DOCUMENT --out FILE",
		Short: "Open the backup of a key, for one verified enclave",
		Long: `Open the backup of a key, for one enclave, on the machine that has the recovery key: the
document of "privyseal sgx cloud-wrap" is verified as by "privyseal verify", with the same
flags, and the key of the backup is encrypted to the wrap key in it. Nobody but that enclave,
on that CPU, can use what is written. The validator's key itself is never written.

With the recovery key in an HSM, --for-hsm prints what to have decrypted there, in base64, by
RSA-OAEP with SHA-256; what comes back, 32 bytes or base64 of them, goes into the file --kek,
in place of --recovery-key.

The host gives the document, so name the enclave: with --any-enclave this is refused.`,
		Example: "  privyseal sgx open-backup consensus-key.backup --recovery-key recovery.key --to wrap.b64 --collateral platform.json --sigstruct privyseal-sgx.sig --out external.key",
		Args:    cli.Arguments("BACKUP"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd, args[0])
		},
	}
	verifier.Add(cmd)
	fl := cmd.Flags()
	o.opener.add(fl)
	fl.BoolVar(&o.forHSM, "for-hsm", false, "print what the HSM with the recovery key has to decrypt")
	fl.StringVar(&o.to, "to", "", "document of \"privyseal sgx cloud-wrap\"")
	fl.StringVar(&o.public, "backup-of", "", "public key that the backup has to be of, base64")
	fl.StringVar(&o.at, "at", "", "when the document was made, as in 2026-11-20T12:00:00Z, if not now")
	fl.StringVar(&o.out, "out", "", "file to make: a JSON string of base64 of 296 bytes")
	return cmd
}

func (o *open) run(cmd *cobra.Command, path string) error {
	if o.forHSM {
		return printForHSM(cmd.OutOrStdout(), path)
	}
	if err := o.opener.check(); err != nil {
		return err
	}
	for _, f := range []struct{ value, usage string }{
		{o.recovery + o.kek, "--recovery-key FILE is missing: the private half of the policy's recovery_key"},
		{o.to, "--to DOCUMENT is missing: what `privyseal sgx cloud-wrap` wrote"},
		{o.out, "--out FILE is missing: where the encrypted key goes"},
	} {
		if f.value == "" {
			return cli.Usagef("%s", f.usage)
		}
	}
	if f := cmd.Flags().Lookup("any-enclave"); f != nil && f.Changed {
		return cli.Usagef("--any-enclave would give the key to whatever program the host runs; name the enclave")
	}
	file, b, err := readBackup(path)
	if err != nil {
		return err
	}
	if key := claims.EncodeKey(b.Public); o.public != "" && o.public != key {
		return fmt.Errorf("%s is of the public key %s, not of %s", path, key, o.public)
	}
	to, err := o.wrapKey(b)
	if err != nil {
		return err
	}
	o.warn(cmd.ErrOrStderr(), "open backups")
	return o.write(cmd.ErrOrStderr(), file, b, to)
}

// wrapKey verifies the document and returns the key in it.
func (o *open) wrapKey(b sgxseal.Backup) (*rsa.PublicKey, error) {
	at, err := cli.ParseAt(o.at)
	if err != nil {
		return nil, err
	}
	data, err := cli.ReadBounded(o.to, maxDocument)
	if err != nil {
		return nil, cli.OfFlag("to", err)
	}
	if !o.verifier.Recognises(data) {
		return nil, fmt.Errorf("%s is not a document of an SGX enclave", o.to)
	}
	if err := o.verifier.Verify(io.Discard, data, home.Expected{At: at}); err != nil {
		return nil, fmt.Errorf("the backup is not opened for %s: %w", o.to, err)
	}
	// What was verified is decoded again: the same bytes say the same.
	d, err := document.Decode(document.Raw(data))
	if err != nil {
		return nil, fmt.Errorf("%s has a quote, and no document of privyseal's enclave around it: %w", o.to, err)
	}
	c, err := claims.Decode(d.UserData)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", o.to, err)
	case c.Purpose != claims.PurposeWrap:
		return nil, fmt.Errorf("%s is not a document of `privyseal sgx cloud-wrap`, but one for %q", o.to, c.Purpose)
	case c.Recipient != b.Recipient:
		return nil, fmt.Errorf("the enclave of %s takes backups for the recovery key %s, and this one is for %+q", o.to, c.Recipient, b.Recipient)
	}
	return parseWrapKey(d.PublicKey)
}

func parseWrapKey(spki []byte) (*rsa.PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, fmt.Errorf("the wrap key is malformed: %w", err)
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok || key.N.BitLen() != 2048 {
		return nil, errors.New("the wrap key is not an RSA key of 2048 bits")
	}
	return key, nil
}

// write opens the key of the backup and writes it, encrypted to the wrap key.
func (o *open) write(stderr io.Writer, file []byte, b sgxseal.Backup, to *rsa.PublicKey) error {
	key, err := o.key(file)
	if err != nil {
		return err
	}
	defer clear(key)
	encrypted, err := kwp.WrapRSA(to, key)
	if err != nil {
		return err
	}
	if err := cli.WriteNew(o.out, encodeExternal(encrypted), 0o600); err != nil {
		return err
	}
	of, with, next := "an identity", ", with --identity", " --identity"
	if b.ChainID != "" {
		of, with, next = fmt.Sprintf("chain %q", b.ChainID), "", ""
	}
	_, err = fmt.Fprintf(stderr, "opened the backup of the public key %s of %s, for that enclave alone. Take %s to its host, and type there what `privyseal sgx cloud-wrap` printed there, which names its wrap key%s; where that is in its usual place:\n  privyseal sgx recover --encrypted-key %s%s\n", claims.EncodeKey(b.Public), of, o.out, with, shell.Word(filepath.Base(o.out)), next)
	return err
}

func printForHSM(w io.Writer, path string) error {
	_, b, err := readBackup(path)
	if err != nil {
		return err
	}
	part := b.ForHSM()
	if part == nil {
		return fmt.Errorf("%s is for the recovery key %+q, which no HSM has", path, b.Recipient)
	}
	_, err = fmt.Fprintln(w, base64.StdEncoding.EncodeToString(part))
	return err
}

// encodeExternal returns the file of a key that is encrypted to a wrap key, as tmkms-light has
// it too: a JSON string.
func encodeExternal(encrypted []byte) []byte {
	text, _ := json.Marshal(base64.StdEncoding.EncodeToString(encrypted)) // a string of ASCII
	return append(text, '\n')
}

// ReadExternal reads such a file.
func ReadExternal(path string) ([]byte, error) {
	text, err := cli.ReadBounded(path, 1<<10)
	if err != nil {
		return nil, err
	}
	var encoded string
	err = strictjson.Decode(text, &encoded)
	raw, wrong := base64.StdEncoding.DecodeString(encoded)
	if err != nil || wrong != nil || len(raw) != sgxseal.EncryptedSize {
		return nil, fmt.Errorf("%s is not what `privyseal sgx open-backup` writes: a JSON string of base64 of %d bytes", path, sgxseal.EncryptedSize)
	}
	return raw, nil
}
