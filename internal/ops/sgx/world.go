package sgx

import (
	"context"
	"fmt"

	"privyseal/internal/config"
	"privyseal/internal/daemon"
	"privyseal/internal/enclavechain"
	"privyseal/internal/enclavehost"
	"privyseal/internal/policy"
)

// world is what `privyseal start` has of SGX enclaves. It is an [enclavechain.World].
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
	e := enclaves.Of(d.Config)[name]
	e.Folder = d.Config.Path(e.Folder)
	f, err := readFolder(e.Folder)
	if err != nil {
		return hc, nil, withCure(err, fmt.Sprintf("put the folder back from the backup, make it again (the same inputs give the same enclave), or correct `folder` of [sgx.%s] in the config", name))
	}
	log := d.Log.With("enclave", name)
	return enclavehost.Config{
		Launcher: e.launcher(log), Policy: f.digest, Restart: "a restart of `privyseal start`", LogLevel: d.Config.Log.Level,
		StopEnclave: true, Log: log, Up: d.Monitor.Enclave(name),
	}, f.policy, nil
}
