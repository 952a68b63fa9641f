package nitro

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
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
	"privyseal/internal/home"
	"privyseal/internal/hostlink"
	"privyseal/internal/key/nitrokms"
	"privyseal/internal/key/soft"
	"privyseal/internal/ops/nitro/image"
	"privyseal/internal/ops/nitro/seal"
	"privyseal/internal/ops/nitro/sharing"
	"privyseal/internal/ops/nitro/wrapped"
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
	f.enclave.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.importSealed, "import-sealed", "", "existing key, as \"privyseal key seal\" wrote it")
	fl.StringVar(&f.importKMS, "import-kms", "", "existing key as a ciphertext of \"aws kms encrypt\" or tmkms-light, opened only this once")
	fl.StringVar(&f.publicKey, "public-key", "", "public key of the key in --import-kms, in any format")
}

// enclaveChain is a chain whose key an enclave has made or taken in.
type enclaveChain struct {
	config.Chain
	own           []string // what its nodes listen on already, see migrate.Node
	key, identity wrappedKey
}

func newEnclaveChain(id, name string) *enclaveChain {
	ch := &enclaveChain{Chain: config.NewChain(id, name)}
	ch.Provider, ch.Key = providerName, "keys/"+ch.Name+".wrapped"
	return ch
}

// wrappedKey is a wrapped key with what came with it; the zero wrappedKey stands for no key.
type wrappedKey struct {
	public pubkey.Key
	*hostlink.Created
	claims claims.Claims
}

