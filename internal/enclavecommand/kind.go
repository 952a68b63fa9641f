// Package enclavecommand is the commands that are the same for every kind of enclave: what an
// operator has a running enclave make or attest; and its tables of the config, of which one is
// meant by a command. The room of each kind puts the commands into its group, and opens the
// enclave for them ([Flags]).
package enclavecommand

import (
	"context"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"privyseal/internal/config"
	"privyseal/internal/enclavekey"
	"privyseal/internal/hostlink"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
)

// Kind is one kind of enclave.
type Kind struct {
	Provider string // its name, and that of its group of commands
	Identity string // where an identity goes that the chains of a home share
	Program  string // what a document names, as in "image"
	// Sealed says how a key leaves the enclave, as in "wrapped as the validator's is".
	Sealed string
	// Before is what Long of `identity` says that an operator has to do before, or "".
	Before string
	// Flags returns those by which a command names its enclave.
	Flags func() Flags
	// Read returns the public key in the file of a key, "" being the chain of an identity. Where
	// no file is it returns [io/fs.ErrNotExist].
	Read func(path, chainID string) (pubkey.Key, error)
}

// Entry adds to the entry of a provider what is the same for all kinds of enclaves.
func (k Kind) Entry(e provider.Entry) provider.Entry {
	e.Name, e.Writer = k.Provider, "an enclave"
	e.Types = slices.DeleteFunc(pubkey.Types(), func(t pubkey.Type) bool { return !pubkey.SignsInConstantTime(t) })
	e.NoOther = "how long those take to sign depends on the secret, and the host can measure that"
	return e
}

// Flags name an enclave on the command line.
type Flags interface {
	Add(cmd *cobra.Command)
	// Open launches the enclave, or finds it running, and begins a conversation. c may be nil.
	Open(ctx context.Context, a *provider.House, c *config.Config) (*Session, error)
}

// Session is a conversation with an enclave that runs.
type Session struct {
	enclavekey.Enclave
	Credentials hostlink.Credentials // that the enclave needs to open and wrap keys
	Close       func()
	// Told prints what an operator does with an identity that was made. It may be nil.
	Told func(w io.Writer, identity pubkey.Key) error
}
