// Package reference writes and reads reference files: which key of a server or device
// signs for a chain, and which public key it has to have. Such a file holds no secret, but
// whoever changes it makes nodes see another public key.
package reference

import (
	"bytes"
	"encoding/base64"
	"fmt"

	"privyseal/internal/pubkey"
	"privyseal/internal/regular"
)

// Form is one kind of reference file: lines of ASCII, each ended by a line feed.
//
//	privyseal vault key 1
//	name validator
//	version 1
//	public 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
//
// The 1 in the first line is the version of the format. The public key is in base64, as in
// genesis.json. Nothing else may stand in the file.
type Form struct {
	Title string   // the first line
	Noun  string   // what it names, as in "a Vault key"
	Names []string // of the values, between the first line and the public key
}

// MaxSize bounds a file in bytes.
const MaxSize = 1024

// Encode returns the file of a key: its values, in the order of their names.
func (f Form) Encode(public pubkey.Key, values ...string) []byte {
	var b bytes.Buffer
	fmt.Fprintln(&b, f.Title)
	for i, name := range f.Names {
		fmt.Fprintln(&b, name, values[i])
	}
	fmt.Fprintln(&b, "public", base64.StdEncoding.EncodeToString(public.Bytes()))
	return b.Bytes()
}

// Parse returns the values of a file, and the bytes of its public key. Whether they are
// right is for the caller, who compares what they encode to with data.
func (f Form) Parse(data []byte) (values []string, public []byte, err error) {
	if err := regular.OfAnother(data, f.Title); err != nil {
		return nil, nil, err
	}
	lines := bytes.Split(data, []byte("\n"))
	if len(data) > MaxSize || len(lines) != len(f.Names)+3 || string(lines[0]) != f.Title {
		return nil, nil, f.Wrong()
	}
	for i, name := range append(f.Names[:len(f.Names):len(f.Names)], "public") {
		value, ok := bytes.CutPrefix(lines[i+1], []byte(name+" "))
		if !ok {
			return nil, nil, f.Wrong()
		}
		values = append(values, string(value))
	}
	last := len(f.Names)
	if public, err = base64.StdEncoding.DecodeString(values[last]); err != nil {
		return nil, nil, f.Wrong()
	}
	return values[:last], public, nil
}

// Wrong is the error of a file that does not have the form.
func (f Form) Wrong() error {
	return fmt.Errorf("it is truncated, or not a file that names %s", f.Noun)
}

// Read parses the file at path, which only its owner may write.
func Read[R any](path string, parse func(data []byte) (R, error)) (r R, err error) {
	data, _, err := regular.ReadOurs(path, MaxSize)
	if err != nil {
		return r, fmt.Errorf("cannot read which key to sign with: %w", err)
	}
	if r, err = parse(data); err != nil {
		return r, fmt.Errorf("cannot read %s: %w", path, err)
	}
	return r, nil
}
