package nitro

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"privyseal/internal/claims"
	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/enclavekey"
	"privyseal/internal/home"
	"privyseal/internal/hostlink"
	"privyseal/internal/key/nitrokms"
	"privyseal/internal/key/soft"
	"privyseal/internal/ops/nitro/image"
	"privyseal/internal/ops/nitro/seal"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/pubkey/keytext"
	"privyseal/internal/shell"
	"privyseal/internal/watermark"
)

// Maker is the flags of `privyseal init --provider nitro`.
type Maker struct {
	enclave      enclaveFlags
	importSealed string
	importKMS    string
	publicKey    string
}

func (f *Maker) Add(cmd *cobra.Command) {
	f.enclave.Add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.importSealed, "import-sealed", "", "existing key, as \"privyseal key seal\" wrote it")
	fl.StringVar(&f.importKMS, "import-kms", "", "existing key as a ciphertext of \"aws kms encrypt\" or tmkms-light, opened only this once")
	fl.StringVar(&f.publicKey, "public-key", "", "public key of the key in --import-kms, in any format")
}

func newEnclaveChain(in *home.Installer, id, name string) *enclavekey.Chain {
	ch := &enclavekey.Chain{Chain: config.NewChain(id, name), SharedIdentity: wrappedIdentity(in)}
	ch.Provider, ch.Key = providerName, "keys/"+ch.Name+".wrapped"
	return ch
}

// Make implements [home.Maker].
func (f *Maker) Make(cmd *cobra.Command, a *provider.House, i *home.Order) error {
	ctx, stdout, stderr := cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	in, err := home.NewInstaller(a)
	if err != nil {
		return err
	}
	ch := newEnclaveChain(in, i.ChainID, i.Name)
	ch.Nodes, ch.Witness = i.Nodes, i.Witness
	if err := in.CheckFree(ch.Chain); err != nil {
		return err
	}
	imp, old, err := f.imported(cmd, in, ch, i)
	if err != nil {
		return err
	}
	if err := f.printable(i, imp); err != nil {
		return err
	}
	if f.importKMS != "" {
		source, err := filepath.Abs(f.importKMS)
		if err != nil {
			return err
		}
		ch.ImportedFrom = []string{source}
	}
	if err := f.enclave.allows(in.Config, i.ChainID); err != nil {
		return err
	}
	e, err := f.enclave.open(ctx, a, in.Config, true)
	if err != nil {
		return err
	}
	defer e.Close()
	if old != "" && old != e.Boot() {
		return fmt.Errorf("the key was sealed to an enclave that has ended (boot %s, this is %s); run `privyseal nitro import-key` and seal the key again", old, e.Boot())
	}
	if err := e.install(ctx, in, ch, i.KeyType, imp); err != nil {
		return err
	}
	if err := e.report(stdout, in, ch, i.Form); err != nil {
		return err
	}
	if f.importKMS != "" {
		fmt.Fprintf(stderr, "the file that you gave to `aws kms encrypt` still holds the key in plain text: `shred -u` it, wherever it is. Remove the old ciphertext %s too: it opens without naming our chain and key\n", f.importKMS)
	}
	if f.importSealed != "" {
		fmt.Fprintf(stderr, "the key is still in plain text where it was sealed; once its old signer is off for good, `shred -u` it there. %s is no longer needed\n", f.importSealed)
	}
	if e.policy.Shared() {
		fmt.Fprintln(stderr, says.ToMove(a, e.policy, in.Abs("keys/etcd.wrapped"), ch.Name))
	}
	in.Next(stderr)
	return nil
}

// printable checks that the public key that will be there can be printed as the flags
// say, while nothing is made yet.
func (f *Maker) printable(i *home.Order, imp *hostlink.Import) error {
	var public pubkey.Key
	var err error
	if imp != nil {
		public, err = pubkey.New(pubkey.Type(imp.KeyType), imp.Public)
	} else {
		var like *soft.Key
		if like, err = soft.Generate(cmp.Or(i.KeyType, pubkey.Ed25519)); err == nil {
			public = like.PublicKey()
			like.Wipe()
		}
	}
	if err != nil {
		return err
	}
	if _, err = i.Form.Text(public); err != nil {
		return cli.Usage(err)
	}
	return nil
}

// check finds what is wrong with the command line alone.
func (f *Maker) Check(i *home.Order) error {
	isNew := f.importSealed == "" && f.importKMS == ""
	state := i.From.Said
	state.Initial = 0
	given := state != (home.Said{})
	switch {
	case i.ImportKey != "":
		return cli.Usagef("never bring a key file to an enclave's host: seal it with `privyseal key seal`, where it is, and give --import-sealed; doc/nitro.md says how")
	case f.importSealed != "" && f.importKMS != "":
		return cli.Usagef("give only one of --import-sealed and --import-kms")
	case f.importSealed != "" && (given || f.publicKey != "" || i.KeyType != ""):
		return cli.Usagef("public key and state are in the sealed file; --import-state, --fresh-state, --after-height, --public-key and --key-type do not go with it")
	case f.importKMS != "" && f.publicKey == "":
		return cli.Usagef("--public-key KEY is missing: the public key of the key in --import-kms, which is the validator's, or what tmkms-light printed")
	case f.importKMS != "" && i.From.Count() != 1:
		return cli.Usagef("an imported key may have signed before; add one of --import-state FILE with its state, --after-height H to sign nothing at or below a height, or --fresh-state if it has never signed for %s", i.ChainID)
	case f.importKMS == "" && i.From.Initial != 0:
		return cli.Usagef("--initial-height goes with --import-kms here: a new key of an enclave begins at the state_floor of the image's policy, and a sealed one where it was sealed")
	case isNew && (given || f.publicKey != ""):
		return cli.Usagef("--import-state, --fresh-state, --after-height and --public-key go with --import-kms: a new key has signed nothing")
	case f.importKMS != "":
		return i.From.Check()
	}
	return nil
}

