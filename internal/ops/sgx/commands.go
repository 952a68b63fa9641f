package sgx

import (
	"context"

	"privyseal/internal/config"
	"privyseal/internal/enclavechain"
	"privyseal/internal/enclavecommand"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
)

// commands are those that are the same for every kind of enclave.
var commands = enclavecommand.Kind{
	Provider: providerName, Identity: "identity.sealed", Program: "enclave",
	Sealed: "sealed as the validator's is: it opens in this enclave on this CPU only",
	Flags:  func() enclavecommand.Flags { return &enclaveFlags{} },
	Read: func(path, chainID string) (pubkey.Key, error) {
		k, err := keyFiles.Read(path, chainID)
		if err != nil {
			return pubkey.Key{}, err
		}
		return k.PublicKey, nil
	},
}

// Kind is what a config has of SGX enclaves.
func Kind() config.Kind {
	return enclaves.Kind(commands, enclavechain.Whole(table))
}

// Open implements [enclavecommand.Flags].
func (f *enclaveFlags) Open(ctx context.Context, _ *provider.House, c *config.Config) (*enclavecommand.Session, error) {
	e, err := f.link(c)
	if err == nil {
		err = e.begin(ctx, nil)
	}
	if err != nil {
		return nil, err
	}
	return &enclavecommand.Session{Enclave: e, Close: e.Close}, nil
}
