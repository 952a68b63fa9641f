// Package strictjson reads JSON that somebody else wrote. encoding/json takes the
// last of two values with one name without a word, and a name in other capitals for
// the same one; another program may take the first. Where a height, a key or a
// policy is written in JSON, such a text has no meaning that one could rely on, and is
// refused here.
//
// It keeps nothing and trusts nothing. Errors name a key, never a value: a value
// may be a secret.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// ErrDuplicate says that an object has two members of one name. Names count as one
// if encoding/json would write them to the same field: capitals make no difference.
var ErrDuplicate = errors.New("duplicate key")

// Decode reads the one JSON value in data into v. Members that v has no field for
// are errors, as is all that [Unmarshal] refuses.
func Decode(data []byte, v any) error {
	if err := Check(data); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// Unmarshal reads the one JSON value in data into v, and ignores members that v has
// no field for. Duplicate keys, at any depth and also in what is ignored, text after
// the value, and bytes that are not UTF-8 are errors.
func Unmarshal(data []byte, v any) error {
	if err := Check(data); err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// Check reports what Unmarshal would refuse before it looks at any field.
func Check(data []byte) error {
	if !utf8.Valid(data) {
		return errors.New("it has bytes that are not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := value(d, 0); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows its end")
	}
	return nil
}

// maxDepth bounds how deep values lie in each other. Nothing that we read has ten.
const maxDepth = 100

// value reads past one value.
func value(d *json.Decoder, depth int) error {
	if depth > maxDepth {
		return errors.New("it is nested too deep")
	}
	token, err := d.Token()
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	switch token {
	case json.Delim('{'):
		return object(d, depth)
	case json.Delim('['):
		for d.More() {
			if err := value(d, depth+1); err != nil {
				return err
			}
		}
		_, err := d.Token()
		return unexpected(err)
	}
	return nil
}

// object reads past the members of an object.
func object(d *json.Decoder, depth int) error {
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return unexpected(err)
		}
		name, _ := token.(string) // Token returns nothing else here
		if seen[fold(name)] {
			return fmt.Errorf("%w %.60q", ErrDuplicate, name)
		}
		seen[fold(name)] = true
		if err := value(d, depth+1); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return unexpected(err)
}

// fold maps the names that encoding/json takes for one field to one text. Upper
// case comes first: the long s has no other way to an s.
func fold(name string) string { return strings.ToLower(strings.ToUpper(name)) }

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
