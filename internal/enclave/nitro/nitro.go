// Package nitro is the enclave as AWS Nitro Enclaves boot it: the first process, whose
// documents the hypervisor's security module signs, and whose keys are wrapped by AWS
// KMS. What it does once it has booted is in package enclave.
//
// What is trusted: the hypervisor with its security module, the kernel of the image,
// AWS KMS behind a TLS connection that ends here.
package nitro

import (
	"context"
	"crypto/sha256"
	"net"

	"privyseal/internal/claims"
	"privyseal/internal/enclave"
	"privyseal/internal/enclave/engines"
	"privyseal/internal/hostlink"
	"privyseal/internal/key/nitrokms"
	"privyseal/internal/policy"
	"privyseal/internal/secret"
)

// Boot is what a booted enclave has. All fields are required, but Warnings.
type Boot struct {
	Version string
	Policy  []byte // the measured file
	Module  enclave.Attester
	// Listen listens on a port for the host; Dial dials a port of the host.
	Listen func(port uint32) (net.Listener, error)
	Dial   func(ctx context.Context, port uint32) (net.Conn, error)
	// Warnings are what is not as it should be with this machine, for the operator.
	Warnings []string
}

// Run serves the host until ctx ends. An error means that the enclave is of no use.
func Run(ctx context.Context, b Boot) error {
	p, err := policy.Parse(b.Policy, policy.Nitro)
	if err != nil {
		return err
	}
	use, err := claims.Claims{Purpose: claims.PurposeKMS, KMSKey: p.KMSKey}.Encode()
	if err != nil {
		return err
	}
	kms, err := nitrokms.New(nitrokms.Config{
		KeyARN: p.KMSKey, ServerName: p.KMSServerName, Roots: p.Roots(),
		Dial: func(ctx context.Context) (net.Conn, error) { return b.Dial(ctx, hostlink.KMSPort) },
		Attest: func(publicKey []byte) ([]byte, error) {
			return b.Module.Attest(use, nil, publicKey)
		},
	})
	if err != nil {
		return err
	}
	return enclave.Run(ctx, enclave.Config{
		Version: b.Version, Policy: p, Digest: sha256.Sum256(b.Policy), Attester: b.Module, Wrapper: kms, Sample: sampler(kms), Cures: cures,
		Etcd: engines.Etcd, DynamoDB: engines.DynamoDB, Listen: b.Listen, Dial: b.Dial, Warnings: b.Warnings,
	})
}

// sampler returns what has KMS answer for the host to read.
func sampler(kms *nitrokms.Client) func(context.Context, *hostlink.Sample) []hostlink.KMSAnswer {
	return func(ctx context.Context, req *hostlink.Sample) (answers []hostlink.KMSAnswer) {
		for _, s := range kms.Sample(ctx, secret.AWS(req.Credentials), req.ChainID, req.Public) {
			a := hostlink.KMSAnswer{Call: s.Call, Raw: s.Raw}
			if s.Err != nil {
				a.Error = s.Err.Error()
			}
			answers = append(answers, a)
		}
		return answers
	}
}

var cures = enclave.Cures{
	Restart:   "`privyseal nitro stop`",
	Rebuild:   "build an image whose policy does, with `privyseal nitro image-policy` and `privyseal nitro build`, and let it in",
	LostState: `doc/nitro.md, "The state is lost"`,
}
