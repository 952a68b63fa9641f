package recovery

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"privyseal/internal/claims"
	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/harden"
	"privyseal/internal/home"
	"privyseal/internal/hostlink"
	"privyseal/internal/key/sgxseal"
	"privyseal/internal/key/soft"
	"privyseal/internal/key/soft/keyfile"
	"privyseal/internal/migrate/lightsgx"
	"privyseal/internal/policy"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/regular"
	"privyseal/internal/secret"
	"privyseal/internal/shell"
	"privyseal/internal/watermark"
)

// A backup is made outside of an enclave for two reasons: a key that exists already is to go
// into one, or the recovery key is exchanged. What is made, any enclave makes "…, from a
// backup" of, so that nobody takes the key for one that was never outside.

// making is `privyseal sgx make-backup`.
type making struct {
	has           func(pubkey.Type) error // refuses a key that enclaves do not sign with
	to, out       string
	public        string
	chainID       string
	ofKey, ofOurs []string // flags for a key from outside, and for a backup of ours

	keyType  pubkey.Type
	from     home.Start
	stateOut string
	light    lightsgx.Files

	opener
}

// NewMake returns `privyseal sgx make-backup`; has refuses types of keys that no enclave has.
func NewMake(a *provider.House, has func(pubkey.Type) error) *cobra.Command {
	m := &making{has: has}
	cmd := &cobra.Command{
		Use:   "make-backup FILE --to KEY --out FILE",
		Short: "Make the backup of a key that exists already, or one for another recovery key",
		Long: `Make a backup as an SGX enclave makes one, on a machine that stays offline. The private key
is in the memory of this command alone: what is written opens with the recovery key --to.

FILE is a key from outside: the key file of privyseal or of another signer, or, with
--sgx-backup-key, consensus-key.backup of tmkms-light's SGX enclave. Its state is one of
three: --import-state with the state file of the old signer, which has stopped for good;
--fresh-state to confirm that the key never signed for this chain id; or --after-height H, at
and below which nothing is ever signed. It goes into --state-out, authenticated by the key, so
that no host can make another one. Then the key goes the way of every backup: "privyseal sgx
cloud-wrap", "open-backup", and "privyseal init --provider sgx --sgx-backup FILE
--import-state FILE". The enclave's documents say forever that it was imported.

Or FILE is the backup of a key of an SGX enclave, with the recovery key that opens it: the
same backup for another one. The state of the key is not touched. The old backup still opens
with the old recovery key: whoever has both has the validator's key.`,
		Example: `  privyseal sgx make-backup priv_validator_key.json --to recovery.pub --chain-id chain-1 --import-state priv_validator_state.json --out chain-1.backup --state-out state.json
  privyseal sgx make-backup chain-1.backup --recovery-key recovery.key --to recovery-2.pub --out chain-1-2.backup`,
		Args: cli.Arguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return m.run(cmd, args[0])
		},
	}
	m.add(a, cmd)
	return cmd
}

func (m *making) add(a *provider.House, cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&m.to, "to", "", "recovery key that the backup is for: its public half, or a file of that")
	fl.StringVar(&m.out, "out", "", "backup to make")
	fl.StringVar(&m.chainID, "chain-id", "", "chain that the key signs for")
	fl.StringVar(&m.public, "backup-of", "", "public key that it has to be of, base64")
	m.ofKey = cli.Grouped(cmd, "For a key from outside", func() {
		fl.StringVar(&m.stateOut, "state-out", "", "file to make of its state, for --import-state of \"privyseal init\"")
		m.from.Add(a, cmd)
		m.from.AddFile(cmd)
		cli.AddKeyType(cmd, &m.keyType, "type", "type of the key, if its file does not say")
	})
	m.ofKey = append(m.ofKey, cli.Grouped(cmd, "For a backup of tmkms-light's SGX enclave", func() {
		fl.StringVar(&m.light.Key, "sgx-backup-key", "", "file of the 32 bytes that it is encrypted under, raw or in base64")
		fl.StringVar(&m.light.External, "sgx-external-key", "", "in place of that: the external key file (-e of tmkms-light)")
		fl.StringVar(&m.light.WrapKey, "sgx-wrap-key", "", "private key in PEM that the external key was encrypted to")
	})...)
	m.ofOurs = cli.Grouped(cmd, "For a backup that is for another recovery key", func() {
		m.opener.add(fl)
	})
}

