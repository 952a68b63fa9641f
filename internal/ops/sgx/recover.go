package sgx

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"privyseal/internal/claims"
	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/durable"
	"privyseal/internal/enclavecommand"
	"privyseal/internal/enclavekey"
	"privyseal/internal/home"
	"privyseal/internal/hostlink"
	"privyseal/internal/key/sgxseal"
	"privyseal/internal/ops/sgx/recovery"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/sgx/document"
	"privyseal/internal/shell"
)

// A key comes back from its backup in three steps:
//
//  1. privyseal sgx cloud-wrap, on the host: the enclave makes a wrap key and attests it.
//  2. privyseal sgx open-backup, on the machine with the recovery key: it verifies the document,
//     and encrypts the key of the backup to the wrap key.
//  3. privyseal sgx recover, on the host: the enclave opens the backup, and seals what is in it.
//
// The host sees neither the key, nor can it choose who opens the backup.

// defaultWrapKey is where a wrap key is, in the home.
const defaultWrapKey = "keys/wrap.sealed"

// backupFiles are the files of a key that comes back.
type backupFiles struct{ backup, wrapKey, encrypted string }

// read returns what the enclave is asked, but for whose key it has to be.
func (f backupFiles) read() (*hostlink.Recover, sgxseal.Backup, error) {
	req := &hostlink.Recover{}
	var err error
	if req.Backup, err = cli.ReadBounded(f.backup, maxBackup); err != nil {
		return nil, sgxseal.Backup{}, err
	}
	b, err := sgxseal.InspectBackup(req.Backup)
	if err != nil {
		return nil, b, fmt.Errorf("%s: %w", f.backup, err)
	}
	req.ChainID, req.Public = b.ChainID, b.Public
	if req.WrapKey, err = cli.ReadBounded(f.wrapKey, maxBackup); err != nil {
		return nil, b, err
	}
	req.Encrypted, err = recovery.ReadExternal(f.encrypted)
	return req, b, err
}

// into puts a key that comes out of a backup into what an enclave is asked, with its state by
// the gate.
func (f backupFiles) into(o *enclavekey.Order, cmd *cobra.Command, in *home.Installer, ch config.Chain, i *home.Order) error {
	req, b, err := f.read()
	if err != nil {
		return err
	}
	if b.ChainID != i.ChainID {
		return cli.Usagef("%s is of chain %q, not of %q", f.backup, b.ChainID, i.ChainID)
	}
	key, err := publicOf(b)
	if err != nil {
		return fmt.Errorf("%s: %w", f.backup, err)
	}
	from := i.From
	from.Keeper = Holder{} // the records of this key's enclaves are good in the new one
	saved, err := from.Admit(cmd, ch, key, in.Abs(ch.State))
	o.Recover, o.At = req, saved.Mark
	return err
}

func publicOf(b sgxseal.Backup) (pubkey.Key, error) {
	t, err := pubkey.ParseType(b.KeyType)
	if err != nil {
		return pubkey.Key{}, err
	}
	return pubkey.New(t, b.Public)
}

