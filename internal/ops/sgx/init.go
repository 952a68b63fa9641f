package sgx

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"privyseal/internal/claims"
	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/enclavecommand"
	"privyseal/internal/enclavekey"
	"privyseal/internal/home"
	"privyseal/internal/key/soft"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/pubkey/keytext"
	"privyseal/internal/shell"
)

// Maker is the flags of `privyseal init --provider sgx`.
type Maker struct {
	enclave enclaveFlags
	nonce   string
	backup  backupFiles
}

// Add implements [home.Maker].
func (f *Maker) Add(cmd *cobra.Command) {
	f.enclave.Add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.nonce, "sgx-nonce", "", "bytes in hex that the document of a new key has to contain")
	fl.StringVar(&f.backup.backup, "sgx-backup", "", "existing key as its backup, with --sgx-wrap-key, --sgx-encrypted-key and --import-state")
	fl.StringVar(&f.backup.wrapKey, "sgx-wrap-key", "", "wrap key, as \"privyseal sgx cloud-wrap\" wrote it")
	fl.StringVar(&f.backup.encrypted, "sgx-encrypted-key", "", "key of the backup, as \"privyseal sgx open-backup\" wrote it")
}

// Check implements [home.Maker].
func (f *Maker) Check(i *home.Order) error {
	state := i.From.Said
	state.Initial = 0
	switch {
	case i.ImportKey != "":
		return cli.Usagef("never bring a key file to an enclave's host; a key comes into an SGX enclave out of a backup, with --sgx-backup, and `privyseal sgx make-backup` makes one of a key file where that is")
	case f.backup == (backupFiles{}) && (state != (home.Said{}) || i.From.Initial != 0):
		return cli.Usagef("--import-state, --fresh-state, --after-height and --initial-height do not go with a new key, which begins at the state_floor of the enclave's policy")
	case f.backup == (backupFiles{}):
		return nil
	case f.backup.backup == "" || f.backup.wrapKey == "" || f.backup.encrypted == "":
		return cli.Usagef("--sgx-backup, --sgx-wrap-key and --sgx-encrypted-key go together")
	case f.nonce != "" || i.KeyType != "":
		return cli.Usagef("--sgx-nonce and --key-type are for a new key")
	case i.From.File == "" || i.From.Count() != 1:
		return cli.Usagef("a key out of a backup has signed before: give its state with --import-state FILE, which `privyseal state export` wrote on its last host, or `privyseal sgx make-backup` with the backup; for one whose state is lost see doc/sgx.md, \"The state is lost\"")
	}
	return i.From.Check()
}

// Make implements [home.Maker].
func (f *Maker) Make(cmd *cobra.Command, a *provider.House, i *home.Order) error {
	stdout, stderr := cmd.OutOrStdout(), cmd.ErrOrStderr()
	in, err := home.NewInstaller(a)
	if err != nil {
		return err
	}
	ch := &enclavekey.Chain{Chain: config.NewChain(i.ChainID, i.Name)}
	ch.Provider, ch.Key, ch.Nodes, ch.Witness = providerName, "keys/"+ch.Name+".sealed", i.Nodes, i.Witness
	if err := in.CheckFree(ch.Chain); err != nil {
		return err
	}
	order := enclavekey.Order{Type: i.KeyType}
	if order.Nonce, err = enclavecommand.Nonce(f.nonce); err != nil {
		return cli.Usagef("--sgx-nonce is not hex of at most 512 bytes")
	}
	if err := printable(i); err != nil {
		return err
	}
	e, err := f.enclave.link(in.Config)
	if err == nil {
		err = e.allows(i.ChainID)
	}
	if err == nil && f.backup.backup != "" {
		err = f.backup.into(&order, cmd, in, ch.Chain, i)
	}
	if err != nil {
		return err
	}
	if err := e.begin(cmd.Context(), nil); err != nil {
		return err
	}
	defer e.Close()
	ch.Table, ch.SharedIdentity = e.name, identityOf(enclavekey.Chains(in, providerName), e.name)
	if err := ch.Install(cmd.Context(), in, e, order, e.newTables()); err != nil {
		return err
	}
	if err := e.report(stdout, in, ch, i.Form); err != nil {
		return err
	}
	if e.policy.Shared() {
		fmt.Fprintln(stderr, says.ToMove(a, e.policy, in.Abs("keys/etcd.sealed"), ch.Name))
	}
	in.Next(stderr)
	return nil
}

