package manifest

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/ops/sgx/recovery"
	"privyseal/internal/policy"
	"privyseal/internal/policyflags"
)

// policyFlags are the flags of `privyseal sgx policy`.
type policyFlags struct {
	seal, recovery, tlsRoots string
	common                   policyflags.Flags
}

// NewPolicy returns `privyseal sgx policy`.
func NewPolicy() *cobra.Command {
	f := &policyFlags{}
	cmd := &cobra.Command{
		Use:   "policy --recovery-key KEY",
		Short: "Print the policy of an SGX enclave",
		Long: `Print the policy file for "privyseal sgx manifest": what decides the enclave's security,
and is measured with it. Redirect it to a file, and keep that file: with it, the program and
Gramine anybody can compute MRENCLAVE.

--recovery-key is the public half of the key that opens the backups, as "privyseal sgx
recovery-key" printed it, a file of that, or a PEM file of the public half of an RSA key in
an HSM. Whoever has the private half and the backups has the validator's keys; without it a
key is lost with its CPU, and with each update of the CPU's microcode.

Keys are sealed to MRENCLAVE: this program with this policy, and no other build. With
--seal mrsigner they are sealed to the key that signs the enclave. Then a new build needs no
"privyseal sgx recover", and whoever has the signing key has a program of his own unseal
them, without any policy.

With --etcd-ca the marks of all chains are in an etcd cluster, in place of the states that
the host keeps, and an enclave with this policy asks no other one. Then --etcd-server-name
and --etcd-cluster-id are needed, too. With --dynamodb-table they are in a table of Amazon
DynamoDB; --dynamodb-table-id and --dynamodb-region are needed, too, and the roots are Amazon
Trust Services' unless --tls-roots names others. The host gives the credentials for it, so
that whoever has those can put an old mark back into the table.

What could never work is refused: an invalid chain id or public key, a --state-floor of a
chain that --chain leaves out, or not below --max-height.`,
		Example: "  privyseal sgx policy --recovery-key recovery.pub --chain cosmoshub-4 > policy.json",
		Args:    cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := f.policy()
			if err != nil {
				return err
			}
			data, err := policyflags.Encode(p, map[string]string{"sgx_seal": "seal"})
			if err != nil {
				return err
			}
			warn(cmd.ErrOrStderr(), p)
			fmt.Fprintf(cmd.ErrOrStderr(), "backups will name the recovery key %s\n", p.Recipient().ID())
			_, err = cmd.OutOrStdout().Write(data)
			return err
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.recovery, "recovery-key", "", "who can open the backups: the public half of a recovery key, or a file of it")
	fl.StringVar(&f.seal, "seal", policy.SealMRENCLAVE, "what keys are sealed to: mrenclave (this build and policy) or mrsigner (whoever signs enclaves)")
	fl.StringVar(&f.tlsRoots, "tls-roots", "", "PEM file of the roots above the certificate of DynamoDB (default: Amazon Trust Services)")
	f.common.Add(fl, policyflags.Texts{AttestationRoot: "quotes", Chain: "a sealed key", Region: ""})
	return cmd
}

func (f *policyFlags) policy() (*policy.Policy, error) {
	if f.recovery == "" {
		return nil, cli.Usagef("--recovery-key KEY is missing: what `privyseal sgx recovery-key` printed, on the machine that has the private half")
	}
	key, err := recovery.ReadPublic(f.recovery)
	if err != nil {
		return nil, fmt.Errorf("--recovery-key: %w", err)
	}
	p := &policy.Policy{SGX: policy.SGX{Seal: f.seal, RecoveryKey: key}}
	if err := f.common.Fill(p, ""); err != nil {
		return nil, err
	}
	if p.DynamoDB.Named() {
		p.TLSRoots = policy.AWSRoots()
	}
	return p, policyflags.ReadRoots("tls-roots", f.tlsRoots, &p.TLSRoots)
}

// warn says why an enclave with this policy is worth less than one of production.
func warn(w io.Writer, p *policy.Policy) {
	if p.AttestationRoot != "" {
		fmt.Fprintln(w, "WARNING: this policy is for tests: it names an attestation root that is not Intel's, so that its quotes prove nothing")
	}
	if p.DynamoDB.Named() {
		if err := p.CheckTable(); err != nil {
			fmt.Fprintf(w, "WARNING: this policy is for tests: it trusts a DynamoDB that is not known to be AWS's (%v), and whoever runs it can bring an old mark back\n", err)
		}
	}
	if p.Seal == policy.SealMRSIGNER {
		fmt.Fprintln(w, "WARNING: keys are sealed to the signer: whoever has the key that signs the enclave can have a program of his own unseal them")
	}
}
