package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Parse reads a policy file of a kind. One of the other kind is an error: who asks the KMS
// of a policy for something gets no policy that has none.
func Parse(data []byte, kind Kind) (*Policy, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("cannot read the policy: it has more than %d bytes", MaxSize)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, errors.New("cannot read the policy: it is empty")
	}
	var p Policy
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return nil, fmt.Errorf("cannot read the policy: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("cannot read the policy: trailing bytes")
	}
	if err := duplicateKey(data); err != nil {
		return nil, fmt.Errorf("cannot read the policy: %w", err)
	}
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("cannot use the policy: %w", err)
	}
	if is := p.Kind(); is != kind {
		return nil, fmt.Errorf("cannot use the policy: it is one for %s, and not for %s", is, kind)
	}
	return &p, nil
}

// Encode returns the policy in the one form that goes into images, so that the
// same policy is always measured alike.
func (p *Policy) Encode() ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("cannot use the policy: %w", err)
	}
	data, err := json.MarshalIndent(p, "", "  ")
	return append(data, '\n'), err
}

// duplicateKey finds a duplicate key in an object, and one of the policy's
// own in capitals, which encoding/json takes without a word.
func duplicateKey(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	type object struct {
		seen map[string]bool
		key  bool // the next string is a key
	}
	var open []*object
	for {
		token, err := d.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		top := func() *object {
			if len(open) == 0 {
				return nil
			}
			return open[len(open)-1]
		}
		switch t := token.(type) {
		case json.Delim:
			switch t {
			case '{':
				open = append(open, &object{seen: map[string]bool{}, key: true})
				continue
			case '[':
				open = append(open, nil)
				continue
			}
			open = open[:len(open)-1]
		case string:
			if o := top(); o != nil && o.key {
				if o.seen[t] {
					return fmt.Errorf("duplicate key %q", t)
				}
				if len(open) == 1 && strings.Trim(t, "abcdefghijklmnopqrstuvwxyz_") != "" {
					return fmt.Errorf("unknown key %q", t)
				}
				o.seen[t], o.key = true, false
				continue
			}
		}
		if o := top(); o != nil {
			o.key = true
		}
	}
}