// imported returns the request for an existing key, nil for a new one, and the
// boot of the enclave that it was sealed to.
func (f *Maker) imported(cmd *cobra.Command, in *home.Installer, ch *enclavekey.Chain, i *home.Order) (imp *hostlink.Import, boot string, err error) {
	switch {
	case f.importSealed != "":
		s, imp, err := seal.Read(f.importSealed)
		if err != nil {
			return nil, "", cli.OfFlag("import-sealed", err)
		}
		if err := hasType(in, ch, pubkey.Type(imp.KeyType)); err != nil {
			return nil, "", err
		}
		if s.ChainID != i.ChainID {
			return nil, "", cli.Usagef("the key in %s was sealed for chain %q, not %q", f.importSealed, s.ChainID, i.ChainID)
		}
		mark := watermark.Mark{Height: imp.Height, Round: imp.Round, Step: watermark.Step(imp.Step), SignBytes: imp.SignBytes}
		sealed := home.Incoming{Chain: ch.Name, Mark: mark, From: f.importSealed + ", sealed by `privyseal key seal`"}
		return imp, s.Boot, i.From.Gate(cmd, ch.Chain, s.Fresh).Admit(sealed, home.Here{})
	case f.importKMS != "":
		imp, err := f.importedByKMS(cmd, in, ch, i)
		return imp, "", err
	}
	return nil, "", nil
}

// hasType refuses a type that the provider of a chain has no keys of.
func hasType(in *home.Installer, ch *enclavekey.Chain, t pubkey.Type) error {
	e, err := in.House.Providers.Of(ch.Chain)
	if err != nil {
		return err
	}
	return e.Has(t)
}

func (f *Maker) importedByKMS(cmd *cobra.Command, in *home.Installer, ch *enclavekey.Chain, i *home.Order) (*hostlink.Import, error) {
	key, err := keytext.Parse(f.publicKey)
	if err != nil {
		return nil, cli.Usagef("--public-key: %w", err)
	}
	if i.KeyType != "" && i.KeyType != key.Type() {
		return nil, cli.Usagef("--key-type %s is not that of --public-key, %s", i.KeyType, key.Type())
	}
	if err := hasType(in, ch, key.Type()); err != nil {
		return nil, err
	}
	ciphertext, err := readCiphertext(f.importKMS)
	if err != nil {
		return nil, cli.OfFlag("import-kms", err)
	}
	saved, err := i.From.Admit(cmd, ch.Chain, key, in.Abs(ch.State), f.importKMS)
	if err != nil {
		return nil, err
	}
	// The bytes that were signed there are nothing that the enclave takes from us.
	saved.Mark.SignBytes = nil
	imp := seal.NewImport(i.ChainID, key, saved.Mark)
	imp.KMS = ciphertext
	return imp, nil
}

// readCiphertext reads what the enclave takes for a ciphertext of KMS: raw, as
// tmkms-light keeps it, base64, or the JSON that `aws kms encrypt` prints.
func readCiphertext(path string) ([]byte, error) {
	data, err := cli.ReadBounded(path, 16<<10)
	if err != nil {
		return nil, err
	}
	// What is not a ciphertext must not get to KMS as one: it could be the key.
	if key, err := soft.Import(data, ""); err == nil {
		key.Wipe()
		return nil, fmt.Errorf("%s holds a key in plain text, and no ciphertext; never bring it to an enclave's host: seal it with `privyseal key seal`, where it is, and give --import-sealed", path)
	}
	ciphertext, err := nitrokms.ReadCiphertext(data)
	if err == nil && len(ciphertext) <= maxPlain {
		err = fmt.Errorf("it has %d bytes, like a key in plain text, and a ciphertext of KMS has more", len(ciphertext))
	}
	if err != nil {
		return nil, fmt.Errorf("%s is not a ciphertext of `aws kms encrypt` or tmkms-light: %w", path, err)
	}
	return data, nil
}

// maxPlain is how many bytes a key in plain text has at most, seed or expanded. A
// ciphertext of one has those and a good deal more.
const maxPlain = 64

// Wraps implements [enclavekey.Enclave].
func (e *enclaveLink) Wraps(chainID string, k *enclavekey.Key) error {
	h, err := nitrokms.Inspect(k.Wrapped)
	if err != nil {
		return err
	}
	if h.ChainID != chainID || h.KeyARN != k.Claims.KMSKey || !bytes.Equal(h.Public, k.Created.Public) {
		return errors.New("the wrapped key is another one")
	}
	return nil
}

