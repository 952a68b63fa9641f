package image

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/eif"
)

func NewMeasure() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "measure FILE",
		Short: "Print the measurements of an enclave image",
		Long: `Print the measurements of an enclave image, ours or nitro-cli's: what the
hypervisor computes when it is launched, and attestation documents and KMS
policies name. A wrong checksum or signature is an error.

PCR1 is that of a release only for an image that is laid out as "privyseal nitro
build" does it: where more than a policy follows the first ramdisk, or kernel and
command line are split elsewhere, something else may run under the same PCR1. A note
on standard error says so.`,
		Args: cli.Arguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			im, err := Read(args[0])
			if err != nil {
				return err
			}
			if p, err := Policy(im); p == nil || err != nil {
				fmt.Fprintln(cmd.ErrOrStderr(), "note: this image is not laid out the way `privyseal nitro build` does it: its PCR1 alone does not show which program runs")
			} else if why := OtherProgram(im); why != "" {
				fmt.Fprintln(cmd.ErrOrStderr(), "note: "+why)
			}
			return printMeasurements(cmd.OutOrStdout(), im, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print them as nitro-cli does")
	return cmd
}

// printMeasurements prints the registers of an image, and who signed it.
func printMeasurements(w io.Writer, im *eif.Image, asJSON bool) error {
	m, by := im.Measure(), im.SignedBy()
	if asJSON {
		out := struct{ Measurements map[string]string }{map[string]string{
			"HashAlgorithm": "Sha384 { ... }", "PCR0": m.PCR0.String(), "PCR1": m.PCR1.String(), "PCR2": m.PCR2.String(),
		}}
		if by != nil {
			out.Measurements["PCR8"] = m.PCR8.String()
		}
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(out)
	}
	_, err := fmt.Fprintf(w, "PCR0 %s\nPCR1 %s\nPCR2 %s\n", m.PCR0, m.PCR1, m.PCR2)
	switch {
	case err != nil:
	case by == nil:
		_, err = fmt.Fprintln(w, "PCR8 zero: the image is not signed")
	default:
		c := by.Certificate
		_, err = fmt.Fprintf(w, "PCR8 %s\n     signed by %q; starts from %s to %s\n", m.PCR8, c.Subject, c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339))
	}
	return err
}
