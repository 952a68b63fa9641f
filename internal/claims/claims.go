// Package claims is what an attestation document of ours says in its user data:
// which key this enclave signs with, for which chain, where the key comes from,
// who else can open it, and how far it has signed. Encoding and decoding, nothing else:
// whether the document around it is genuine, is for others to say.
package claims

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// MaxSize is how many bytes AWS documents for user data.
const MaxSize = 512

// The purposes of a document. A document for one is worth nothing for another.
const (
	PurposeAttest  = "attest"  // asked for by an operator
	PurposeCreate  = "create"  // made with a new key, wrapped and recorded
	PurposeState   = "state"   // made with a new state for a key that was there, wrapped again
	PurposeImport  = "import"  // public_key of the document is a key to import under
	PurposeKMS     = "kms"     // public_key of the document is KMS's recipient
	PurposeWrap    = "wrap"    // public_key of the document is a key to encrypt a backup's key to
	PurposeRecover = "recover" // made with a key that came out of a backup, sealed again
)

// The origins of a key. One that came out of a backup says so: anybody can make a backup, of
// a key that he knows, to the public half of a recovery key. What the backup says of where
// its key was made stands before; the document of PurposeCreate proves it, or nothing does.
const (
	Generated          = "generated" // inside an enclave: what leaves it is for the recipient of backups alone
	Imported           = "imported"  // copies may exist
	RecoveredGenerated = "generated, from a backup"
	RecoveredImported  = "imported, from a backup"
)

// Recovered returns the origin of a key that came out of a backup: "" for what is not an
// origin.
func Recovered(origin string) string {
	switch origin {
	case Generated, RecoveredGenerated:
		return RecoveredGenerated
	case Imported, RecoveredImported:
		return RecoveredImported
	}
	return ""
}

// Claims are the user data, as a JSON object without spaces. Purpose is in
// all of them.
type Claims struct {
	Version int    `json:"v"` // 1
	Purpose string `json:"use"`
	// Boot is 32 hex digits, new with each start of the enclave. It is empty in
	// documents for KMS, which nobody else gets to see.
	Boot    string `json:"boot"`
	Chain   string `json:"chain,omitempty"`
	KeyType string `json:"type,omitempty"` // CometBFT's name
	// Key is the public key: base64, or "sha256:" and 64 hex digits where it is
	// longer than 65 bytes.
	Key    string `json:"key,omitempty"`
	KMSKey string `json:"kms,omitempty"` // ARN of the key that wraps it
	// Seal is, in place of it, which key of the CPU seals it, and Recipient who can open the
	// backups of all keys that this enclave makes or imports: policy.Recipient.ID.
	Seal      string `json:"seal,omitempty"`
	Recipient string `json:"rcpt,omitempty"`
	// Origin is one of those above. Where Purpose is create
	// this enclave saw it happen; elsewhere it is what the wrapped key says, and as
	// good as those who could wrap one.
	Origin string `json:"origin,omitempty"`
	// Seq and Mark are the last record of the state: its number, and height/round/step
	// with a tag of what was signed there (hostlink.Key.Attested).
	Seq  uint64 `json:"seq,omitempty"`
	Mark string `json:"mark,omitempty"`
	// Start is the mark that this boot began with, in the same form. Below the Mark
	// of an earlier document of another boot, or at it with another tag, it proves
	// that the host brought back an old state, whatever was signed since. (The record
	// number at the start would not: a new state that an image with a floor makes
	// begins with a number above all that ever were.)
	Start string `json:"start,omitempty"`
	// Store is absent for a mark whose records the host keeps, which protects within a boot.
	// Otherwise the mark is in the store that the policy names, which is measured with the
	// image, and this is what the record there descends from, as StoreTag has it.
	Store string `json:"db,omitempty"`
}

// StoreTag shortens what a record descends from to 11 characters: 8 bytes, URL-safe base64.
func StoreTag(lineage [16]byte) string { return base64.RawURLEncoding.EncodeToString(lineage[:8]) }

// EncodeKey returns a public key in the form of Claims.Key.
func EncodeKey(public []byte) string {
	if len(public) <= 65 {
		return base64.StdEncoding.EncodeToString(public)
	}
	sum := sha256.Sum256(public)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Encode returns the user data.
func (c Claims) Encode() ([]byte, error) {
	c.Version = 1
	b, err := json.Marshal(c)
	if err == nil && len(b) > MaxSize {
		err = fmt.Errorf("cannot attest: the claims have %d bytes, more than %d", len(b), MaxSize)
	}
	return b, err
}

// Printable reports whether text is of printable ASCII, and nothing else.
func Printable(text string) bool {
	return strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

// Decode reads user data. What it accepts encodes to the same bytes, and is of
// printable ASCII.
func Decode(data []byte) (Claims, error) {
	if len(data) == 0 {
		return Claims{}, errors.New("the document has no user data: it was not made by privyseal")
	}
	var c Claims
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return Claims{}, errors.New("not privyseal user data: not the JSON object that privyseal writes")
	}
	if _, err := d.Token(); err != io.EOF {
		return Claims{}, errors.New("not privyseal user data: trailing bytes")
	}
	// Anybody's enclave can say anything, and what it says goes to a terminal.
	for _, text := range []string{c.Purpose, c.Boot, c.Chain, c.KeyType, c.Key, c.KMSKey, c.Seal, c.Recipient, c.Origin, c.Mark, c.Start, c.Store} {
		if !Printable(text) {
			return Claims{}, errors.New("not privyseal user data: a field has characters that privyseal never writes")
		}
	}
	if c.Version != 1 {
		return Claims{}, fmt.Errorf("the user data have version %d, this program knows 1", c.Version)
	}
	again, err := c.Encode()
	if err != nil || !bytes.Equal(again, data) {
		return Claims{}, errors.New("not privyseal user data: not in canonical form")
	}
	return c, nil
}
