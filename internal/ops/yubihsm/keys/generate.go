package keys

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/cure"
	"privyseal/internal/key/yubihsm"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/ops/yubihsm/verify"
	"privyseal/internal/pubkey"
	"privyseal/internal/yubico"
	hsm "privyseal/yubihsm"
)

// generating is `privyseal yubihsm generate`.
type generating struct {
	reach.Administrator
	form  form
	trust verify.Trust
	out   string
	bare  bool // without an attestation

	place   reach.Place
	domains hsm.Domains
	trusted trusted

	made  bool // the key is there
	proof *verify.Proof
	key   yubihsm.Reference
}

// NewGenerate returns `privyseal yubihsm generate`.
func NewGenerate(app *cli.App) *cobra.Command {
	g := &generating{}
	cmd := &cobra.Command{
		Use:   "generate --key-id ID [--out FILE]",
		Short: "Make a key in a device, and save the device's attestation of it",
		Long: `Make a key in a device that cannot leave it, have the device attest that, verify the
attestation up to Yubico's root, and save it in a new file, which "privyseal verify" checks
anywhere. Everything is looked at first, so that a mistake shows before a key is made, and
nothing on a device is overwritten.

A key that is to be on several devices has to be made with --exportable, on one of them, and
brought to the others with "privyseal yubihsm clone". A chain signs with the key after
"privyseal init --provider yubihsm --yubihsm-take".`,
		Example: "  privyseal yubihsm generate --key-id 1 --label chain-1 --auth-key 2 --password-file operator --out chain-1.attestation",
		Args:    cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := g.check(app); err != nil {
				return err
			}
			return g.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	g.Administrator.Add(cmd, "an authentication key that may make keys, 2 on a device that tmkms has set up")
	g.form.add(cmd, "type of the key, ed25519 if it is not given")
	g.trust.Add(cmd.Flags())
	cmd.Flags().StringVar(&g.out, "out", "", "file for the attestation, which must not be there yet (default yubihsm-SERIAL-ID.attestation)")
	cmd.Flags().BoolVar(&g.bare, "no-attestation", false, "make the key without an attestation: nobody can prove later where it was made, but the device")
	return cmd
}

// check finds what is wrong with the command line, and what is trusted.
func (g *generating) check(app *cli.App) (err error) {
	if g.domains, err = g.form.set(); err != nil {
		return err
	}
	g.form.key.Type = cmp.Or(g.form.keyType, pubkey.Ed25519)
	if err := g.form.key.Check(); err != nil {
		return err
	}
	if g.bare && g.out != "" {
		return cli.Usagef("--out is for an attestation, and --no-attestation for a key without one")
	}
	if g.trusted.anchor, g.trusted.between, err = g.trust.Read(); err != nil {
		return err
	}
	if g.place, err = g.Place(app); err != nil || len(g.place.Devices) == 1 {
		return err
	}
	id := []string{"--key-id", fmt.Sprintf("0x%04x", g.form.key.ID)}
	first, clone := g.place.Devices[0], wordsFor(g.place.Login, g.place.Devices[0], "clone", id...)
	for _, other := range g.place.Devices[1:] {
		clone = append(clone, "--to", other)
	}
	return cure.Add(cli.Usagef("a key is made in one device, and %d are meant", len(g.place.Devices)), "make it on one with %s, and bring it to the others with %s",
		cure.Command(wordsFor(g.place.Login, first, "generate", append(id, "--exportable")...)...), strings.TrimSuffix(cure.Command(clone...), "`")+" …`")
}

// otherKey is what an operator does about a right that an authentication key lacks.
const otherKey = "name one that may with --auth-key and --password-file"

// wordsFor returns the words of a command of `privyseal yubihsm` for a device.
func wordsFor(l reach.Login, address, name string, words ...string) []string {
	words = append([]string{"privyseal", "yubihsm", name}, words...)
	return append(words, "--device", address, "--auth-key", strconv.Itoa(int(l.ID)), "--password-file", l.File)
}

// run makes the key.
func (g *generating) run(ctx context.Context, stdout, stderr io.Writer) error {
	err := g.place.Login.Visit(ctx, g.place.Devices[0], func(ctx context.Context, s *hsm.Session) error {
		if err := g.look(ctx, s); err != nil {
			return err
		}
		if g.bare {
			return g.make(ctx, s)
		}
		return cli.WriteNewFrom(g.out, 0o644, func() (text []byte, err error) {
			if err = g.make(ctx, s); err == nil {
				g.proof, text, err = g.trusted.prove(ctx, s, g.place.Devices[0], g.key)
			}
			if err == nil {
				err = g.form.key.asMade(g.proof)
			}
			return text, err
		})
	})
	if err != nil {
		return g.left(err)
	}
	return g.report(stdout, stderr)
}

// look refuses what would fail after the key is made.
func (g *generating) look(ctx context.Context, s *hsm.Session) error {
	address := g.place.Devices[0]
	info, err := s.DeviceInfo(ctx)
	if err != nil {
		return fmt.Errorf("cannot use the YubiHSM at %s: %w", address, err)
	}
	if g.out == "" {
		g.out = fileOf(info.Serial, g.form.key.ID)
	}
	switch there, err := s.ObjectInfo(ctx, hsm.TypeAsymmetricKey, g.form.key.ID); {
	case err == nil:
		return cure.Add(cli.Actf("%s is taken: it is a key of %v, and nothing is overwritten", reach.ObjectAt("object", g.form.key.ID, address), there.Algorithm), "choose another --key-id")
	case !reach.Refused(err, hsm.ObjectNotFound):
		return fmt.Errorf("cannot look at %s: %w", reach.ObjectAt("object", g.form.key.ID, address), err)
	}
	more := Attests
	other := "name one that may with --auth-key and --password-file, or make the key without an attestation, with --no-attestation"
	if g.bare {
		more, other = 0, otherKey
	}
	own, err := Maker{g.place.Login, other}.May(ctx, s, address, g.form.key, more)
	if err != nil {
		return err
	}
	if err := in(own, g.domains, address); err != nil || g.bare {
		return err
	}
	return unproven(g.trusted.genuine(ctx, s, address, info.Serial))
}

// unproven adds what to do about a device whose own certificate does not verify.
func unproven(err error) error {
	if err == nil {
		return nil
	}
	next := "make the key without an attestation, with --no-attestation"
	if unknown, ok := errors.AsType[*yubico.IssuerError](err); ok {
		next = save(unknown) + ", and name it with --sub-ca; or " + next
	}
	return cure.Add(cli.Actf("no key is made: %w", err), "%s", next)
}

// make makes the key.
func (g *generating) make(ctx context.Context, s *hsm.Session) (err error) {
	g.key.ID = g.form.key.ID
	g.key.Public, g.made, err = g.form.key.Make(ctx, s, g.place.Devices[0], g.domains)
	return another(err)
}

// asMade refuses the attestation of a key that is not as it was asked for.
func (k Key) asMade(p *verify.Proof) error {
	if !p.Generated() || p.Exportable() != k.Exportable {
		return fmt.Errorf("the device attests that it is not as it was made: %s", p.Summary())
	}
	return nil
}

// left says what there is after a failure, and what to do about it.
func (g *generating) left(err error) error {
	if !g.made {
		return err
	}
	words := wordsFor(g.place.Login, g.place.Devices[0], "attest", "--key-id", fmt.Sprintf("0x%04x", g.key.ID), "--out", g.out)
	words = append(words, g.trust.Words()...)
	return cure.Add(cli.Actf("%s is made, and stays; its attestation is not saved: %v", reach.ObjectAt("the key", g.key.ID, g.place.Devices[0]), err), "%s", cure.Command(words...))
}

// report says what was made, and what is proven.
func (g *generating) report(stdout, stderr io.Writer) error {
	fmt.Fprintf(stdout, "made %s\npublic key: %s\n", reach.ObjectAt("the key", g.key.ID, g.place.Devices[0]), g.key.Public.Base64())
	if g.proof != nil {
		fmt.Fprintf(stdout, "saved %s: %s\n", g.out, g.proof.Summary())
	}
	_, err := fmt.Fprintf(stderr, "no chain signs with it yet: `privyseal init --provider yubihsm --yubihsm-take --yubihsm-key-id 0x%04x --fresh-state …`\n", g.key.ID)
	return err
}
