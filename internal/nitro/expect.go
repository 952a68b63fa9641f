package nitro

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// errNoImage says that a document was to be checked without naming the image
// that made it. Any enclave of anybody gets good documents.
var errNoImage = errors.New("no image is expected, and a document of just any enclave proves nothing: name PCR0, or PCR1 and PCR2")

var errUnverified = errors.New("the document was not verified")

// Expect is what a document has to say. The zero Expect names no image, and so
// refuses every document.
type Expect struct {
	// PCRs are registers by index with the value each has to have. Without
	// AnyImage they have to name the image: 0, or 1 and 2. The others: 3 is the
	// instance's IAM role, 4 the instance (both see [ParentPCR]), 8 the
	// certificate that signed the image.
	PCRs map[int][]byte
	// AnyImage lets PCRs name no image.
	AnyImage bool
	// Fields that the enclave chose. Nil is not compared; empty has to be there
	// and be empty.
	PublicKey []byte
	UserData  []byte
	Nonce     []byte
}

// Mismatch is something in a document that is not as expected.
type Mismatch struct {
	Field string // "PCR0", "nonce", …
	Got   string // hex of bytes; empty if it is not there
	Want  string
}

// Mismatches are all that were found, never none. Others may append theirs.
type Mismatches []Mismatch

// Error returns one line for each mismatch.
func (m Mismatches) Error() string {
	var b strings.Builder
	b.WriteString("the document is not as expected:")
	for _, x := range m {
		fmt.Fprintf(&b, "\n  %s: got %s, want %s", x.Field, cmp.Or(x.Got, "nothing"), cmp.Or(x.Want, "nothing"))
	}
	return b.String()
}

// Check compares the document, which Verify must have accepted, with e. The
// error is [errNoImage], or [Mismatches] with all that differs.
func (e Expect) Check(d *Document) error {
	if !d.verified {
		return errUnverified
	}
	named := e.PCRs[0] != nil || e.PCRs[1] != nil && e.PCRs[2] != nil
	if !named && !e.AnyImage {
		return errNoImage
	}
	var m Mismatches
	compare := func(field string, got, want []byte) {
		if want != nil && (got == nil || !bytes.Equal(got, want)) {
			m = append(m, Mismatch{Field: field, Got: hex.EncodeToString(got), Want: hex.EncodeToString(want)})
		}
	}
	for _, i := range slices.Sorted(maps.Keys(e.PCRs)) {
		compare(fmt.Sprintf("PCR%d", i), d.PCRs[i], e.PCRs[i])
	}
	compare("public key", d.PublicKey, e.PublicKey)
	compare("user data", d.UserData, e.UserData)
	compare("nonce", d.Nonce, e.Nonce)
	if m != nil {
		return m
	}
	return nil
}
