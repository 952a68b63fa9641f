package yubihsm

import (
	"bytes"
	"fmt"
	"strconv"

	"privyseal/internal/key/reference"
	"privyseal/internal/pubkey"
)

// Reference says which key of a device signs for a chain, and which one it has to be.
type Reference struct {
	ID     uint16 // of the object; at least 1
	Public pubkey.Key
}

var referenceForm = reference.Form{Title: "privyseal yubihsm key 1", Noun: "a key of a YubiHSM", Names: []string{"id", "type"}}

// Encode returns the file that holds r. Its id is written as in 0x0001.
func (r Reference) Encode() []byte {
	return referenceForm.Encode(r.Public, fmt.Sprintf("0x%04x", r.ID), string(r.Public.Type()))
}

// ParseReference reads what Encode writes, and nothing else.
func ParseReference(data []byte) (Reference, error) {
	values, public, err := referenceForm.Parse(data)
	if err != nil {
		return Reference{}, err
	}
	id, err := strconv.ParseUint(values[0], 0, 16)
	if err != nil {
		return Reference{}, referenceForm.Wrong()
	}
	r := Reference{ID: uint16(id)}
	if r.Public, err = pubkey.New(pubkey.Type(values[1]), public); err != nil {
		return Reference{}, err
	}
	if err := signsWith(r.Public); err != nil {
		return Reference{}, err
	}
	if r.ID == 0 || !bytes.Equal(r.Encode(), data) {
		return Reference{}, referenceForm.Wrong()
	}
	return r, nil
}

// ReadReference reads the reference file at path, which only its owner may write.
func ReadReference(path string) (Reference, error) {
	return reference.Read(path, ParseReference)
}
