// Package sgx is the enclave as Gramine boots it on Intel SGX: documents are quotes of the
// CPU, and keys are sealed by a key of the CPU and backed up to the recovery key of the
// measured policy. What it does once it has booted is in package enclave.
//
// What is trusted: the CPU, and Gramine (LibOS and PAL) inside the enclave. The host is not:
// it carries all bytes, and gives the time.
package sgx

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"privyseal/internal/enclave"
	"privyseal/internal/enclave/engines"
	"privyseal/internal/key/sgxseal"
	"privyseal/internal/looplink"
	"privyseal/internal/policy"
	"privyseal/internal/sgx/document"
	"privyseal/internal/sgx/gramine"
)

// Platform is what an enclave of SGX has of its CPU.
type Platform interface {
	// SealKey returns the 16 bytes of a seal of package policy.
	SealKey(seal string) ([]byte, error)
	Quote(reportData [64]byte) ([]byte, error)
}

// Boot is what a booted enclave has. All fields are required.
type Boot struct {
	Version  string
	Policy   []byte // the measured file
	Platform Platform
	// Listen listens on a port for the host; Dial dials a port of the host.
	Listen func(port uint32) (net.Listener, error)
	Dial   func(ctx context.Context, port uint32) (net.Conn, error)
}

// Run serves the host until ctx ends. An error means that the enclave is of no use.
func Run(ctx context.Context, b Boot) error {
	p, err := policy.Parse(b.Policy, policy.OfSGX)
	if err != nil {
		return err
	}
	sealer, err := sgxseal.New(sgxseal.Config{Policy: p, Key: b.Platform.SealKey})
	if err != nil {
		return err
	}
	return enclave.Run(ctx, enclave.Config{
		Version: b.Version, Policy: p, Digest: sha256.Sum256(b.Policy), Attester: attester{b.Platform}, Wrapper: sealer, Recovery: sealer, Cures: cures,
		Etcd: engines.Etcd, DynamoDB: engines.DynamoDB, Listen: b.Listen, Dial: b.Dial,
	})
}

// attester makes documents of quotes.
type attester struct{ platform Platform }

// Attest implements [enclave.Attester].
func (a attester) Attest(userData, nonce, publicKey []byte) ([]byte, error) {
	quote, err := a.platform.Quote(document.ReportData(userData, nonce, publicKey))
	if err != nil {
		return nil, err
	}
	return document.Document{Quote: quote, UserData: userData, Nonce: nonce, PublicKey: publicKey}.Encode()
}

var cures = enclave.Cures{
	// It ends with its host.
	Restart:   "restart `privyseal start`",
	Rebuild:   "make an enclave whose policy does, with `privyseal sgx manifest` and `gramine-sgx-sign`; keys that are sealed to this one come there by `privyseal sgx recover`",
	LostState: `doc/sgx.md, "The state is lost"`,
}

// Start is the program of the manifest. The host says by one variable where it listens, and
// nothing else.
func Start(ctx context.Context, version string) error {
	return start(ctx, version, "/")
}

// start boots with the files below a root. It ends with ctx, and when the host is gone: an
// enclave that nobody can reach any more holds keys in vain.
func start(ctx context.Context, version, root string) error {
	device, err := gramine.Open(filepath.Join(root, gramine.Dir))
	if err != nil {
		return err
	}
	data, err := os.ReadFile(filepath.Join(root, policy.File))
	if err != nil {
		return fmt.Errorf("the manifest has no policy: %w", err)
	}
	host, err := looplink.NewEnclave(os.Getenv(looplink.Variable))
	if err != nil {
		return err
	}
	ctx, err = host.Watch(ctx)
	if err != nil {
		return err
	}
	return Run(ctx, Boot{Version: version, Policy: data, Platform: device, Listen: host.Listen, Dial: host.Dial})
}
