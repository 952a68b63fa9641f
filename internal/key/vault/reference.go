package vault

import (
	"bytes"
	"strconv"

	"privyseal/internal/key/reference"
	"privyseal/internal/pubkey"
)

// Reference says which key of a server signs for a chain, and which one it has to be.
type Reference struct {
	Name    string
	Version int        // at least 1
	Public  pubkey.Key // of Ed25519
}

var referenceForm = reference.Form{Title: "privyseal vault key 1", Noun: "a Vault key", Names: []string{"name", "version"}}

// Encode returns the file that holds r.
func (r Reference) Encode() []byte {
	return referenceForm.Encode(r.Public, r.Name, strconv.Itoa(r.Version))
}

// ParseReference reads what Encode writes, and nothing else.
func ParseReference(data []byte) (Reference, error) {
	values, public, err := referenceForm.Parse(data)
	if err != nil {
		return Reference{}, err
	}
	r := Reference{Name: values[0]}
	if r.Version, err = strconv.Atoi(values[1]); err != nil {
		return Reference{}, referenceForm.Wrong()
	}
	if r.Public, err = pubkey.New(pubkey.Ed25519, public); err != nil {
		return Reference{}, err
	}
	if !keyName.MatchString(r.Name) || r.Version < 1 || !bytes.Equal(r.Encode(), data) {
		return Reference{}, referenceForm.Wrong()
	}
	return r, nil
}

// ReadReference reads the reference file at path, which only its owner may write.
func ReadReference(path string) (Reference, error) {
	return reference.Read(path, ParseReference)
}
