// Package collateral is `privyseal sgx collateral`: what it takes to verify the quotes of a
// platform, fetched from Intel's service or a cache of it, verified, and kept in one file.
//
// The service is not trusted: Intel has signed everything, and what is fetched is verified
// before it is written. It can withhold news; a file that is there is never replaced by one
// of which Intel knew less.
package collateral

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/cure"
	"privyseal/internal/durable"
	"privyseal/internal/regular"
	"privyseal/internal/sgx"
	"privyseal/internal/sgx/document"
)

// flags are those of the command.
type flags struct {
	quote, fmspc, ca string
	tdx, refresh     bool
	url, list, tlsCA string
	testRoot         string
}

const help = `Fetch what it takes to verify the quotes of a platform, and write it to one file: Intel's
TCB info and QE identity, the lists of revoked certificates, and the certificates that lead
to Intel's root. All of it is verified before it is written, so it does not matter who
hands it out: Intel's service, or a cache such as Azure's (--url). It is good for about 30
days; --refresh fetches it again, for the platform that the file is for.

Which platform it is, a quote or document of it says (--quote), or you do with --fmspc and
--ca. No key is needed, and nothing is said about the quote.`

// New returns the command.
func New() *cobra.Command {
	f := &flags{}
	cmd := &cobra.Command{
		Use:   "collateral FILE",
		Short: "Fetch what it takes to verify quotes of SGX and TDX",
		Long:  help,
		Example: `  privyseal sgx collateral platform.json --quote attestation.b64
  privyseal sgx collateral platform.json --refresh
  privyseal sgx collateral platform.json --fmspc 00606a000000 --ca platform \
    --url https://global.acccache.azure.net/sgx/certification/v4/`,
		Args: cli.Arguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.quote, "quote", "", "file with a quote, or a document, of the platform")
	fl.StringVar(&f.fmspc, "fmspc", "", "FMSPC of the platform, 12 hex digits; goes with --ca")
	fl.StringVar(&f.ca, "ca", "", "who has certified the platform: processor or platform")
	fl.BoolVar(&f.tdx, "tdx", false, "for quotes of TDX, with --fmspc")
	fl.BoolVar(&f.refresh, "refresh", false, "replace the file, for the same platform")
	fl.StringVar(&f.url, "url", intelURL, "the service, or a cache of it")
	fl.StringVar(&f.list, "root-crl-url", intelList, "where the root's list of revoked certificates is")
	fl.StringVar(&f.tlsCA, "tls-ca", "", "PEM file of the CA of a cache of your own (default: the system's)")
	fl.StringVar(&f.testRoot, "test-root", "", "PEM file of a test root to trust instead of Intel's")
	return cmd
}

func (f *flags) run(cmd *cobra.Command, path string) error {
	anchor, err := sgx.Anchor{}, error(nil)
	if f.testRoot != "" {
		pem, err := cli.ReadBounded(f.testRoot, 1<<16)
		if err != nil {
			return cli.OfFlag("test-root", err)
		}
		if anchor, err = sgx.ParseAnchor(pem); err != nil {
			return fmt.Errorf("--test-root %s: %w", f.testRoot, err)
		}
	}
	p, old, err := f.platform(path)
	if err != nil {
		return err
	}
	s, err := newService(f.url, f.list, f.tlsCA)
	if err != nil {
		return err
	}
	var contents *sgx.Contents
	content := func() ([]byte, error) {
		c, err := s.fetch(cmd.Context(), p)
		if err != nil {
			return nil, err
		}
		if contents, err = c.Verify(anchor, time.Now()); err != nil {
			return nil, fmt.Errorf("what was fetched cannot be used: %w", err)
		}
		if got := (platform{contents.TEE, contents.FMSPC, contents.CA}); got != p {
			return nil, fmt.Errorf("what was fetched is for %s", got)
		}
		return c.Encode()
	}
	if old != nil {
		err = replace(path, old, content, func() uint32 { return contents.Evaluation })
	} else {
		err = cli.WriteNewFrom(path, 0o644, content)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: collateral for %s; Intel's TCB evaluation %d; good until %s, when %s ends\n",
		path, p, contents.Evaluation, contents.First.Until.UTC().Format(time.RFC3339), contents.First.What)
	return err
}

