package regular

import (
	"strings"
	"testing"
)

// A key file of another provider says which one, and nothing of another file is quoted.
func TestOfAnother(t *testing.T) {
	for data, is := range map[string]bool{
		"privyseal software key 1\nsecret s": true, "privyseal wrapped key 12\x00": false, "privyseal wrapped key 2": true,
		"privyseal vault key 1\nname a": false, "privyseal vault key 1": false, "": false, "secret": false, "\nprivyseal software key 1": false,
		"privyseal software key s3cr3t\n": false, "privyseal SOFTWARE key 1\n": false, "privyseal software key 1 s3cr3t\n": false,
	} {
		err := OfAnother([]byte(data), "privyseal vault key 1")
		if (err != nil) != is {
			t.Errorf("%q: %v", data, err)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "\ncorrect the provider of the chain")) {
			t.Errorf("%q: %v", data, err)
		}
	}
}