func (m *making) run(cmd *cobra.Command, path string) error {
	again := m.recovery+m.kek != ""
	if err := m.check(cmd.Flags(), again); err != nil {
		return err
	}
	text, err := ReadPublic(m.to)
	if err != nil {
		return cli.OfFlag("to", err)
	}
	to, err := policy.ParseRecipient(text)
	if err != nil {
		return cli.OfFlag("to", err)
	}
	if err := harden.ForbidCoreDumps(); err != nil {
		return fmt.Errorf("cannot keep the key out of core files: %w", err)
	}
	harden.LockMemory() // as far as the limit for this user allows
	if again {
		return m.again(cmd, path, to)
	}
	return m.first(cmd, path, to)
}

// check finds what is wrong with the command line alone, and files that are in the way: with
// one of two written, the command could not be typed again.
func (m *making) check(fl *pflag.FlagSet, again bool) error {
	if m.chainID != "" {
		if err := config.CheckChainID(m.chainID); err != nil {
			return cli.Usagef("--chain-id: %w", err)
		}
	}
	if again {
		for _, name := range m.ofKey {
			if fl.Changed(name) {
				return cli.Usagef("--%s is for a key from outside; the state of a key in a backup stays as it is", name)
			}
		}
	}
	for _, f := range []struct {
		missing bool
		usage   string
	}{
		{m.to == "", "--to KEY is missing: the public half of the recovery key that the backup is for"},
		{m.out == "", "--out FILE is missing: where the backup goes"},
		{!again && m.chainID == "", "--chain-id is missing: the chain_id in the node's genesis.json"},
		{!again && m.stateOut == "", "--state-out FILE is missing: where the state of the key goes"},
		{!again && m.from.Count() != 1, "add one of --import-state FILE, --fresh-state and --after-height H: it says what the key has signed"},
	} {
		if f.missing {
			return cli.Usagef("%s", f.usage)
		}
	}
	if err := m.opener.check(); err != nil {
		return err
	}
	return free(m.out, m.stateOut)
}

// free refuses files that are there already, and one for two purposes.
func free(out, stateOut string) error {
	if stateOut != "" && filepath.Clean(out) == filepath.Clean(stateOut) {
		return cli.Usagef("--out and --state-out are one file, %s", out)
	}
	for _, path := range []string{out, stateOut} {
		if _, err := os.Lstat(path); path != "" && err == nil {
			return cli.Usagef("%s already exists, and nothing is overwritten; move it away or choose another name", path)
		}
	}
	return nil
}

// expect refuses another key or chain than was named.
func (m *making) expect(path, chainID string, public []byte) error {
	if key := claims.EncodeKey(public); m.public != "" && m.public != key {
		return fmt.Errorf("%s is of the public key %s, not of %s", path, key, m.public)
	}
	if m.chainID != "" && m.chainID != chainID {
		return fmt.Errorf("%s is of %s, not of chain %q", path, whose(chainID), m.chainID)
	}
	return nil
}

func whose(chainID string) string {
	if chainID == "" {
		return "an identity"
	}
	return fmt.Sprintf("chain %q", chainID)
}

// first makes the backup of a key that was never in an enclave of ours, and its state.
func (m *making) first(cmd *cobra.Command, path string, to policy.Recipient) error {
	key, err := m.read(path)
	if err != nil {
		return err
	}
	defer key.Wipe()
	public := key.PublicKey()
	if err := m.has(key.Type()); err != nil {
		return err
	}
	if err := m.expect(path, m.chainID, public.Bytes()); err != nil {
		return err
	}
	saved, err := m.from.Admit(cmd, config.NewChain(m.chainID, ""), public, "", path)
	if err != nil {
		return err
	}
	state, err := stateOf(m.chainID, key, saved, time.Now())
	if err != nil {
		return fmt.Errorf("cannot make the state of the key: %w", err)
	}
	k := secret.Key{ChainID: m.chainID, KeyType: string(key.Type()), Public: public.Bytes(), Secret: secret.NewBytes(key.Secret()), Origin: claims.Imported}
	defer k.Secret.Clear()
	backup, err := sgxseal.MakeBackup(to, k)
	if err != nil {
		return err
	}
	if err := cli.WriteNew(m.stateOut, state, 0o600); err != nil {
		return err
	}
	if err := cli.WriteNew(m.out, backup, 0o600); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "made %s: the key %s of chain %q, for the recovery key %s\nmade %s: its state, at %s\n", m.out, claims.EncodeKey(k.Public), m.chainID, to.ID(), m.stateOut, home.MarkText(saved.Mark))
	m.sayNext(cmd.ErrOrStderr(), path)
	return nil
}

// read reads a key from outside.
func (m *making) read(path string) (*soft.Key, error) {
	if m.light != (lightsgx.Files{}) {
		m.light.Backup = path
		return m.light.Open()
	}
	if err := isBackup(path); err != nil {
		return nil, err
	}
	return keyfile.ReadForeign(path, m.keyType)
}

