package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/shell"
)

// ChainFlag is --chain-id of the commands that work on one chain: its name, or its id
// where that is the id of no other chain.
type ChainFlag struct{ ID string }

func (f *ChainFlag) Add(a *App, cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.ID, "chain-id", "", "which chain, by name or id; may be left out if there is one")
	// A failure here is a flag that does not exist: the line above.
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("chain-id", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		c, err := a.Config()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		names := make([]string, len(c.Chains))
		for i, ch := range c.Chains {
			names[i] = ch.Name
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}))
}

// Choose loads the config and returns the chain that the flag means.
func (f *ChainFlag) Choose(a *App) (*config.Config, config.Chain, error) {
	c, err := a.Config()
	if err != nil {
		return nil, config.Chain{}, err
	}
	if f.ID == "" && len(c.Chains) == 1 {
		return c, c.Chains[0], nil
	}
	if f.ID == "" {
		return nil, config.Chain{}, cure.Add(Usagef("there are several chains"), "add --chain-id with one of %s", ChainNames(c.Chains))
	}
	found := c.Find(f.ID)
	switch len(found) {
	case 0:
		return nil, config.Chain{}, cure.Add(Usagef("chain %.80q is not in the config, which has %s", f.ID, ChainNames(c.Chains)), "add it with %s", a.Command("init --chain-id %s --node ADDR", shell.Word(f.ID)))
	case 1:
		return c, found[0], nil
	}
	return nil, config.Chain{}, cure.Add(Usagef("%s is the id of several chains", f.ID), "add --chain-id with one of their names: %s", ChainNames(found))
}

// ChainNames returns the names of chains as a list to read, a few at the most.
func ChainNames(chains []config.Chain) string {
	const most = 10
	names := make([]string, 0, most+1)
	for i, ch := range chains {
		if i == most {
			names = append(names, fmt.Sprintf("%d more", len(chains)-most))
			break
		}
		names = append(names, ch.Name)
	}
	return strings.Join(names, ", ")
}
