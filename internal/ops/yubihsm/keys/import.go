package keys

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/cure"
	"privyseal/internal/key/soft/keyfile"
	"privyseal/internal/ops/yubihsm/reach"
	hsm "privyseal/yubihsm"
)

// importing is `privyseal yubihsm import`.
type importing struct {
	reach.Administrator
	form form

	place   reach.Place
	domains hsm.Domains
}

// NewImport returns `privyseal yubihsm import`.
func NewImport(app *cli.App) *cobra.Command {
	i := &importing{}
	cmd := &cobra.Command{
		Use:   "import FILE --key-id ID",
		Short: "Bring a key from a file into devices",
		Long: `Bring a key from a file into a device, or into all devices of a [yubihsm.NAME]. The file
is one of ours, priv_validator_key.json, or one of tmkms or cosmos/kms, which hold a seed. The
public keys are compared afterwards. A device that has the key already is left as
it is, so that the command can be typed again, and nothing on a device is overwritten.

The file stays, and whoever has it has the key. The key has most likely signed before: a
chain signs with it after "privyseal init --provider yubihsm --yubihsm-take", which wants
the state of its old signer.`,
		Example: "  privyseal yubihsm import priv_validator_key.json --key-id 1 --label chain-1 --auth-key 2 --password-file operator",
		Args:    cli.Arguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := i.check(app, args[0]); err != nil {
				return err
			}
			defer i.form.key.Secret.Wipe()
			return i.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), args[0])
		},
	}
	i.Administrator.Add(cmd, "an authentication key that may import keys, 2 on a device that tmkms has set up")
	i.form.add(cmd, "type of the key, if its file does not say")
	return cmd
}

// check finds what is wrong with the command line, and reads the key.
func (i *importing) check(app *cli.App, path string) (err error) {
	if i.domains, err = i.form.set(); err != nil {
		return err
	}
	if i.place, err = i.Place(app); err != nil {
		return err
	}
	secret, err := keyfile.ReadForeign(path, i.form.keyType)
	if err != nil {
		return err
	}
	i.form.key.Secret, i.form.key.Type = secret, secret.Type()
	if err := i.form.key.Check(); err != nil {
		secret.Wipe()
		return fmt.Errorf("cannot import %s: %w", path, err)
	}
	return nil
}

// run imports the key into each device that lacks it.
func (i *importing) run(ctx context.Context, stdout, stderr io.Writer, path string) error {
	// What is wrong with one of the devices shows before another one has changed.
	serials, missing := map[uint32]string{}, map[string]bool{}
	for _, address := range i.place.Devices {
		err := i.place.Login.Visit(ctx, address, func(ctx context.Context, s *hsm.Session) (err error) {
			missing[address], err = i.look(ctx, s, address, serials)
			return err
		})
		if err != nil {
			return err
		}
	}
	for _, address := range i.place.Devices {
		did := "nothing changed: the device has"
		if missing[address] {
			did = "imported"
			if err := i.put(ctx, address); err != nil {
				return err
			}
		}
		fmt.Fprintf(stdout, "%s %s\n", did, reach.ObjectAt("the key", i.form.key.ID, address))
	}
	fmt.Fprintf(stdout, "public key: %s\n", i.form.key.Secret.PublicKey().Base64())
	cli.WarnPlaintext(stderr, path)
	_, err := fmt.Fprintf(stderr, "no chain signs with it yet: `privyseal init --provider yubihsm --yubihsm-take --yubihsm-key-id 0x%04x --import-state FILE …`, with the state of its old signer, which has to be off\n", i.form.key.ID)
	return err
}

// look reports whether a device lacks the key, and refuses one that cannot get it.
func (i *importing) look(ctx context.Context, s *hsm.Session, address string, serials map[uint32]string) (missing bool, err error) {
	info, err := s.DeviceInfo(ctx)
	if err != nil {
		return false, fmt.Errorf("cannot use the YubiHSM at %s: %w", address, err)
	}
	if other := serials[info.Serial]; other != "" {
		return false, cli.Usagef("%s and %s are the same device, number %d", other, address, info.Serial)
	}
	serials[info.Serial] = address
	there, err := s.ObjectInfo(ctx, hsm.TypeAsymmetricKey, i.form.key.ID)
	switch {
	case reach.Refused(err, hsm.ObjectNotFound):
		own, err := Maker{i.place.Login, otherKey}.May(ctx, s, address, i.form.key, 0)
		if err == nil {
			err = in(own, i.domains, address)
		}
		return true, err
	case err != nil:
		return false, fmt.Errorf("cannot look at %s: %w", reach.ObjectAt("object", i.form.key.ID, address), err)
	}
	return false, i.compare(ctx, s, address, there)
}

// compare refuses an object that is not the key of the file, as it was asked for.
func (i *importing) compare(ctx context.Context, s *hsm.Session, address string, there hsm.ObjectInfo) error {
	object := reach.ObjectAt("object", i.form.key.ID, address)
	taken := func(is any) error {
		return cure.Add(cli.Actf("%s is taken: it is %v, and nothing is overwritten", object, is), "choose another --key-id")
	}
	if there.Algorithm != reach.Algorithm(i.form.key.Type) {
		return taken(fmt.Sprintf("a key of %v", there.Algorithm))
	}
	public, err := reach.PublicKey(ctx, s, address, i.form.key.ID)
	switch {
	case err != nil:
		return err
	case !public.Equal(i.form.key.Secret.PublicKey()):
		return taken(fmt.Sprintf("the key %v, and that of the file is %v", public, i.form.key.Secret.PublicKey()))
	case !there.Capabilities.Has(i.form.key.capabilities()):
		return cli.Actf("%s is the key of the file already, and it lacks the capability %v, which nothing adds later", object, i.form.key.capabilities()&^there.Capabilities)
	}
	return nil
}

// put imports the key into a device.
func (i *importing) put(ctx context.Context, address string) error {
	return i.place.Login.Visit(ctx, address, func(ctx context.Context, s *hsm.Session) error {
		_, _, err := i.form.key.Make(ctx, s, address, i.domains)
		return another(err)
	})
}
