package aiakos

import (
	"privyseal/internal/ops/file"
	"privyseal/internal/ops/soft"
	"privyseal/internal/ops/vault"
	"privyseal/internal/ops/yubihsm"
	"privyseal/internal/provider"
)

// providers are those whose keys sign in this process: a line adds one.
func providers() provider.Table {
	return provider.Table{
		soft.Provider().Entry,
		vault.Provider().Entry,
		yubihsm.Provider().Entry,
	}
}

// stores are those that keep a state in this process.
func stores() provider.Stores {
	return provider.Stores{
		file.Store(),
	}
}
