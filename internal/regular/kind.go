package regular

import (
	"bytes"
	"fmt"
	"regexp"

	"privyseal/internal/cure"
)

// kind is the first line of a key file that is ours, whichever provider it is for.
var kind = regexp.MustCompile(`^privyseal [a-z]{1,20} key [0-9]{1,3}$`)

// OfAnother returns an error if data is a key file of ours that begins with another line
// than own, and so belongs to another provider.
func OfAnother(data []byte, own string) error {
	first, _, _ := bytes.Cut(data, []byte("\n"))
	if !kind.Match(first) || string(first) == own {
		return nil
	}
	return cure.Add(fmt.Errorf("it is of another provider: it begins with %q, not with %q", first, own),
		"correct the provider of the chain in the config, or the key")
}
