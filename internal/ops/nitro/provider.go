package nitro

import (
	"github.com/spf13/cobra"

	"privyseal/internal/home"
	"privyseal/internal/ops/nitro/seal"
	"privyseal/internal/ops/nitro/verify"
	"privyseal/internal/provider"
)

// Provider is a line of the table of a build.
func Provider() home.Provider {
	return home.Provider{
		Entry:       entry(),
		Maker:       func() home.Maker { return &Maker{} },
		Taker:       func() home.Taker { return &Taker{} },
		Commands:    func(a *provider.House) []*cobra.Command { return []*cobra.Command{NewCommand(a)} },
		Documents:   verify.Documents(),
		KeyCommands: func(a *provider.House) []*cobra.Command { return []*cobra.Command{seal.NewCommand(a, entry().Has)} },
	}
}
