package verify

import (
	"privyseal/internal/sgx"
	"privyseal/internal/sgx/document"
	"privyseal/internal/statement"
)

// verified is a quote that is genuine and as expected, and what came with it.
type verified struct {
	*sgx.Verified
	document document.Document   // zero for a bare quote
	ours     bool                // there is a document, and the quote is of it
	said     statement.Statement // of a document of our enclave's
	named    bool                // the enclave was
	signer   bool                // it was named by who signed it alone
	nonce    bool
	pinned   bool // the platform was named
}

// bare reports whether there is only a quote.
func (v *verified) bare() bool { return !v.ours }
