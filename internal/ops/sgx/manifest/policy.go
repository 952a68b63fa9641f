package manifest

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/cure"
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
	recovery, err := readRecipient(f.recovery)
	if err != nil {
		return nil, fmt.Errorf("--recovery-key: %w", err)
	}
	p := &policy.Policy{SGX: policy.SGX{Seal: f.seal, RecoveryKey: recovery}}
	if err := f.common.Fill(p, ""); err != nil {
		return nil, err
	}
	if p.DynamoDB.Named() {
		p.TLSRoots = policy.AWSRoots()
	}
	return p, policyflags.ReadRoots("tls-roots", f.tlsRoots, &p.TLSRoots)
}

// maxRecovery bounds the file of a recovery key in bytes.
const maxRecovery = 16 << 10

// readRecipient reads the public half of a recovery key, or the file that has it, and returns
// it in the one form that a policy has for it.
func readRecipient(value string) (string, error) {
	text, path := value, ""
	if !strings.HasPrefix(value, "hpke-x25519") && !strings.HasPrefix(value, "-----BEGIN ") {
		data, err := cli.ReadBounded(value, maxRecovery)
		if err != nil {
			return "", err
		}
		if isPrivate(data) {
			clear(data)
			return "", ofPrivate(value)
		}
		text, path = string(data), value+": "
	}
	if isPrivate([]byte(text)) {
		return "", ofPrivate("it")
	}
	text = strings.TrimSpace(text)
	r, err := policy.ParseRecipient(text)
	if err != nil {
		return "", cli.Usagef("%s%w", path, err)
	}
	if r.RSA == nil {
		return text, nil
	}
	der, err := x509.MarshalPKIXPublicKey(r.RSA)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), err
}

// isPrivate reports whether something is the private half of a recovery key, of ours or in PEM.
func isPrivate(data []byte) bool {
	return bytes.Contains(data, []byte("hpke-x25519-private:")) || bytes.Contains(data, []byte("PRIVATE KEY-----"))
}

func ofPrivate(what string) error {
	return cure.Add(cli.Usagef("%s is the private half of a recovery key: whoever has that and the backups has the validator's keys", what),
		"take it away from this machine, and give the public half, which `privyseal sgx recovery-key` printed")
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
