// Package state is the commands of `privyseal state`: make, raise, show and move what keeps
// a key from signing twice. Which marks come in, and on whose word, is for
// [privyseal/internal/home] to say; what a store does with them for its own room.
package state

import (
	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/provider"
)

func NewCommand(a *provider.House) *cobra.Command {
	return cli.NewGroup("state", "Make, show and move the state that keeps a key from signing twice",
		newInit(a), newRaise(a), newAdopt(a), newShow(a), newImport(a), newExport(a), newJoin(a), newMove(a))
}
