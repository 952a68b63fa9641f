package image

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/policy"
	"privyseal/internal/policyflags"
)

// imagePolicyFlags are the flags of `privyseal nitro image-policy`.
type imagePolicyFlags struct {
	kmsKey, endpoint, serverName string
	tlsRoots                     string
	fips                         bool
	common                       policyflags.Flags
}

func NewImagePolicy() *cobra.Command {
	f := &imagePolicyFlags{}
	cmd := &cobra.Command{
		Use:   "image-policy --kms-key ARN",
		Short: "Print the policy that goes into an enclave image",
		Long: `Print the policy file for "privyseal nitro build": what decides the enclave's
security, and is measured with it. Redirect it to a file, and keep that file: with
it anybody can compute PCR2.

The endpoint is AWS's public one in the key's region, or the FIPS one with --fips.
For a private (VPC) endpoint name it with --endpoint; the name in its certificate
stays that of the public one unless --server-name says otherwise. The roots are
Amazon Trust Services' unless --tls-roots names others.

With --etcd-ca the marks of all chains are in an etcd cluster, in place of the states that
the host keeps, and an enclave of this image asks no other one: whatever its host shows
it, it signs nothing again that another enclave has signed. Then --etcd-server-name and
--etcd-cluster-id are needed, too.

With --dynamodb-table they are in a table of Amazon DynamoDB; --dynamodb-table-id is needed,
too. The host gives the credentials for it, so that whoever has those can put an old mark
back into the table. Against a host that somebody else has taken over, take etcd.

What could never work is refused: an endpoint that is not host[:port], a name that no
certificate has, an invalid chain id or public key, a --state-floor of a chain
that --chain leaves out, or not below --max-height.`,
		Example: "  privyseal nitro image-policy --kms-key arn:aws:kms:eu-central-1:111122223333:key/… > policy.json",
		Args:    cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := f.policy()
			if err != nil {
				return err
			}
			data, err := policyflags.Encode(p, flagNames)
			if err != nil {
				return err
			}
			WarnForTests(cmd.ErrOrStderr(), p)
			if strings.Contains(p.KMSKey, ":key/mrk-") {
				fmt.Fprintln(cmd.ErrOrStderr(), "WARNING: this is a multi-Region KMS key: its replicas have their own key policies, and whatever those admit gets the validator's key; create a single-Region key instead")
			}
			_, err = cmd.OutOrStdout().Write(data)
			return err
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.kmsKey, "kms-key", "", "ARN of the KMS key that wraps the enclave's keys")
	fl.StringVar(&f.endpoint, "endpoint", "", "host[:port] of KMS, if not AWS's public one")
	fl.StringVar(&f.serverName, "server-name", "", "name in the certificate of the endpoint")
	fl.BoolVar(&f.fips, "fips", false, "the FIPS endpoint of the region")
	fl.StringVar(&f.tlsRoots, "tls-roots", "", "PEM file of the roots above that certificate (default: Amazon Trust Services)")
	f.common.Add(fl, policyflags.Texts{AttestationRoot: "attestation documents", Chain: "a wrapped key", Region: " (default: that of the KMS key)"})
	return cmd
}

// flagNames are the flags of keys of the file that are called otherwise.
var flagNames = map[string]string{"kms_endpoint": "endpoint", "kms_server_name": "server-name"}

func (f *imagePolicyFlags) policy() (*policy.Policy, error) {
	if f.kmsKey == "" {
		return nil, cli.Usagef("--kms-key ARN is missing, as in --kms-key arn:aws:kms:eu-central-1:111122223333:key/…")
	}
	p, err := policy.ForAWS(f.kmsKey, f.fips)
	if err != nil {
		// Without a key of AWS there is no region.
		if k, of := errors.AsType[*policy.KeyError](err); f.endpoint == "" || f.fips || of && k.Key == "kms_key" {
			return nil, cli.Usage(policyflags.ByFlag(err, flagNames))
		}
		p = &policy.Policy{KMSKey: f.kmsKey, TLSRoots: policy.AWSRoots()}
	}
	if f.endpoint != "" {
		var host string
		if p.KMSEndpoint, host, err = policyflags.WithPort(f.endpoint); err != nil {
			return nil, cli.Usagef("--endpoint: %w", err)
		}
		if p.KMSServerName == "" && f.serverName == "" && net.ParseIP(host) != nil {
			return nil, cli.Usagef("--server-name NAME is missing: the name in the certificate of %s", f.endpoint)
		}
		p.KMSServerName = cmp.Or(p.KMSServerName, host)
	}
	p.KMSServerName = cmp.Or(f.serverName, p.KMSServerName)
	if err := policyflags.ReadRoots("tls-roots", f.tlsRoots, &p.TLSRoots); err != nil {
		return nil, err
	}
	return p, f.common.Fill(p, p.Region())
}