func newCloudWrap(a *provider.House) *cobra.Command {
	f := &enclaveFlags{}
	var nonce, sealedKey, out, public string
	cmd := &cobra.Command{
		Use:   "cloud-wrap --out FILE",
		Short: "Have the enclave make a wrap key, for whoever has the recovery key to encrypt a backup's key to",
		Long: `Have the enclave make a wrap key, an RSA key of 2048 bits, on this CPU: the first step to
bring a key back from its backup. The private half is sealed into --wrap-key; the document
of it goes into --out. Take that to the machine with the recovery key: "privyseal sgx
open-backup" verifies it there and encrypts the key of the backup to it, for "privyseal sgx
recover" here. The wrap key is good until the CPU or the enclave changes.

With the recovery key in a cloud's HSM, --public-key has the public half for it as PEM.
Whether it belongs to the enclave only the document says.`,
		Example: "  privyseal sgx cloud-wrap --sgx-folder sgx --out wrap.b64",
		Args:    cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				return cli.Usagef("--out FILE is missing: where the document goes")
			}
			bytes, err := enclavecommand.Nonce(nonce)
			if err != nil {
				return err
			}
			in, err := home.NewInstaller(a)
			if err != nil {
				return err
			}
			if sealedKey == "" {
				sealedKey = in.Abs(defaultWrapKey)
			}
			if err := free(sealedKey, out, public); err != nil {
				return err
			}
			w, err := f.cloudWrap(cmd.Context(), a, in, bytes)
			if err != nil {
				return err
			}
			if err := w.write(sealedKey, out, public); err != nil {
				return err
			}
			return w.next(cmd.ErrOrStderr(), a, in, sealedKey, out)
		},
	}
	f.Add(cmd)
	fl := cmd.Flags()
	fl.StringVarP(&sealedKey, "wrap-key", "s", "", "file of the sealed wrap key to make (default: "+defaultWrapKey+" in the home)")
	fl.StringVar(&out, "out", "", "file of the document to make")
	fl.StringVar(&public, "public-key", "", "file to make of the wrap key's public half, PEM")
	fl.StringVar(&nonce, "nonce", "", "bytes in hex that the document has to contain")
	return cmd
}

// free refuses files that are there already, before an enclave makes what goes into them: with
// the first written and not the second, the command could not be typed again.
func free(sealedKey, out, public string) error {
	seen := map[string]bool{}
	for _, f := range []struct{ flag, path string }{{"wrap-key", sealedKey}, {"out", out}, {"public-key", public}} {
		if f.path == "" {
			continue
		}
		path, err := filepath.Abs(f.path)
		if err != nil {
			return err
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			if err == nil {
				err = cli.Usagef("%s already exists, and nothing is overwritten; move it away or choose another name", f.path)
			}
			return cli.OfFlag(f.flag, err)
		}
		if seen[path] {
			return cli.Usagef("--%s %s is the file of another flag, too", f.flag, f.path)
		}
		seen[path] = true
	}
	return nil
}

// wrapKey is one that an enclave has made, and its public half in the form of PKIX.
type wrapKey struct {
	*hostlink.WrapKey
	public []byte
}

func (f *enclaveFlags) cloudWrap(ctx context.Context, a *provider.House, in *home.Installer, nonce []byte) (*wrapKey, error) {
	e, err := f.Open(ctx, a, in.Config)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	reply, err := e.Call(ctx, hostlink.Request{CloudWrap: &hostlink.CloudWrap{Nonce: nonce}})
	if err != nil {
		return nil, err
	}
	if reply.WrapKey == nil {
		return nil, errors.New("the enclave sent no wrap key")
	}
	if _, err := e.Verify(reply.WrapKey.Document, claims.PurposeWrap); err != nil {
		return nil, fmt.Errorf("cannot use the wrap key: %w", err)
	}
	d, err := document.Decode(reply.WrapKey.Document)
	if err == nil {
		_, err = x509.ParsePKIXPublicKey(d.PublicKey)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot use the wrap key: %w", err)
	}
	return &wrapKey{reply.WrapKey, d.PublicKey}, nil
}

// write makes the files of a wrap key. The sealed one comes first: what was attested and is
// not there would be found out only with the encrypted key in hand.
func (w *wrapKey) write(sealedKey, out, public string) error {
	if _, err := durable.Folders(filepath.Dir(sealedKey)); err != nil {
		return err
	}
	if err := cli.WriteNew(sealedKey, w.Wrapped, 0o600); err != nil {
		return err
	}
	if err := cli.WriteNew(out, enclavekey.EncodeDocument(w.Document), 0o644); err != nil {
		return err
	}
	if public == "" {
		return nil
	}
	return cli.WriteNew(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: w.public}), 0o644)
}

