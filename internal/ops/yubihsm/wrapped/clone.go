package wrapped

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/cure"
	"privyseal/internal/key/yubihsm"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/pubkey"
	hsm "privyseal/yubihsm"
)

// cloning copies a key from one device to others.
type cloning struct {
	wrapping
	key    uint16
	to     []string
	first  bool        // of several devices is copied from, and nobody has said so
	signer reach.Login // who signs, to compare
}

// NewClone returns `privyseal yubihsm clone`.
func NewClone(app *cli.App) *cobra.Command {
	c := &cloning{}
	cmd := &cobra.Command{
		Use:   "clone --key-id ID [--to ADDRESS …]",
		Short: "Copy a key to other devices under a wrap key, and have all sign to compare",
		Long: `Copy a key from one device to others that have the same wrap key: it is exported and
restored, and never leaves a device unencrypted. Then each device signs a fixed text that
is not a vote of any chain, with the signer's own authentication key, and the signatures are
compared. A device that has the key already is only compared, and nothing on one is
overwritten.

With a [yubihsm.NAME] in the config, its first device is copied to the others of it,
and its auth_key signs.`,
		Example: `  privyseal yubihsm clone --key-id 1 --auth-key 2 --password-file operator
  privyseal yubihsm clone --key-id 1 --auth-key 2 --password-file operator --device usb://0123456789 --to usb://0123456790`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cmp.Or(reach.NeedKeyID(c.key), c.Check()); err != nil {
				return err
			}
			from, err := c.complete(app)
			if err != nil {
				return err
			}
			return c.run(cmd, from)
		},
	}
	c.Add(cmd, keeper)
	c.addWrapKey(cmd)
	reach.AddKeyID(cmd, &c.key)
	fl := cmd.Flags()
	fl.StringArrayVar(&c.to, "to", nil, "address of a device to copy the key to, may be repeated (default: the other devices of [yubihsm.NAME])")
	fl.Uint16Var(&c.signer.ID, "sign-auth-key", 0, "object id of an authentication key that may sign (default: that of [yubihsm.NAME])")
	fl.StringVar(&c.signer.File, "sign-password-file", "", "file with its password, mode 0600")
	return cmd
}

// complete fills in from the config what no flag says, and returns the device to copy from.
func (c *cloning) complete(app *cli.App) (from string, err error) {
	if (c.signer.ID == 0) != (c.signer.File == "") {
		return "", cli.Usagef("--sign-auth-key and --sign-password-file go together")
	}
	devices, err := c.find(app)
	if err != nil {
		return "", err
	}
	from = devices[0]
	own, err := c.Administrator.Signer(app)
	switch {
	case err != nil:
		return "", err
	case own.Config == nil && c.signer.ID == 0:
		return "", cli.Usagef("--sign-auth-key is missing: the object id of an authentication key that may sign, 4 on a device that tmkms has set up")
	case c.signer.ID == 0:
		c.signer = own.Login
	}
	if len(c.to) == 0 {
		c.to, c.first = devices[1:], len(devices) > 1
	}
	if len(c.to) == 0 {
		c.to = slices.DeleteFunc(slices.Clone(own.Devices), func(address string) bool { return address == from })
	}
	if len(c.to) == 0 {
		return "", cli.Usagef("--to is missing: a device to copy the key to")
	}
	for _, address := range c.to {
		if err := reach.CheckAddress("to", address); err != nil {
			return "", err
		}
	}
	return from, nil
}

// run copies the key to each device that lacks it, and compares.
func (c *cloning) run(cmd *cobra.Command, from string) error {
	ctx := cmd.Context()
	r, blob, err := c.export(ctx, from, c.key)
	if err != nil {
		return c.elsewhere(err, from)
	}
	c.want = r.Public
	// What is wrong with one of the devices shows before another one has changed.
	serials, missing := map[uint32]string{}, map[string]bool{}
	for _, address := range append([]string{from}, c.to...) {
		serial, public, err := c.look(ctx, address)
		switch other := serials[serial]; {
		case err != nil:
			return err
		case other != "":
			return cli.Usagef("%s and %s are the same device, number %010d", other, address, serial)
		case !public.IsZero() && !public.Equal(r.Public):
			return cli.Actf("%s is taken: it is the key %v, and that of the YubiHSM at %s is %v; nothing is overwritten", reach.ObjectAt("object", c.key, address), public, from, r.Public)
		}
		serials[serial], missing[address] = address, public.IsZero()
	}
	for _, address := range c.to {
		if missing[address] {
			if _, _, err := c.restore(ctx, address, blob); err != nil {
				return err
			}
		}
	}
	return c.compare(cmd, from, r, missing)
}

// elsewhere adds where else the key may be: the first device may be a new one, in place of one
// that broke.
func (c *cloning) elsewhere(err error, from string) error {
	if _, next := cure.Split(err.Error()); next != "" || !c.first {
		return err
	}
	return cure.Add(err, "if another one has the key, copy it from there: add %s", cure.Command("--device", "ADDRESS", "--to", from))
}

// look returns the serial number of a device, and what it has under the id of the key.
func (c *cloning) look(ctx context.Context, address string) (serial uint32, public pubkey.Key, err error) {
	err = c.login.Visit(ctx, address, func(ctx context.Context, s *hsm.Session) error {
		info, err := s.DeviceInfo(ctx)
		if err != nil {
			return fmt.Errorf("cannot use the YubiHSM at %s: %w", address, err)
		}
		serial = info.Serial
		public, err = reach.PublicKey(ctx, s, address, c.key)
		if reach.Refused(err, hsm.ObjectNotFound) {
			return nil
		}
		return err
	})
	return serial, public, err
}

// compare has all devices sign, and says what there is now.
func (c *cloning) compare(cmd *cobra.Command, from string, r yubihsm.Reference, copied map[string]bool) error {
	first, err := c.signer.Sign(cmd.Context(), from, r)
	if err != nil {
		return err
	}
	for _, address := range c.to {
		did := "was there already"
		if copied[address] {
			did = "is copied"
		}
		signature, err := c.signer.Sign(cmd.Context(), address, r)
		// Ed25519 is deterministic: a key whose signatures differ is not the same whole.
		if err == nil && r.Public.Type() == pubkey.Ed25519 && !bytes.Equal(signature, first) {
			err = fmt.Errorf("it signs otherwise than the YubiHSM at %s, though the public key is the same", from)
		}
		if err != nil {
			return cli.Actf("%s %s, and fails the comparison: %w", reach.ObjectAt("the key", r.ID, address), did, err)
		}
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s, and signs as the one at %s\n", reach.ObjectAt("the key", r.ID, address), did, from); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "public key: %s\n", r.Public.Base64())
	return err
}
