package nitro

import (
	"context"
	"fmt"

	"privyseal/internal/config"
	"privyseal/internal/daemon"
	"privyseal/internal/enclavechain"
	"privyseal/internal/enclavehost"
	"privyseal/internal/policy"
)

// world is what `privyseal start` has of Nitro Enclaves. It is an [enclavechain.World].
type world struct{}

// OpenRemote implements [daemon.Remote].
func (Holder) OpenRemote(ctx context.Context, d *daemon.Daemon, chains []daemon.RemoteChain, standby bool) ([]daemon.Service, error) {
	return enclavechain.Open(ctx, world{}, d, chains, standby)
}

// Words implements [enclavechain.World].
func (world) Words() enclavechain.Words { return says }

// Keys implements [enclavechain.World].
func (world) Keys(c *config.Config, ch config.Chain) (enclavechain.Keys, error) {
	return enclavechain.KeysIn(keyFiles, c, ch)
}

// Host implements [enclavechain.World].
func (world) Host(d *daemon.Daemon, name string) (hc enclavehost.Config, p *policy.Policy, err error) {
	e := &enclaveLink{name: name, config: Enclaves(d.Config)[name]}
	e.config.EIF, e.config.Transport = d.Config.Path(e.config.EIF), d.Config.Path(e.config.Transport)
	if e.image, e.policy, err = (&enclaveFlags{}).readImage(e.config.EIF); err != nil {
		return hc, nil, fmt.Errorf("%w; put the image back from the backup, build it again (the same inputs give the same bytes), or correct `eif` of [enclave.%s] in the config", err, name)
	}
	launcher, err := e.launcher()
	if err != nil {
		return hc, nil, err
	}
	digest, err := policyDigest(e.policy)
	return enclavehost.Config{
		Launcher: instance{launcher, e.config.Transport}, Policy: digest, Restart: "`privyseal nitro stop`",
		KMS:      &enclavehost.KMS{Endpoint: e.policy.Endpoint(), Credentials: credentialsOf(e)},
		LogLevel: d.Config.Log.Level, StopEnclave: e.config.StopEnclave, Log: d.Log.With("enclave", name), Up: d.Monitor.Enclave(name),
	}, e.policy, err
}