func (p platform) String() string {
	return fmt.Sprintf("%s on the FMSPC %x, certified by the %s CA", p.tee, p.fmspc, p.ca)
}

// replace writes a file in place of one that has the old collateral.
func replace(path string, old *sgx.Contents, content func() ([]byte, error), evaluation func() uint32) error {
	data, err := content()
	if err != nil {
		return err
	}
	if evaluation() < old.Evaluation {
		return fmt.Errorf("what was fetched is of Intel's TCB evaluation %d, and %s is of %d already: the service hands out old collateral", evaluation(), path, old.Evaluation)
	}
	like, err := os.Stat(path)
	if err != nil {
		return err
	}
	return durable.Replace(path, data, like)
}

// platform returns for which platform collateral is fetched, and what the file at path has
// if it is to be replaced.
func (f *flags) platform(path string) (p platform, old *sgx.Contents, err error) {
	switch {
	case f.refresh && (f.quote != "" || f.fmspc != "" || f.ca != "" || f.tdx):
		return p, nil, cli.Usagef("--refresh is for the platform that the file is for; it does not go with --quote, --fmspc, --ca or --tdx")
	case f.refresh:
		return refreshed(path)
	case f.quote != "" && (f.fmspc != "" || f.ca != "" || f.tdx):
		return p, nil, cli.Usagef("--quote says which platform it is; it does not go with --fmspc, --ca or --tdx")
	case f.quote != "":
		p, err = quoted(f.quote)
		return p, nil, err
	}
	fmspc, err := hex.DecodeString(f.fmspc)
	if err != nil || len(fmspc) != len(p.fmspc) || f.ca != "processor" && f.ca != "platform" {
		return p, nil, cli.Usagef("for which platform? Add --quote FILE, or --fmspc with 12 hex digits and --ca processor or platform; for a file that is there, --refresh")
	}
	p = platform{tee: "SGX", fmspc: [6]byte(fmspc), ca: f.ca}
	if f.tdx {
		p.tee = "TDX"
	}
	return p, nil, nil
}

// refreshed returns what the file at path is for.
func refreshed(path string) (platform, *sgx.Contents, error) {
	text, _, err := regular.Read(path, sgx.MaxCollateral)
	if errors.Is(err, os.ErrNotExist) {
		return platform{}, nil, cure.Add(err, "leave out --refresh, and say for which platform: --quote FILE")
	}
	if err != nil {
		return platform{}, nil, err
	}
	c, err := sgx.ParseCollateral(text)
	if err != nil {
		return platform{}, nil, fmt.Errorf("%s: %w", path, err)
	}
	old, err := c.Claims()
	if err != nil {
		return platform{}, nil, fmt.Errorf("%s: %w", path, err)
	}
	return platform{old.TEE, old.FMSPC, old.CA}, old, nil
}

// quoted returns what a quote, or a document, is from.
func quoted(path string) (p platform, err error) {
	data, err := cli.ReadBounded(path, 1<<16)
	if err != nil {
		return p, cli.OfFlag("quote", err)
	}
	raw := document.Raw(data)
	if d, err := document.Decode(raw); err == nil {
		raw = d.Quote
	}
	q, err := sgx.Parse(raw)
	if err != nil {
		return p, fmt.Errorf("--quote %s: %w", path, err)
	}
	from, err := q.Claims()
	if err != nil {
		return p, fmt.Errorf("--quote %s: %w", path, err)
	}
	p = platform{tee: "SGX", fmspc: from.FMSPC, ca: from.CA}
	if q.TD != nil {
		p.tee = "TDX"
	}
	return p, nil
}
