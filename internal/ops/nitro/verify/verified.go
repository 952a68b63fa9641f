package verify

import (
	"time"

	"privyseal/internal/nitro"
	"privyseal/internal/policy"
	"privyseal/internal/statement"
)

// Expectation is what a document is compared with.
type Expectation struct {
	pcrs  map[int][]byte
	named bool // they name an image
	// release says that PCR1 was named, as that of a release.
	release bool
	Policy  *policy.Policy // of the image; nil if it is not known
	// foreign is an image at hand that `nitro build` did not lay out: anything may
	// run in it.
	foreign bool
	program string // of an image at hand of ours: what Go says that it is
	Anchor  nitro.Anchor
}

// Verified is a document that is genuine and as expected.
type Verified struct {
	Expectation
	Doc       *nitro.Document
	nonce     bool
	at        time.Time
	Statement Statement
}

// Statement is what a document says in its user data.
type Statement struct {
	statement.Statement
	Ours    bool
	foreign bool // tmkms-light's
}