// isBackup refuses what opens with a flag that was not given. What cannot be read is left to
// those who read keys.
func isBackup(path string) error {
	data, _, err := regular.Read(path, soft.MaxFileSize)
	if err != nil {
		return nil
	}
	defer clear(data)
	if bytes.HasPrefix(data, []byte(sgxseal.BackupFirstLine)) {
		return cure.Add(fmt.Errorf("%s is a backup of an SGX enclave", path), "add --recovery-key FILE, which opens it")
	}
	if _, err := lightsgx.ParseBackup(data); err == nil {
		return cure.Add(fmt.Errorf("%s is a backup of tmkms-light's SGX enclave", path), "add --sgx-backup-key FILE, the 32 bytes of the HSM")
	}
	return nil
}

// stateOf returns a state as `privyseal state export` writes that of an enclave: its record is
// authenticated by the key, and of no boot. What was signed at the mark is left out, because
// nothing here proves it: the mark stands, and there nothing is signed again.
func stateOf(chainID string, key *soft.Key, saved watermark.Saved, now time.Time) ([]byte, error) {
	mac, err := hostlink.RecordKey(key)
	if err != nil {
		return nil, err
	}
	saved.Mark.SignBytes = nil
	record, err := mac.Seal(watermark.ID{ChainID: chainID, Key: key.PublicKey().ID()}, hostlink.Record{Seq: hostlink.FirstSeq(now), Time: now, Mark: saved.Mark})
	if err != nil {
		return nil, err
	}
	if saved.Mark, err = hostlink.HostMark(record); err != nil {
		return nil, err
	}
	return home.EncodeInterchange(chainID, key.PublicKey(), saved, now, home.Exporter{})
}

// sayNext says where the files go, and what is left of the key outside.
func (m *making) sayNext(w io.Writer, path string) {
	fmt.Fprintf(w, "take both to the host of the enclave. Have the backup opened for that enclave, by `privyseal sgx cloud-wrap` there and `privyseal sgx open-backup` here; then type there:\n  privyseal init --provider sgx --sgx-folder FOLDER --chain-id %s --node ADDR --sgx-backup %s --sgx-wrap-key FILE --sgx-encrypted-key FILE --import-state %s\n",
		shell.Word(m.chainID), shell.Word(filepath.Base(m.out)), shell.Word(filepath.Base(m.stateOut)))
	if m.light == (lightsgx.Files{}) {
		cli.WarnPlaintext(w, path)
		return
	}
	fmt.Fprintf(w, "whoever has had the key of %s, or ran tmkms-light's init, may have the validator's key; once the new enclave signs, delete both, and what the old enclave has sealed\n", path)
}

// again makes a backup of ours again, for another recovery key.
func (m *making) again(cmd *cobra.Command, path string, to policy.Recipient) error {
	file, b, err := readBackup(path)
	if err != nil {
		return err
	}
	if err := m.expect(path, b.ChainID, b.Public); err != nil {
		return err
	}
	if b.Recipient == to.ID() {
		return cli.Usagef("%s is for the recovery key of --to already, %s", path, to.ID())
	}
	key, err := m.key(file)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer clear(key)
	backup, err := m.rewrite(file, key, to)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := cli.WriteNew(m.out, backup, 0o600); err != nil {
		return err
	}
	m.warn(cmd.ErrOrStderr(), "make backups")
	fmt.Fprintf(cmd.OutOrStdout(), "made %s: the key %s of %s, for the recovery key %s\n", m.out, claims.EncodeKey(b.Public), whose(b.ChainID), to.ID())
	_, err = fmt.Fprintf(cmd.ErrOrStderr(), "it opens for enclaves whose policy names that one: make one by `privyseal sgx policy --recovery-key %s …`, and recover the key into it. %s still opens with %s: destroy every copy of either\n", shell.Word(m.to), path, b.Recipient)
	return err
}

// rewrite opens a backup, and returns one of the same key for another recipient.
func (m *making) rewrite(file, key []byte, to policy.Recipient) ([]byte, error) {
	k, err := sgxseal.OpenBackup(file, key)
	if err != nil {
		return nil, err
	}
	defer k.Secret.Clear()
	if err := m.has(pubkey.Type(k.KeyType)); err != nil {
		return nil, err
	}
	in, err := soft.FromSecret(pubkey.Type(k.KeyType), k.Secret.Reveal())
	if err != nil {
		return nil, err
	}
	defer in.Wipe()
	if claims.EncodeKey(in.PublicKey().Bytes()) != claims.EncodeKey(k.Public) {
		return nil, errors.New("the key in the backup is not that of the public key that it names")
	}
	return sgxseal.MakeBackup(to, k)
}
