package keys

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/cure"
	"privyseal/internal/key/yubihsm"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/ops/yubihsm/verify"
	"privyseal/internal/yubico"
	hsm "privyseal/yubihsm"
)

// attesting is `privyseal yubihsm attest`.
type attesting struct {
	reach.Administrator
	trust verify.Trust
	id    uint16
	out   string

	place   reach.Place
	trusted trusted
}

// NewAttest returns `privyseal yubihsm attest`.
func NewAttest(app *cli.App) *cobra.Command {
	a := &attesting{}
	cmd := &cobra.Command{
		Use:   "attest --key-id ID [--out FILE]",
		Short: "Save what a device attests of a key",
		Long: `Have a device attest a key that it has, verify that up to Yubico's root, save it in a new
file, and print what it proves: how the key came into the device, whether it can leave it, and
what it may do. "privyseal verify" checks the file, anywhere. Nothing on a device is changed.

Of the devices of a [yubihsm.NAME] each attests its own, into a file of its own.`,
		Example: "  privyseal yubihsm attest --key-id 1 --auth-key 2 --password-file operator --out chain-1.attestation",
		Args:    cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.check(app); err != nil {
				return err
			}
			for _, address := range a.place.Devices {
				if err := a.run(cmd.Context(), cmd.OutOrStdout(), address); err != nil {
					return err
				}
			}
			return nil
		},
	}
	a.Administrator.Add(cmd, "an authentication key that may sign attestations and read opaque objects, 2 on a device that tmkms has set up")
	reach.AddKeyID(cmd, &a.id)
	a.trust.Add(cmd.Flags())
	cmd.Flags().StringVar(&a.out, "out", "", "file for the attestation, which must not be there yet (default yubihsm-SERIAL-ID.attestation)")
	return cmd
}

// check finds what is wrong with the command line, and what is trusted.
func (a *attesting) check(app *cli.App) (err error) {
	if err := reach.NeedKeyID(a.id); err != nil {
		return err
	}
	if a.trusted.anchor, a.trusted.between, err = a.trust.Read(); err != nil {
		return err
	}
	if a.place, err = a.Place(app); err == nil && a.out != "" && len(a.place.Devices) > 1 {
		err = cli.Usagef("--out is for one device, and %d are meant: name one with --device", len(a.place.Devices))
	}
	return err
}

// run saves what one device attests, and says what that proves.
func (a *attesting) run(ctx context.Context, stdout io.Writer, address string) error {
	return a.place.Login.Visit(ctx, address, func(ctx context.Context, s *hsm.Session) error {
		r, out, err := a.look(ctx, s, address)
		if err != nil {
			return err
		}
		var p *verify.Proof
		err = cli.WriteNewFrom(out, 0o644, func() (text []byte, err error) {
			p, text, err = a.trusted.prove(ctx, s, address, r)
			return text, err
		})
		if unknown, ok := errors.AsType[*yubico.IssuerError](err); ok {
			words := wordsFor(a.place.Login, address, "attest", "--key-id", fmt.Sprintf("0x%04x", a.id), "--out", out)
			return cure.Add(err, "%s", again(unknown, append(words, a.trust.Words()...)))
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "saved %s\n", out)
		return p.Report(stdout, true)
	})
}

// look returns which key is attested, and into which file.
func (a *attesting) look(ctx context.Context, s *hsm.Session, address string) (r yubihsm.Reference, out string, err error) {
	r.ID = a.id
	if _, err = a.place.Login.Own(ctx, s, address, Attests); err != nil {
		return r, "", err
	}
	r.Public, err = reach.PublicKey(ctx, s, address, a.id)
	if reach.Refused(err, hsm.ObjectNotFound) {
		return r, "", cli.Actf("there is no %s, in a domain of authentication key 0x%04x", reach.ObjectAt("asymmetric key", a.id, address), a.place.Login.ID)
	}
	if err != nil {
		return r, "", err
	}
	info, err := s.DeviceInfo(ctx)
	if err != nil {
		return r, "", fmt.Errorf("cannot use the YubiHSM at %s: %w", address, err)
	}
	if out = a.out; out == "" {
		out = fileOf(info.Serial, a.id)
	}
	return r, out, nil
}
