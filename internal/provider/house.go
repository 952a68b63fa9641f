package provider

import "privyseal/internal/cli"

// House is what a command is given: the home folder that it works on, and the providers
// and stores of the build.
type House struct {
	*cli.App
	Providers Table
	Stores    Stores
}