// Make implements [home.Maker].
func (f *Maker) Make(cmd *cobra.Command, a *provider.House, i *home.Order) error {
	ctx, stdout, stderr := cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	ch := newEnclaveChain(i.ChainID, i.Name)
	ch.Nodes, ch.Witness = i.Nodes, i.Witness
	in, err := home.NewInstaller(a)
	if err != nil {
		return err
	}
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
	defer e.close()
	if old != "" && old != e.boot {
		return fmt.Errorf("the key was sealed to an enclave that has ended (boot %s, this is %s); run `privyseal nitro import-key` and seal the key again", old, e.boot)
	}
	if err := installInEnclave(in, ctx, ch, e, i.KeyType, imp); err != nil {
		return err
	}
	if err := ch.report(stdout, in, e, i.Form); err != nil {
		return err
	}
	if f.importKMS != "" {
		fmt.Fprintf(stderr, "the file that you gave to `aws kms encrypt` still holds the key in plain text: `shred -u` it, wherever it is. Remove the old ciphertext %s too: it opens without naming our chain and key\n", f.importKMS)
	}
	if f.importSealed != "" {
		fmt.Fprintf(stderr, "the key is still in plain text where it was sealed; once its old signer is off for good, `shred -u` it there. %s is no longer needed\n", f.importSealed)
	}
	if e.policy.Shared() {
		fmt.Fprintln(stderr, sharing.ToMove(a, e.policy, in.Abs("keys/etcd.wrapped"), ch.Name))
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
func (f *Maker) imported(cmd *cobra.Command, in *home.Installer, ch *enclaveChain, i *home.Order) (imp *hostlink.Import, boot string, err error) {
	switch {
	case f.importSealed != "":
		s, imp, err := seal.Read(f.importSealed)
		if err != nil {
			return nil, "", cli.OfFlag("import-sealed", err)
		}
		if err := entry().Has(pubkey.Type(imp.KeyType)); err != nil {
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

func (f *Maker) importedByKMS(cmd *cobra.Command, in *home.Installer, ch *enclaveChain, i *home.Order) (*hostlink.Import, error) {
	key, err := keytext.Parse(f.publicKey)
	if err != nil {
		return nil, cli.Usagef("--public-key: %w", err)
	}
	if i.KeyType != "" && i.KeyType != key.Type() {
		return nil, cli.Usagef("--key-type %s is not that of --public-key, %s", i.KeyType, key.Type())
	}
	if err := entry().Has(key.Type()); err != nil {
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

// make has the enclave make or import the key, and make an identity if the nodes
// need one that is not there yet.
func (ch *enclaveChain) make(ctx context.Context, in *home.Installer, e *enclaveLink, t pubkey.Type, imp *hostlink.Import) error {
	var err error
	req := hostlink.Request{Create: &hostlink.Create{ChainID: ch.ID, KeyType: string(cmp.Or(t, pubkey.Ed25519)), Credentials: hostlink.Credentials(e.credentials)}}
	if imp != nil {
		imp.Credentials = hostlink.Credentials(e.credentials)
		req = hostlink.Request{Import: imp}
	}
	needs := home.NeedsIdentity(ch.Nodes)
	if needs {
		ch.Identity = wrappedIdentity(in)
		if ch.identity, err = e.readIdentity(in.Abs(ch.Identity)); err != nil {
			return err
		}
	}
	if ch.key, err = e.make(ctx, ch.ID, req); err != nil || !needs || !ch.identity.public.IsZero() {
		return err
	}
	ch.identity, err = e.makeIdentity(ctx)
	return err
}

func (e *enclaveLink) makeIdentity(ctx context.Context) (wrappedKey, error) {
	return e.make(ctx, "", hostlink.Request{Create: &hostlink.Create{KeyType: string(pubkey.Ed25519), Credentials: hostlink.Credentials(e.credentials)}})
}

// make asks for a key and verifies that the answer is what was asked for: the
// document is of this image and boot, and names the key.
func (e *enclaveLink) make(ctx context.Context, chainID string, req hostlink.Request) (w wrappedKey, err error) {
	reply, err := e.call(ctx, req)
	if err != nil {
		return w, err
	}
	if reply.Created == nil || len(reply.Created.Wrapped) == 0 {
		return w, errors.New("the enclave sent no key")
	}
	w.Created = reply.Created
	t, err := pubkey.ParseType(w.KeyType)
	if err != nil {
		return w, err
	}
	if w.public, err = pubkey.New(t, w.Public); err != nil {
		return w, err
	}
	if w.claims, err = e.verify(w.Document, claims.PurposeCreate); err != nil {
		return w, fmt.Errorf("the enclave's attestation is not valid, nothing was installed: %w", err)
	}
	if err := w.check(chainID, req); err != nil {
		return w, fmt.Errorf("the enclave attests something other than what was requested, nothing was installed: %w", err)
	}
	return w, nil
}

// check compares what came back with what was asked for.
func (w *wrappedKey) check(chainID string, req hostlink.Request) error {
	origin, mark := claims.Generated, watermark.Mark{}
	if imp := req.Import; imp != nil {
		origin = claims.Imported
		mark = watermark.Mark{Height: imp.Height, Round: imp.Round, Step: watermark.Step(imp.Step)}
		if w.KeyType != imp.KeyType || !bytes.Equal(w.Public, imp.Public) {
			return errors.New("another public key")
		}
	}
	if c := req.Create; c != nil && w.KeyType != c.KeyType {
		return fmt.Errorf("a key of type %s", w.KeyType)
	}
	h, err := nitrokms.Inspect(w.Wrapped)
	if err != nil {
		return err
	}
	c := w.claims
	switch {
	case c.Chain != chainID || c.KeyType != w.KeyType || c.Key != claims.EncodeKey(w.Public) || c.Origin != origin:
		return fmt.Errorf("a key %s of chain %q, %s", c.Key, c.Chain, c.Origin)
	case h.ChainID != chainID || h.KeyARN != c.KMSKey || !bytes.Equal(h.Public, w.Public):
		return errors.New("the wrapped key is another one")
	case chainID == "":
		return nil
	}
	r, err := hostlink.ReadRecord(w.Record)
	switch {
	case err != nil:
		return err
	case r.Seq != c.Seq || r.Mark.String() != c.Mark || c.Mark != mark.String():
		return fmt.Errorf("a state at %s", c.Mark)
	}
	return nil
}

// wrappedIdentity returns the identity that the enclaves' chains of this home
// share.
func wrappedIdentity(in *home.Installer) string {
	for _, ch := range enclaveChains(in) {
		if ch.Identity != "" {
			return ch.Identity
		}
	}
	return "identity.wrapped"
}

// readIdentity reads a wrapped identity, which the enclave has to be able to open;
// without a file it is the zero wrappedKey.
func (e *enclaveLink) readIdentity(path string) (w wrappedKey, err error) {
	there, err := wrapped.Read(path, "")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return w, nil
	case err != nil:
		return w, err
	case there.KeyARN != e.policy.KMSKey:
		return w, cli.Actf("the identity %s is wrapped under %s, and the policy of the image names %s; give this enclave a home of its own", path, there.KeyARN, e.policy.KMSKey)
	}
	return wrappedKey{public: there.PublicKey}, nil
}

// documentPath is where the attestation document of a wrapped key is.
func documentPath(wrapped string) string {
	return wrapped[:len(wrapped)-len(filepath.Ext(wrapped))] + ".attestation"
}

// installInEnclave has the enclave make or import the key of a chain, and installs it:
// everything or nothing, as install does.
func installInEnclave(in *home.Installer, ctx context.Context, ch *enclaveChain, e *enclaveLink, t pubkey.Type, imp *hostlink.Import) error {
	return in.Noted(func(note *home.Note) error {
		if err := ch.make(ctx, in, e, t, imp); err != nil {
			return err
		}
		mark, err := hostlink.HostMark(ch.key.Record)
		if err != nil {
			return err
		}
		if err := note.Write(ch.unfinished(mark)); err != nil {
			return err
		}
		if err := in.CheckKey(ch.ID, ch.key.public); err != nil {
			return err
		}
		for _, step := range enclaveSteps(in, ch, mark) {
			if err := step(); err != nil {
				return err
			}
		}
		if err := note.Named(); err != nil {
			return err
		}
		ch.Table = e.name
		return in.AddToConfig(e.newTables(), ch.Chain)
	})
}

// enclaveSteps make the files of a chain in an enclave, before the config names them.
func enclaveSteps(in *home.Installer, ch *enclaveChain, mark watermark.Mark) []func() error {
	return []func() error{
		func() error { return in.AddFiles(ch.key.files(ch.Key)...) },
		func() error {
			if ch.identity.Created == nil {
				return nil
			}
			return in.AddFiles(ch.identity.files(ch.Identity)...)
		},
		func() error {
			return in.MakeState(ch.Chain, ch.key.public, watermark.Saved{Mark: mark}, ch.key.claims.Origin == claims.Imported)
		},
	}
}

// unfinished returns what is noted of a chain while it is made.
func (ch *enclaveChain) unfinished(mark watermark.Mark) home.Making {
	u := home.Making{Name: ch.Name, ChainID: ch.ID, State: ch.State, Files: ch.key.files(ch.Key), PublicKey: json.RawMessage(ch.key.public.JSON())}
	if ch.identity.Created != nil {
		u.Files = append(u.Files, ch.identity.files(ch.Identity)...)
	}
	u.Begin(mark)
	return u
}

// files returns the files of a wrapped key at a path of the config.
func (w *wrappedKey) files(path string) []home.File {
	return []home.File{{Path: path, Data: w.Wrapped}, {Path: documentPath(path), Data: encodeDocument(w.Document)}}
}

// newTables returns the tables of the config that a chain needs and that are new.
func (e *enclaveLink) newTables() map[string]map[string]config.Section {
	if !e.isNew {
		return nil
	}
	return Tables(map[string]Enclave{e.name: e.config})
}

// report prints what the operator needs, now that all of it was verified.
func (ch *enclaveChain) report(w io.Writer, in *home.Installer, e *enclaveLink, form keytext.Form) error {
	image.WarnForTests(w, e.policy)
	if err := home.Report(w, ch.Chain, ch.key.public, ch.identity.public, ch.own, form); err != nil {
		return err
	}
	origin := "made inside the enclave, and nowhere else in the clear"
	if ch.key.claims.Origin == claims.Imported {
		origin = "imported: copies of it may exist"
	}
	identity := ""
	if ch.identity.Created != nil {
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
`, encodeDocument(ch.key.Document), "the key", origin,
		in.Abs(ch.Key), documentPath(in.Abs(ch.Key)), e.config.EIF, identity, in.Abs(ch.State))
	return tellPins(in, w, e, ch.ID, ch.key.public, ch.identity.public)
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
	for _, other := range enclaveChains(in) {
		if w, err := wrapped.Read(in.Config.Path(other.Key), other.ID); err == nil && w.KeyARN == kmsKey {
			add(&chains, "--chain-id", other.ID)
			pin(w.PublicKey)
		}
		if other.Identity == "" {
			continue
		}
		if w, err := wrapped.Read(in.Config.Path(other.Identity), ""); err == nil && w.KeyARN == kmsKey {
			pin(w.PublicKey)
		}
	}
	add(&chains, "--chain-id", chainID)
	for _, key := range keys {
		pin(key)
	}
	return strings.Join(append(chains, texts...), "")
}

// enclaveChains are the chains of this home whose keys are in enclaves.
func enclaveChains(in *home.Installer) (list []config.Chain) {
	if in.Config != nil {
		list = slices.DeleteFunc(slices.Clone(in.Config.Chains), func(ch config.Chain) bool { return ch.Provider != providerName })
	}
	return list
}

// tellPins prints the command that pins the KMS key.
func tellPins(in *home.Installer, w io.Writer, e *enclaveLink, chainID string, keys ...pubkey.Key) error {
	_, err := fmt.Fprintf(w, "pin the KMS key now:\n  privyseal nitro key-policy --role ARN --eif %s%s\n", shell.Word(e.config.EIF), pins(in, e.policy.KMSKey, chainID, keys...))
	return err
}