// wrappedIdentity returns the identity that the enclaves' chains of this home
// share.
func wrappedIdentity(in *home.Installer) string {
	return enclavekey.IdentityOf(in, providerName, "identity.wrapped")
}

// Identity implements [enclavekey.Enclave].
func (e *enclaveLink) Identity(path string) (pubkey.Key, error) {
	there, err := keyFiles.Read(path, "")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return pubkey.Key{}, nil
	case err != nil:
		return pubkey.Key{}, err
	case there.Opener != e.policy.KMSKey:
		return pubkey.Key{}, cli.Actf("the identity %s is wrapped under %s, and the policy of the image names %s; give this enclave a home of its own", path, there.Opener, e.policy.KMSKey)
	}
	return there.PublicKey, nil
}

// install has the enclave make or import the key of a chain, and installs it.
func (e *enclaveLink) install(ctx context.Context, in *home.Installer, ch *enclavekey.Chain, t pubkey.Type, imp *hostlink.Import) error {
	ch.Table = e.name
	return ch.Install(ctx, in, e, enclavekey.Order{Type: t, Import: imp, Credentials: hostlink.Credentials(e.credentials)}, e.newTables())
}

// newTables returns the tables of the config that a chain needs and that are new.
func (e *enclaveLink) newTables() map[string]map[string]config.Section {
	if !e.isNew {
		return nil
	}
	return enclaves.Tables(e.name, e.config)
}

// report prints what the operator needs, now that all of it was verified.
func (e *enclaveLink) report(w io.Writer, in *home.Installer, ch *enclavekey.Chain, form keytext.Form) error {
	image.WarnForTests(w, e.policy)
	if err := home.Report(w, ch.Chain, ch.Made.Public, ch.NodesSee.Public, ch.Own, form); err != nil {
		return err
	}
	origin := "made inside the enclave, and nowhere else in the clear"
	if ch.Made.Claims.Origin == claims.Imported {
		origin = "imported: copies of it may exist"
	}
	identity := ""
	if ch.NodesSee.Created != nil {
		identity = "\n  " + in.Abs(ch.Identity) + "    the identity by which nodes know this signer"
	}
	fmt.Fprintf(w, `attestation (base64; verified: this image, this boot, this key):
%s%s is %s

back up, on another machine:
  %s    opens in this image only; without it the key is gone
  %s    proves where the key comes from
  %s    the image, and its policy file%s
never back up:
  %s    an old copy would let it sign twice
`, enclavekey.EncodeDocument(ch.Made.Document), "the key", origin,
		in.Abs(ch.Key), enclavekey.DocumentPath(in.Abs(ch.Key)), e.config.EIF, identity, in.Abs(ch.State))
	return tellPins(in, w, e, ch.ID, ch.Made.Public, ch.NodesSee.Public)
}

// pins returns the flags that pin in the policy of the KMS key a new chain and its
// keys, and all that is wrapped under it in this home already. A pin of the new one
// alone would lock the others out, at their next boot. chainID is "" for an identity.
func pins(in *home.Installer, kmsKey, chainID string, keys ...pubkey.Key) string {
	var chains, texts []string
	add := func(to *[]string, flag, value string) {
		if word := " " + flag + " " + shell.Word(value); value != "" && !slices.Contains(*to, word) {
			*to = append(*to, word)
		}
	}
	pin := func(key pubkey.Key) {
		if key.IsZero() {
			return
		}
		add(&texts, "--public-key", key.Base64())
	}
	for _, other := range enclavekey.Chains(in, providerName) {
		if w, err := keyFiles.Read(in.Config.Path(other.Key), other.ID); err == nil && w.Opener == kmsKey {
			add(&chains, "--chain-id", other.ID)
			pin(w.PublicKey)
		}
		if other.Identity == "" {
			continue
		}
		if w, err := keyFiles.Read(in.Config.Path(other.Identity), ""); err == nil && w.Opener == kmsKey {
			pin(w.PublicKey)
		}
	}
	add(&chains, "--chain-id", chainID)
	for _, key := range keys {
		pin(key)
	}
	return strings.Join(append(chains, texts...), "")
}

// toldPins is tellPins of an identity, for a home.
func (e *enclaveLink) toldPins(a *provider.House) func(w io.Writer, identity pubkey.Key) error {
	return func(w io.Writer, identity pubkey.Key) error {
		in, err := home.NewInstaller(a)
		if err != nil {
			return err
		}
		return tellPins(in, w, e, "", identity)
	}
}

// tellPins prints the command that pins the KMS key.
func tellPins(in *home.Installer, w io.Writer, e *enclaveLink, chainID string, keys ...pubkey.Key) error {
	_, err := fmt.Fprintf(w, "pin the KMS key now:\n  privyseal nitro key-policy --role ARN --eif %s%s\n", shell.Word(e.config.EIF), pins(in, e.policy.KMSKey, chainID, keys...))
	return err
}
