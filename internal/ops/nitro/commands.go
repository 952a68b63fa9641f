package nitro

import (
	"context"

	"privyseal/internal/config"
	"privyseal/internal/enclavecommand"
	"privyseal/internal/hostlink"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
)

// commands are those that are the same for every kind of enclave.
var commands = enclavecommand.Kind{
	Provider: providerName, Identity: "identity.wrapped", Program: "image",
	Sealed: "wrapped as the validator's is: it opens in this image only",
	Before: `

If the KMS key is pinned, take the pin out of its policy first, and put it back
afterwards with the flags that this prints.`,
	Flags: func() enclavecommand.Flags { return &enclaveFlags{} },
	Read: func(path, chainID string) (pubkey.Key, error) {
		w, err := keyFiles.Read(path, chainID)
		if err != nil {
			return pubkey.Key{}, err
		}
		return w.PublicKey, nil
	},
}

// Kind is what a config has of Nitro Enclaves.
func Kind() config.Kind {
	k := enclaves.Kind(commands, whole)
	k.LowPorts = true
	return k
}

// Open implements [enclavecommand.Flags].
func (f *enclaveFlags) Open(ctx context.Context, a *provider.House, c *config.Config) (*enclavecommand.Session, error) {
	e, err := f.open(ctx, a, c, true)
	if err != nil {
		return nil, err
	}
	return &enclavecommand.Session{Enclave: e, Credentials: hostlink.Credentials(e.credentials), Close: e.Close, Told: e.toldPins(a)}, nil
}