// next says what to type elsewhere, and then here: where the wrap key is, only this host knows.
func (w *wrapKey) next(stderr io.Writer, a *provider.House, in *home.Installer, sealedKey, out string) error {
	fmt.Fprintf(stderr, "made %s; take %s and the backup to the machine with the recovery key. Take the signature of the enclave there from where it was made, not from this host, which could give you another. Type there:\n  privyseal sgx open-backup BACKUP --recovery-key FILE --to DOCUMENT --collateral FILE --sigstruct FILE --out external.key\n", sealedKey, out)
	path, err := filepath.Abs(sealedKey)
	if err != nil {
		return err
	}
	wrap := ""
	if sealedKey != in.Abs(defaultWrapKey) {
		wrap = " --wrap-key " + shell.File(path)
	}
	text := "then bring external.key here, and type:\n  " + a.Line("sgx recover --encrypted-key external.key%s", wrap)
	if in.Config == nil {
		text = "then bring external.key here, with the state of the key; `privyseal init --provider sgx` takes it in, with:\n  --sgx-backup BACKUP --sgx-wrap-key " + shell.File(path) + " --sgx-encrypted-key external.key --import-state FILE"
	}
	_, err = fmt.Fprintln(stderr, text)
	return err
}

// recovering is `privyseal sgx recover`.
type recovering struct {
	chain    cli.ChainFlag
	files    backupFiles
	mark     goesOn
	identity bool
	check    bool
}

func newRecover(a *provider.House) *cobra.Command {
	r := &recovering{}
	cmd := &cobra.Command{
		Use:   "recover --encrypted-key FILE",
		Short: "Bring a key back from its backup, on a new CPU, after an update of microcode, or in a new build",
		Long: `Bring the key of a chain of this home back from its backup: the enclave opens it with the
encrypted key that "privyseal sgx open-backup" wrote, and seals the key again, for this CPU
and this build. The file that it was sealed in before is kept beside it.

The state stays as it is, and the key signs on from its mark, which is shown with its age. It
has to be the newest state of this key on any host: on a machine that was cloned, or brought
back from an image of its disk, it is not, and the validator would sign twice and be slashed.
Without a terminal, --yes confirms it. With a witness the next start goes through a quarantine.

--check does all of this but to write, and asks nothing: use it to rehearse, before the day.

A backup is of one key, and another one than the config's is refused. For a home that does
not have the chain yet there is "privyseal init --provider sgx --sgx-backup FILE".`,
		Example: "  privyseal sgx recover --encrypted-key external.key --check",
		Args:    cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return r.run(cmd, a)
		},
	}
	r.chain.Add(a.App, cmd)
	fl := cmd.Flags()
	fl.StringVarP(&r.files.encrypted, "encrypted-key", "e", "", "key of the backup, as \"privyseal sgx open-backup\" wrote it")
	fl.StringVarP(&r.files.wrapKey, "wrap-key", "w", "", "wrap key that it is encrypted to (default: "+defaultWrapKey+" in the home)")
	fl.StringVarP(&r.files.backup, "backup", "k", "", "the backup, or the folder that it is in (default: the one beside the key)")
	fl.BoolVar(&r.identity, "identity", false, "bring back the identity of the chain, and not its key")
	fl.BoolP("recover-consensus-key", "r", false, "bring back the key of the chain, which is the default")
	fl.BoolVar(&r.check, "check", false, "only look whether it works, and write nothing")
	r.mark.words.Add(a, cmd)
	return cmd
}

func (r *recovering) run(cmd *cobra.Command, a *provider.House) error {
	if r.files.encrypted == "" {
		return cli.Usagef("--encrypted-key FILE is missing: what `privyseal sgx open-backup` wrote for the wrap key of this enclave")
	}
	if f := cmd.Flags().Lookup("recover-consensus-key"); r.identity && f.Changed {
		return cli.Usagef("-r brings back the key of the chain, and --identity the identity; give one of both")
	}
	in, err := home.NewInstaller(a)
	if err != nil {
		return err
	}
	c, ch, err := r.chain.Choose(a.App)
	if err != nil {
		return err
	}
	if ch.Provider != providerName {
		return cli.Usagef("chain %s is not in an SGX enclave", ch.Name)
	}
	path, chainID, err := r.place(in, ch)
	if err != nil {
		return err
	}
	req, b, err := r.files.read()
	if err != nil {
		return err
	}
	if err := expect(path, chainID, b, r.files.backup); err != nil {
		return err
	}
	req.ChainID, req.Check = chainID, r.check
	if r.identity {
		return r.ask(cmd, a, c, ch, path, req, nil)
	}
	key, err := publicOf(b)
	if err != nil {
		return fmt.Errorf("%s: %w", r.files.backup, err)
	}
	r.mark.look = r.check
	watched, err := r.mark.admit(cmd, a, c, ch, key)
	if err != nil {
		return err
	}
	return r.ask(cmd, a, c, ch, path, req, watched)
}