// identityOf returns the identity that the chains of one enclave share. Each enclave has its
// own: what one has sealed need not open in another.
func identityOf(chains []config.Chain, enclave string) string {
	for _, ch := range chains {
		if ch.Table == enclave && ch.Identity != "" {
			return ch.Identity
		}
	}
	if slices.ContainsFunc(chains, func(ch config.Chain) bool { return ch.Identity == commands.Identity }) {
		return "identity-" + enclave + ".sealed"
	}
	return commands.Identity
}

// printable checks that the public key that will be there can be printed as the flags say,
// while nothing is made yet.
func printable(i *home.Order) error {
	like, err := soft.Generate(pubkey.Ed25519)
	if err != nil {
		return err
	}
	defer like.Wipe()
	if _, err := i.Form.Text(like.PublicKey()); err != nil {
		return cli.Usage(err)
	}
	return nil
}

// newTables returns the tables of the config that a chain needs and that are new.
func (e *enclaveLink) newTables() map[string]map[string]config.Section {
	if !e.isNew {
		return nil
	}
	return enclaves.Tables(e.name, e.config)
}

// report prints what the operator needs, now that all of it was checked.
func (e *enclaveLink) report(w io.Writer, in *home.Installer, ch *enclavekey.Chain, form keytext.Form) error {
	if err := home.Report(w, ch.Chain, ch.Made.Public, ch.NodesSee.Public, ch.Own, form); err != nil {
		return err
	}
	origin := "made inside the enclave; in the clear it is nowhere else"
	if ch.Made.Claims.Origin != claims.Generated {
		origin = ch.Made.Claims.Origin + ": copies of it may exist"
	}
	fmt.Fprintf(w, "the key is %s\nattestation %s\n  %s\n\nback up, on another machine, all of these:\n", origin, enclavekey.DocumentPath(in.Abs(ch.Key)), e.verified())
	for _, f := range e.toBackUp(in, ch) {
		fmt.Fprintf(w, "  %s    %s\n", f[0], f[1])
	}
	fmt.Fprintf(w, "never back up:\n  %s    an old copy would let it sign twice\n", in.Abs(ch.State))
	return e.tellCollateral(w, in, ch)
}

// toBackUp returns files, and what each is for.
func (e *enclaveLink) toBackUp(in *home.Installer, ch *enclavekey.Chain) (files [][2]string) {
	key := in.Abs(ch.Key)
	if ch.Made.Backup != nil {
		files = append(files, [2]string{enclavekey.BackupPath(key), "the key, for the recovery key " + ch.Made.Claims.Recipient + " alone; without it the key is gone with this CPU, or with an update of its microcode"})
	}
	files = append(files, [2]string{enclavekey.DocumentPath(key), "proves where the key comes from"}, [2]string{e.config.Folder, "the enclave: program, policy, manifest and signature"})
	if ch.NodesSee.Created != nil {
		files = append(files, [2]string{enclavekey.BackupPath(in.Abs(ch.Identity)), "the identity by which nodes know this signer, for that recovery key"})
	}
	return files
}

// verified says how far a document was verified here.
func (e *enclaveLink) verified() string {
	if e.config.Collateral == "" {
		return "compared with the signature of the enclave; that a CPU of Intel's made it is not verified yet"
	}
	return "verified up to Intel: this enclave, this boot, this key"
}

// tellCollateral says how the document is verified, where it was not.
func (e *enclaveLink) tellCollateral(w io.Writer, in *home.Installer, ch *enclavekey.Chain) error {
	if e.config.Collateral != "" {
		return nil
	}
	document := enclavekey.DocumentPath(in.Abs(ch.Key))
	_, err := fmt.Fprintf(w, "verify the attestation, on another machine, with:\n  %s\n  %s\n",
		"privyseal sgx collateral platform.json --quote "+shell.Word(document),
		fmt.Sprintf("privyseal verify %s --collateral platform.json --mrenclave %x --chain-id %s", shell.Word(document), e.signature.MRENCLAVE, shell.Word(ch.ID)))
	return err
}
