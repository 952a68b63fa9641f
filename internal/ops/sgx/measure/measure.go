// Package measure is `privyseal sgx measure`: what the signature of an SGX enclave says that
// quotes of it will say.
package measure

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/sgx/sigstruct"
)

// New returns the command.
func New() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "measure SIGSTRUCT",
		Short: "Print the measurements of an SGX enclave",
		Long: `Print the measurements of an SGX enclave, from the signature that gramine-sgx-sign
writes beside it, a file of 1,808 bytes that ends in .sig: MRENCLAVE, which changes with
each byte of the program, its policy and the manifest; MRSIGNER, which is of the signer's
key; and the product and SVN that he gave it. Quotes of the enclave have them, and
"privyseal verify" expects them. A wrong signature is an error.

Who signed it is for you to know: compare MRSIGNER. To know that MRENCLAVE is of the
programs of a release, sign them yourself: it is the same whoever signs.`,
		Example: "  privyseal sgx measure privyseal-sgx.sig",
		Args:    cli.Arguments("SIGSTRUCT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			raw, err := cli.ReadBounded(args[0], sigstruct.Size)
			if err != nil {
				return err
			}
			s, err := sigstruct.Parse(raw)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			if s.MayDebug() {
				fmt.Fprintln(cmd.ErrOrStderr(), "note: the host may start this enclave in debug mode, and read its memory then; the signer's manifest says sgx.debug = true")
			}
			return print(cmd.OutOrStdout(), s, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print them as JSON")
	return cmd
}

func print(w io.Writer, s *sigstruct.Signature, asJSON bool) error {
	date, by := "", "none"
	if !s.Date.IsZero() {
		date = s.Date.Format("2006-01-02")
		by = date + ", by the signer's word"
	}
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(map[string]any{
			"mrenclave": hex.EncodeToString(s.MRENCLAVE[:]), "mrsigner": hex.EncodeToString(s.MRSIGNER[:]), "product": s.ProductID, "svn": s.SVN,
			"attributes": hex.EncodeToString(s.Attributes[:]), "attributes_mask": hex.EncodeToString(s.Mask[:]),
			"miscselect": s.MiscSelect, "miscselect_mask": s.MiscMask, "may_debug": s.MayDebug(), "date": date,
		})
	}
	debug := "never"
	if s.MayDebug() {
		debug = "if the host likes"
	}
	_, err := fmt.Fprintf(w, "MRENCLAVE   %x\nMRSIGNER    %x\nproduct     %d\nSVN         %d\nattributes  %x, of which %x count\ndebug       %s\ndate        %s\n",
		s.MRENCLAVE, s.MRSIGNER, s.ProductID, s.SVN, s.Attributes, s.Mask, debug, by)
	return err
}
