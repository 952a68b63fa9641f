package cli

import (
	"strconv"

	"github.com/spf13/cobra"
)

// height is the value of a flag for a height; 0 is not given.
type height struct{ to *int64 }

// AddHeight adds a flag for a height. *h is 0 without it.
func AddHeight(cmd *cobra.Command, h *int64, name, usage string) {
	cmd.Flags().Var(height{h}, name, usage)
}

func (v height) String() string {
	if v.to == nil { // as pflag makes one, to compare with
		return "0"
	}
	return strconv.FormatInt(*v.to, 10)
}

func (v height) Type() string { return "int64" }

func (v height) Set(text string) error {
	const highest = 1 << 62 // what is above is reached by no chain
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 || n > highest {
		return Usagef("%.80q is not a height", text)
	}
	*v.to = n
	return nil
}
