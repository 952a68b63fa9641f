package home

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/witness"
)

// WitnessFlag is --witness of the commands that make a chain.
type WitnessFlag struct{ Addrs []string }

func (f *WitnessFlag) Add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.Addrs, "witness", nil, "RPC address of a node, as in http://127.0.0.1:26657, which is watched for signatures of another signer; may be repeated")
}

// Check finds what is wrong with the flag alone.
func (f *WitnessFlag) Check() error {
	for _, addr := range f.Addrs {
		if err := witness.CheckAddr(addr, nil); err != nil {
			return cli.Usagef("--witness: %w", err)
		}
	}
	return nil
}

// Note says what is missing without a witness.
func (f *WitnessFlag) Note(w io.Writer) {
	if len(f.Addrs) == 0 {
		fmt.Fprintln(w, "note: "+NoWitness)
	}
}

const NoWitness = "no witness: only the state knows what the key has signed, and nobody would see a second signer; see \"A witness\" in doc/operations.md"
