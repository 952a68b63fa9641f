package vault

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"

	"privyseal/internal/pubkey"
	"privyseal/internal/regular"
)

// Reference says which key of a server signs for a chain, and which one it has to be.
// It holds no secret, but whoever changes it makes nodes see another public key.
type Reference struct {
	Name    string
	Version int // at least 1
	Public  pubkey.Key
}

// A reference file is four lines of ASCII, each ended by a line feed:
//
//	privyseal vault key 1
//	name validator
//	version 1
//	public 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
//
// The 1 in the first line is the version of the format. The public key is an Ed25519
// key in base64, as in genesis.json. Nothing else may stand in the file.
const referenceFormat = "privyseal vault key 1\nname %s\nversion %d\npublic %s\n"

// maxReference bounds the file in bytes.
const maxReference = 1024

var errReference = errors.New("it is truncated, or not a file that names a Vault key")

// Encode returns the file that holds r.
func (r Reference) Encode() []byte {
	return fmt.Appendf(nil, referenceFormat, r.Name, r.Version, base64.StdEncoding.EncodeToString(r.Public.Bytes()))
}

// ParseReference reads what Encode writes, and nothing else.
func ParseReference(data []byte) (Reference, error) {
	var r Reference
	var err error
	lines := bytes.Split(data, []byte("\n"))
	if len(data) > maxReference || len(lines) != 5 {
		return r, errReference
	}
	name, ok1 := bytes.CutPrefix(lines[1], []byte("name "))
	version, ok2 := bytes.CutPrefix(lines[2], []byte("version "))
	text, ok3 := bytes.CutPrefix(lines[3], []byte("public "))
	if r.Version, err = strconv.Atoi(string(version)); err != nil || !ok1 || !ok2 || !ok3 {
		return r, errReference
	}
	public, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		return r, errReference
	}
	r.Name = string(name)
	if r.Public, err = pubkey.New(pubkey.Ed25519, public); err != nil {
		return r, err
	}
	if !keyName.MatchString(r.Name) || r.Version < 1 || !bytes.Equal(r.Encode(), data) {
		return r, errReference
	}
	return r, nil
}

// ReadReference reads the reference file at path, which only its owner may write.
func ReadReference(path string) (Reference, error) {
	data, _, err := regular.ReadOurs(path, maxReference)
	if err != nil {
		return Reference{}, fmt.Errorf("cannot read which key to sign with: %w", err)
	}
	r, err := ParseReference(data)
	if err != nil {
		return Reference{}, fmt.Errorf("cannot read %s: %w", path, err)
	}
	return r, nil
}
