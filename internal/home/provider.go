package home

import (
	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/provider"
)

// Provider is one provider of a build, with all that the operator's commands want of it: a
// line of the table in cmd/privyseal/house.go.
type Provider struct {
	provider.Entry // without a name: it holds no keys, and has documents and commands alone
	// InitHelp and MigrateHelp are what these commands say of it; zero: nothing.
	InitHelp, MigrateHelp Help
	// Maker returns its part of `privyseal init`.
	Maker func() Maker
	// Taker returns its part of `privyseal migrate`; nil: it takes nothing but key files.
	Taker func() Taker
	// Documents are those that `privyseal verify` verifies; nil: there are none.
	Documents *Documents
	// Commands returns commands of its own, which `privyseal --help` lists by their short
	// texts, and KeyCommands those of `privyseal key`; nil: there are none.
	Commands, KeyCommands func(a *provider.House) []*cobra.Command
}

// Help is what the help of a command says of one provider: a paragraph, and a command line.
type Help struct{ Text, Example string }

// AddTo adds the provider's part to a command's help.
func (h Help) AddTo(cmd *cobra.Command) {
	if h.Text != "" {
		cmd.Long += "\n\n" + h.Text
	}
	if h.Example != "" {
		cmd.Example += "\n  " + h.Example
	}
}

// Build is what a build consists of beside its commands.
type Build struct {
	Providers []Provider // in the order in which help has them
	Stores    provider.Stores
}

// House returns what commands are given; dir is "" for the home folder of the
// environment.
func (b Build) House(dir string) *provider.House {
	var table provider.Table
	for _, p := range b.Providers {
		if p.Name != "" {
			table = append(table, p.Entry)
		}
	}
	return &provider.House{App: &cli.App{HomeFlag: dir, Kinds: append(table.Kinds(), b.Stores.Kinds()...), AtHome: table.AtHome()}, Providers: table, Stores: b.Stores.ReachedBy(table)}
}

// StateMaker is a provider that makes the states of its chains itself.
type StateMaker interface {
	// NewState makes the state of a chain where there is none.
	NewState(cmd *cobra.Command, a *provider.House, c *config.Config, ch config.Chain, from *Start) error
	// RaiseState says how the state of a chain is raised.
	RaiseState(ch config.Chain) error
}
