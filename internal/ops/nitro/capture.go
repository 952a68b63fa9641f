package nitro

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"privyseal/internal/config"
	"privyseal/internal/hostlink"
	"privyseal/internal/ops/nitro/capture"
	"privyseal/internal/provider"
	"privyseal/internal/vsock"
)

func newNitroCaptureCommand(a *provider.House) *cobra.Command {
	f := &enclaveFlags{}
	var cmd *cobra.Command
	cmd = capture.NewCommand(a, func() (string, error) {
		r := runningFlags{name: defaultEnclave} // what nitro-cli says is of no enclave
		if cmd.Flags().Changed("nitro-cli") {
			r.nitroCLI = f.Want.NitroCLI
		}
		l, err := r.launcher(a)
		if err != nil {
			return "", err
		}
		return l.Path, nil
	}, func(ctx context.Context) ([]hostlink.KMSAnswer, error) { return f.sample(ctx, a) })
	f.Add(cmd)
	return cmd
}

// sample has the enclave that runs ask KMS for answers. It launches none.
func (f *enclaveFlags) sample(ctx context.Context, a *provider.House) ([]hostlink.KMSAnswer, error) {
	c, err := a.ExistingConfig()
	if err != nil {
		return nil, err
	}
	home, err := a.Home()
	if err != nil {
		return nil, err
	}
	l, e, err := f.launcher(c)
	if err != nil {
		return nil, err
	}
	if err := (vsock.Host{Dir: e.config.Transport}).MayServe(); err != nil {
		return nil, err
	}
	running, err := l.Find(ctx)
	if err != nil {
		return nil, err
	}
	if running == nil {
		return nil, fmt.Errorf("%s does not run; launch it with `privyseal nitro run`", l.Name)
	}
	if err := e.join(ctx, running.CID, home, true, nil); err != nil {
		return nil, err
	}
	defer e.Close()
	req := e.bound(c)
	req.Credentials = hostlink.Credentials(e.credentials)
	reply, err := e.Call(ctx, hostlink.Request{Sample: req})
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w; an enclave of an earlier version does not know the question", err)
	}
	return reply.Answers, err
}

// bound returns what a key of this enclave is bound to: the KMS key's policy may pin it.
func (e *enclaveLink) bound(c *config.Config) *hostlink.Sample {
	if c != nil {
		for _, ch := range c.Chains {
			if ch.Provider != providerName || ch.Table != e.name {
				continue
			}
			if key, _, err := keyFiles.Of(c, ch); err == nil {
				return &hostlink.Sample{ChainID: key.ChainID, Public: key.Public}
			}
		}
	}
	s := &hostlink.Sample{Public: make([]byte, 32)}
	if len(e.policy.Chains) > 0 {
		s.ChainID = e.policy.Chains[0]
	}
	return s
}
