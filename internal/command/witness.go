package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/command/look"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/provider"
	"privyseal/internal/witness"
)

func newWitnessCommand(a *provider.House) *cobra.Command {
	chain, resume, yes := &cli.ChainFlag{}, false, false
	cmd := &cobra.Command{
		Use:   "witness",
		Short: "Ask the witnesses of a chain once, and say what they saw",
		Long: `Ask each witness of a chain for its tip and the last commits, and say whether our
validator has signed them. The exit status is 1 if no witness could be used.

A chain that was stopped because a witness showed a signature of its key which this
signer did not make does not sign again by itself. --resume lets it, once you have
switched the other signer off; --yes confirms that you have. The next start goes
through a quarantine.`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, ch, err := chain.Choose(a.App)
			if err != nil {
				return err
			}
			if resume {
				return resumeChain(cmd.OutOrStdout(), a, c, ch, yes)
			}
			if yes {
				return cli.Usagef("--yes goes with --resume")
			}
			return askWitnesses(cmd.Context(), cmd.OutOrStdout(), a, c, ch)
		},
	}
	chain.Add(a.App, cmd)
	cmd.Flags().BoolVar(&resume, "resume", false, "let a chain sign again that was stopped because of another signer")
	cmd.Flags().BoolVar(&yes, "yes", false, "confirm that the other signer is off for good")
	return cmd
}

// addWitness adds --witness of the commands that make a chain.
func addWitness(cmd *cobra.Command, addrs *[]string) {
	cmd.Flags().StringArrayVar(addrs, "witness", nil, "RPC address of a node, as in http://127.0.0.1:26657, which is watched for signatures of another signer; may be repeated")
}

// resumeChain takes the stop of a chain back, for a quarantine.
func resumeChain(w io.Writer, a *provider.House, c *config.Config, ch config.Chain, yes bool) error {
	state := c.Path(ch.State)
	flag, err := witness.ReadFlag(state)
	switch {
	case err != nil:
		return fmt.Errorf("cannot read why chain %s was stopped: %w", ch.Name, err)
	case !flag.Stopped:
		return fmt.Errorf("chain %s was not stopped by a witness", ch.Name)
	case !yes:
		return cure.Add(cli.Actf("chain %s was stopped: %s", ch.Name, flag.Why),
			"if the other signer is off for good: %s", cure.Command("privyseal", "witness", "--home", homeOf(a), "--chain-id", ch.Name, "--resume", "--yes"))
	}
	if err := witness.Resume(state); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "chain %s goes through a quarantine when it is started next\nnext: %s\n", ch.Name, a.Command("start"))
	return err
}

// homeOf is the home folder for a command line; [App.home] has been called.
func homeOf(a *provider.House) string {
	dir, err := a.Home()
	if err != nil {
		return "."
	}
	return dir
}

func askWitnesses(ctx context.Context, w io.Writer, a *provider.House, c *config.Config, ch config.Chain) error {
	if len(ch.Witness) == 0 {
		return cure.Add(fmt.Errorf("chain %s has no witness", ch.Name), "add witness = [\"http://HOST:26657\"] to its [[chain]] in %s", config.FileName)
	}
	usable := 0
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range look.All(ctx, a, c, ch) {
		if s.Err == nil {
			usable++
		}
		fmt.Fprintf(t, "%s\t%s\n", s.Addr, s)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if usable == 0 {
		return errors.New("no witness can be used")
	}
	return nil
}