// place returns where the key is, and its chain as backups name it, and completes the files.
func (r *recovering) place(in *home.Installer, ch config.Chain) (path, chainID string, err error) {
	path, chainID = ch.Key, ch.ID
	if r.identity {
		path, chainID = ch.Identity, ""
	}
	if path == "" {
		return "", "", cli.Usagef("chain %s has no identity", ch.Name)
	}
	path = in.Abs(path)
	if r.files.wrapKey == "" {
		r.files.wrapKey = in.Abs(defaultWrapKey)
	}
	if r.files.backup == "" {
		r.files.backup = enclavekey.BackupPath(path)
	}
	if info, err := os.Stat(r.files.backup); err == nil && info.IsDir() {
		r.files.backup = inFolder(r.files.backup, filepath.Base(enclavekey.BackupPath(path)))
	}
	return path, chainID, nil
}

// inFolder returns the backup in a folder: under its own name, or else under tmkms-light's.
func inFolder(folder, name string) string {
	own := filepath.Join(folder, name)
	if _, err := os.Stat(own); err == nil {
		return own
	}
	return filepath.Join(folder, "consensus-key.backup")
}

// ask has the enclave bring the key back, and puts it in its place, after first, which may be
// nil.
func (r *recovering) ask(cmd *cobra.Command, a *provider.House, c *config.Config, ch config.Chain, path string, req *hostlink.Recover, first func() error) error {
	e, err := enclaveNamed(cmd, ch.Table).Open(cmd.Context(), a, c)
	if err != nil {
		return err
	}
	defer e.Close()
	what, w := "key of chain "+ch.Name, cmd.OutOrStdout()
	if r.identity {
		what = "identity of chain " + ch.Name
	}
	if r.check {
		reply, err := e.Call(cmd.Context(), hostlink.Request{Recover: req})
		if err == nil && (reply.Created == nil || !bytes.Equal(reply.Created.Public, req.Public)) {
			err = errors.New("the enclave answers with another key")
		}
		if err == nil {
			_, err = fmt.Fprintf(w, "the %s, %s, comes out of %s here; nothing was written\n", what, claims.EncodeKey(req.Public), r.files.backup)
		}
		return err
	}
	made, err := enclavekey.Make(cmd.Context(), e, req.ChainID, hostlink.Request{Recover: req})
	if err == nil && first != nil {
		err = first()
	}
	if err != nil {
		return err
	}
	old, err := putInPlace(path, made.Wrapped)
	if err != nil {
		return err
	}
	// The document of the key's creation stays: it alone proves where the key comes from.
	if _, err := putInPlace(recoveredPath(path), enclavekey.EncodeDocument(made.Document)); err != nil {
		return err
	}
	fmt.Fprintf(w, "recovered the %s, %s, into %s\n", what, claims.EncodeKey(req.Public), path)
	if old != "" {
		fmt.Fprintf(w, "what was there is kept in %s\n", old)
	}
	_, err = fmt.Fprintf(cmd.ErrOrStderr(), "next: %s, and restart the signer\n", a.Command("check"))
	return err
}

// recoveredPath is where the document of a key is that came back.
func recoveredPath(key string) string { return enclavekey.DocumentPath(key) + ".recovered" }

// putInPlace puts a file in place of another one, which is kept under the name that it returns:
// it opens in the enclave that it was sealed in. A crash between leaves both, or the old one.
func putInPlace(path string, data []byte) (old string, err error) {
	was, err := cli.ReadBounded(path, maxBackup)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", cli.WriteNew(path, data, 0o600)
	case err != nil:
		return "", err
	}
	for n := 1; ; n++ {
		old = fmt.Sprintf("%s.old-%d", path, n)
		err := durable.Create(old, was, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		return old, durable.Replace(path, data, nil)
	}
}
