package enclave

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	"privyseal/internal/claims"
	"privyseal/internal/hostlink"
	"privyseal/internal/key/nitrokms"
	"privyseal/internal/nitro/nsm"
	"privyseal/internal/policy"
	"privyseal/internal/vsock"
)

// Start is the program of the image, as its first process. It returns only with
// an error, after which the enclave is to end.
func Start(version string) error {
	if err := mount(); err != nil {
		return err
	}
	if err := loadModule(); err != nil {
		return err
	}
	module, err := nsm.Open("/dev/nsm")
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; the kernel lacks the driver: build the image with its nsm.ko (--nsm-module), or with the kernel of a release", err)
	}
	if err != nil {
		return err
	}
	dial := func(ctx context.Context, port uint32) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return vsock.Dial(ctx, vsock.CIDParent, port)
	}
	if err := seedKernel(module); err != nil {
		return err
	}
	ctx := context.Background()
	if err := sendHeartbeat(ctx, dial); err != nil {
		return err
	}
	// The policy stands in the image's second ramdisk, which PCR2 measures.
	data, err := os.ReadFile("/" + policy.File)
	if err != nil {
		return fmt.Errorf("the image has no policy: %w", err)
	}
	p, err := policy.Parse(data)
	if err != nil {
		return err
	}
	use, err := claims.Claims{Purpose: claims.PurposeKMS, KMSKey: p.KMSKey}.Encode()
	if err != nil {
		return err
	}
	kms, err := nitrokms.New(nitrokms.Config{
		KeyARN: p.KMSKey, ServerName: p.KMSServerName, Roots: p.Roots(),
		Dial: func(ctx context.Context) (net.Conn, error) { return dial(ctx, hostlink.KMSPort) },
		Attest: func(publicKey []byte) ([]byte, error) {
			return module.Attest(use, nil, publicKey)
		},
	})
	if err != nil {
		return err
	}
	return Run(ctx, Config{
		Version: version, Policy: p, Digest: sha256.Sum256(data), Module: module, KMS: kms,
		Listen: func(port uint32) (net.Listener, error) {
			l, err := vsock.Listen(port)
			if err != nil {
				return nil, err
			}
			return vsock.OnlyReserved(l), nil
		},
		Dial: dial,
	})
}

func sendHeartbeat(ctx context.Context, dial func(context.Context, uint32) (net.Conn, error)) error {
	conn, err := dial(ctx, hostlink.HeartbeatPort)
	if err != nil {
		return fmt.Errorf("cannot send the heartbeat: %w", err)
	}
	defer conn.Close()
	return heartbeat(conn)
}
