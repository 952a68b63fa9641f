// Package wrapped are the commands that bring keys out of YubiHSM 2 devices and into them
// under a wrap key: export, restore and clone. A key leaves a device encrypted, and nothing
// on a device is overwritten.
package wrapped

import (
	"bytes"
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/cure"
	"privyseal/internal/key/yubihsm"
	"privyseal/internal/key/yubihsm/backup"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/pubkey/keytext"
	"privyseal/internal/regular"
	hsm "privyseal/yubihsm"
)

// maxBackup bounds a file with a backup in bytes: base64 of one message of a device, with
// line ends.
const maxBackup = 2*hsm.MaxMessage + 2

const keeper = "an authentication key that may export and import, 2 on a device that tmkms has set up"

func (w *wrapping) addWrapKey(cmd *cobra.Command) {
	cmd.Flags().Uint16Var(&w.wrap, "wrap-key", 1, "object id of the wrap key, on all devices")
}

// NewExport returns `privyseal yubihsm export`.
func NewExport(app *cli.App) *cobra.Command {
	w := &wrapping{}
	var id uint16
	var out string
	cmd := &cobra.Command{
		Use:   "export --key-id ID --out FILE",
		Short: "Write a wrapped backup of a key into a file",
		Long: `Have a device encrypt a key under one of its wrap keys, and write that into a new
file: base64, in the form of tmkms and yubihsm-shell, which both restore it. Who has
the wrap key, or any device with it, can make the key of it.

Only a key that was made with the capability exportable-under-wrap leaves the device,
and the authentication key of the signer has no right to export it.`,
		Example: "  privyseal yubihsm export --key-id 1 --auth-key 2 --password-file operator --out mychain-1.backup",
		Args:    cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cmp.Or(reach.NeedKeyID(id), w.Check()); err != nil {
				return err
			}
			if out == "" {
				return cli.Usagef("--out is missing: the file to write the backup into")
			}
			devices, err := w.find(app)
			if err != nil {
				return err
			}
			var r yubihsm.Reference
			if err := cli.WriteNewFrom(out, 0o600, func() (text []byte, err error) {
				var blob []byte
				r, blob, err = w.export(cmd.Context(), devices[0], id)
				return backup.Encode(blob), err
			}); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "wrote %s: the key 0x%04x of the YubiHSM at %s, under wrap key 0x%04x\npublic key: %v\n", out, r.ID, devices[0], w.wrap, r.Public.Base64())
			return err
		},
	}
	w.Add(cmd, keeper)
	w.addWrapKey(cmd)
	reach.AddKeyID(cmd, &id)
	cmd.Flags().StringVar(&out, "out", "", "the file, which must not be there yet")
	return cmd
}

// NewRestore returns `privyseal yubihsm restore`.
func NewRestore(app *cli.App) *cobra.Command {
	w := &wrapping{}
	var public string
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Bring a key from a wrapped backup onto devices",
		Long: `Bring the key of a wrapped backup onto a device that has the same wrap key, or onto
all devices of a [yubihsm.NAME]: one that "privyseal yubihsm export", tmkms,
yubihsm-shell or yubihsm-wrap has written. The key gets the object id, the domains and
the capabilities that it had. Nothing on a device is overwritten.

The backup is encrypted, and names neither the id nor the key. With --public-key the
key is compared, and one that is there already is recognised.

A device gets the wrap key back from the 24 words of its set-up, ours or that of tmkms,
with "privyseal yubihsm setup --restore".`,
		Example: "  privyseal yubihsm restore mychain-1.backup --device usb://0123456789 --auth-key 2 --password-file operator",
		Args:    w.backupOrWords,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if err := w.Check(); err != nil {
				return err
			}
			if public != "" {
				if w.want, err = keytext.Parse(public); err != nil {
					return cli.Usage(cli.OfFlag("public-key", err))
				}
			}
			devices, err := w.find(app)
			if err != nil {
				return err
			}
			blob, err := readBackup(args[0], devices[0])
			if err != nil {
				return err
			}
			return w.restoreAll(cmd, devices, blob)
		},
	}
	w.Add(cmd, keeper)
	w.addWrapKey(cmd)
	cmd.Flags().StringVar(&public, "public-key", "", `the public key that the backup is of, as "privyseal yubihsm export" prints it`)
	return cmd
}

// wordsOfDevice is how many words a device is set up from.
const wordsOfDevice = 24

// backupOrWords checks that there is one argument. It shows the way to who has the words of
// a device in place of a backup.
func (w *wrapping) backupOrWords(cmd *cobra.Command, args []string) error {
	device := "ADDRESS"
	if named := w.Named(); len(named) > 0 {
		device = named[0]
	}
	switch len(args) {
	case 0:
		return cure.Add(cli.Usagef("FILE is missing: the wrapped backup"), "from the 24 words of a device: %s", setupCommand(device))
	case wordsOfDevice:
		return cure.Add(cli.Usagef("the words of a device are secret, and go on no command line"), "the terminal asks for them: %s", setupCommand(device))
	}
	return cli.Arguments("FILE")(cmd, args)
}

// setupCommand returns the command that sets a device up from its words.
func setupCommand(device string, more ...string) string {
	return cure.Command(append([]string{"privyseal", "yubihsm", "setup", "--restore", "--device", device}, more...)...)
}

// readBackup reads a file with a backup that is long enough to be one. device is one that it
// is for.
func readBackup(path, device string) ([]byte, error) {
	text, _, err := regular.Read(path, maxBackup)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	if len(bytes.Fields(text)) == wordsOfDevice {
		return nil, cure.Add(cli.Actf("%s has 24 words, and is not a backup", path), "if they are the words of a device: %s", setupCommand(device, "--words-file", path))
	}
	blob, err := backup.Decode(bytes.TrimSpace(text))
	if err == nil {
		err = backup.Whole(blob)
	}
	if err != nil {
		return nil, cli.Actf("%s: %w", path, err)
	}
	return blob, nil
}

// restoreAll restores a backup on each device, and says what it did there.
func (w *wrapping) restoreAll(cmd *cobra.Command, devices []string, blob []byte) error {
	for _, address := range devices {
		r, there, err := w.restore(cmd.Context(), address, blob)
		if err != nil {
			return err
		}
		did := "restored"
		if there {
			did = "nothing changed: the backup's id is taken, and this key is there already"
		}
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: the key 0x%04x of the YubiHSM at %s\npublic key: %v\n", did, r.ID, address, r.Public.Base64()); err != nil {
			return err
		}
	}
	return nil
}
