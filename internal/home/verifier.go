package home

import (
	"io"
	"time"

	"github.com/spf13/cobra"
)

// Documents are the documents of one kind by which a provider proves what it has of a key.
type Documents struct {
	Noun string // one of them, as in "an attestation document of a Nitro enclave"
	// Help says what is verified of them, and what they are compared with, and Example is a command line.
	Help, Example string
	// Verifier returns the provider's part of `privyseal verify`.
	Verifier func() Verifier
}

// Verifier is what a provider has of `privyseal verify`. It asks no device and no service.
type Verifier interface {
	// Add adds the flags that are the provider's own.
	Add(cmd *cobra.Command)
	// Recognises reports whether a document is one of the kind, genuine or not.
	Recognises(document []byte) bool
	// Verify checks a document of the kind, and prints what it proves and what it does not.
	// Whatever is not as expected is an error, and nothing is printed then.
	Verify(w io.Writer, document []byte, want Expected) error
}

// Expected is what is expected of documents of all kinds.
type Expected struct {
	PublicKey string    // in any format, or its address, checked; "" for any
	At        time.Time // when the document was received
}
