package main

import (
	"privyseal/internal/home"
	"privyseal/internal/ops/dynamodb"
	"privyseal/internal/ops/etcd"
	"privyseal/internal/ops/file"
	"privyseal/internal/ops/nitro"
	"privyseal/internal/ops/sgx"
	"privyseal/internal/ops/soft"
	"privyseal/internal/ops/vault"
	"privyseal/internal/ops/yubihsm"
	"privyseal/internal/provider"
)

// build is this build: a line adds a provider, or a store.
func build() home.Build {
	return home.Build{
		Providers: []home.Provider{
			soft.Provider(),
			nitro.Provider(),
			vault.Provider(),
			yubihsm.Provider(),
			sgx.Provider(),
		},
		Stores: provider.Stores{
			file.Store(),
			etcd.Store(),
			dynamodb.Store(),
		},
	}
}
