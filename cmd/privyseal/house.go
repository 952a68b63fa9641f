package main

import (
	"privyseal/internal/home"
	"privyseal/internal/ops/nitro"
	"privyseal/internal/ops/soft"
	"privyseal/internal/ops/vault"
)

// providers are those of this build: a line adds one.
func providers() home.Build {
	return home.Build{
		soft.Provider(),
		nitro.Provider(),
		vault.Provider(),
	}
}
