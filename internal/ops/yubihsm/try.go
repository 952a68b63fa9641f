package yubihsm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/key/yubihsm"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	hsm "privyseal/yubihsm"
)

// speedTest has devices sign again and again.
type speedTest struct {
	reach.Signer
	chain cli.ChainFlag
	id    uint16
	want  pubkey.Key // what the chain's key has to be, zero with --key-id
	count int
}

func newTestCommand(a *provider.House) *cobra.Command {
	t := &speedTest{}
	cmd := &cobra.Command{
		Use:   "test [--chain-id NAME | --key-id N] [--count N]",
		Short: "Have devices sign with a key, and measure how long it takes",
		Long: `Have each device sign a fixed text that is not a vote, with the key of a chain or with
--key-id, and verify each signature. A signer that uses the device meanwhile waits its turn.
It ends at ^C with what was measured by then.`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			where, err := t.where(a)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			var failed []error
			for _, address := range where.Devices {
				failed = append(failed, t.device(ctx, cmd.OutOrStdout(), cmd.ErrOrStderr(), where.Login, address))
			}
			return errors.Join(failed...)
		},
	}
	t.Add(cmd)
	t.chain.Add(a.App, cmd)
	cmd.Flags().Uint16Var(&t.id, "key-id", 0, "object id of the key, as in 0x0001; without it that of the chain")
	cmd.Flags().IntVar(&t.count, "count", 20, "how many signatures of each device")
	return cmd
}

// where returns the one place to work at, and fills in the key's id.
func (t *speedTest) where(a *provider.House) (reach.Place, error) {
	switch {
	case t.count < 1:
		return reach.Place{}, cli.Usagef("--count %d is not at least 1", t.count)
	case t.id != 0 && t.chain.ID != "":
		return reach.Place{}, cli.Usagef("--key-id and --chain-id do not go together: a chain has its key")
	}
	list, err := t.Places(a.App)
	if err != nil {
		return reach.Place{}, err
	}
	if t.id != 0 {
		if len(list) > 1 {
			return reach.Place{}, cli.Usagef("there are several [%s.NAME]: add --yubihsm NAME", reach.Table)
		}
		return list[0], nil
	}
	if list[0].Config == nil {
		return reach.Place{}, reach.NeedKeyID(0)
	}
	c, ch, err := t.chain.Choose(a.App)
	if err != nil {
		return reach.Place{}, err
	}
	return t.ofChain(list, c, ch)
}

// ofChain returns the place of a chain's key, and fills in its id.
func (t *speedTest) ofChain(list []reach.Place, c *config.Config, ch config.Chain) (reach.Place, error) {
	i := slices.IndexFunc(list, func(p reach.Place) bool { return ch.Provider == reach.Table && p.Table == ch.Table })
	if i < 0 {
		return reach.Place{}, cli.Usagef("chain %s has its key elsewhere", ch.Name)
	}
	r, err := yubihsm.ReadReference(c.Path(ch.Key))
	if err != nil {
		return reach.Place{}, cli.Act(err)
	}
	t.id, t.want = r.ID, r.Public
	return list[i], nil
}

// device has a device sign, until it has done enough or ctx ends.
func (t *speedTest) device(ctx context.Context, out, progress io.Writer, l reach.Login, address string) error {
	r, err := t.reference(ctx, l, address)
	if err != nil {
		return err
	}
	if !t.want.IsZero() {
		r.Public = t.want
	}
	var took []time.Duration
	err = l.Trial(ctx, address, r, func(d *yubihsm.Devices, sign func() ([]byte, error)) (err error) {
		took, err = t.sign(ctx, progress, d, sign)
		return err
	})
	if err != nil {
		return err
	}
	if len(took) == 0 {
		return fmt.Errorf("stopped before the YubiHSM at %s signed", address)
	}
	slices.Sort(took)
	median := took[len(took)/2]
	round := func(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
	fmt.Fprintf(out, "%s signs with key 0x%04x, %v: %d of %d signatures, min %v, median %v, max %v: %s\n", address, r.ID, r.Public,
		len(took), t.count, round(took[0]), round(median), round(took[len(took)-1]), allows(median))
	return nil
}

// sign returns how long each signature took. progress hears of every tenth part of them.
func (t *speedTest) sign(ctx context.Context, progress io.Writer, d *yubihsm.Devices, sign func() ([]byte, error)) (took []time.Duration, err error) {
	for len(took) < t.count && ctx.Err() == nil {
		if _, err := sign(); err != nil {
			return nil, err
		}
		status := d.Status()[0]
		took = append(took, status.LastTook)
		if len(took)%max(t.count/10, 1) == 0 {
			fmt.Fprintf(progress, "%s: %d of %d\n", status.Address, len(took), t.count)
		}
	}
	return took, nil
}

// reference returns the key as it is on a device. It says what keeps us from it.
func (t *speedTest) reference(ctx context.Context, l reach.Login, address string) (r yubihsm.Reference, err error) {
	err = l.Visit(ctx, address, func(ctx context.Context, s *hsm.Session) error {
		there, err := s.PublicKey(ctx, t.id)
		if reach.Refused(err, hsm.ObjectNotFound) {
			return fmt.Errorf("the YubiHSM at %s has no key 0x%04x, or none in a domain of authentication key 0x%04x", address, t.id, l.ID)
		}
		if err == nil {
			r.ID = t.id
			r.Public, err = yubihsm.PublicOf(there)
		}
		if err != nil {
			return fmt.Errorf("the key 0x%04x on the YubiHSM at %s: %w", t.id, address, err)
		}
		return nil
	})
	return r, err
}
