// Package nitrohost finds, launches and ends one AWS Nitro enclave, by way of AWS's
// nitro-cli. It holds no key, and what nitro-cli says of an enclave is not a proof of
// anything: an attestation document is. What is served to the enclave that runs, is in
// package enclavehost.
package nitrohost

import (
	"context"
	"io"
	"sync"
	"time"
)

// Launcher finds, launches and ends one enclave by way of AWS's nitro-cli, and
// touches no other.
type Launcher struct {
	// Path is nitro-cli's: a name to look for in $PATH, or a path. Required.
	Path string
	// Name is the enclave's, by which it is known again. Required, and unique on
	// the instance.
	Name string
	// CID is the enclave's context id, 4 or above; 0 leaves the choice to
	// nitro-cli.
	CID uint32
	// EIF is the path of the image. Required.
	EIF string
	// MemoryMiB and CPUs are what the enclave gets. Required.
	MemoryMiB, CPUs int
	// Want is what an enclave of the image measures. Required: an enclave that
	// measures something else is not ours.
	Want Measurements
	// DialConsole connects to the console of an enclave in debug mode. Optional: it is for
	// the launch of one, whose failure then shows the console's last lines.
	DialConsole func(ctx context.Context, cid uint32) (io.ReadCloser, error)

	pauses []time.Duration // between tries of a launch; nil is usualPauses
	once   sync.Once
	turn   chan struct{} // holds a token while no nitro-cli of ours runs
}

// Measurements are registers as nitro-cli prints them: SHA-384 in lower-case
// hex. PCR8 is empty for an image that nobody signed.
type Measurements struct{ PCR0, PCR1, PCR2, PCR8 string }

// EnclaveName returns the name under which nitro-cli knows the enclave that the
// config calls name.
func EnclaveName(name string) string { return "privyseal-" + name }

// Enclave is one enclave as nitro-cli describes it.
type Enclave struct {
	ID, Name string
	CID      uint32
	State    string // RUNNING, TERMINATING or EMPTY
	Debug    bool
	// Measured is what nitro-cli computed from the image at launch; all empty
	// before its version 1.2. It is not a proof: an attestation document is.
	Measured Measurements
}
