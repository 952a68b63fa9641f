package kmstest

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Answer is one of KMS's that was recorded on a real instance.
type Answer struct {
	Call    string // what it answers: "GenerateDataKey", "Decrypt", or one with a mistake
	Raw     []byte // all of it, in HTTP; nil if there was none, or something in it may have been secret
	Refused string // why the enclave did not take it; "" if it did
}

// Recorded returns KMS's answers in a folder of `privyseal nitro capture`, in their order.
func Recorded(dir string) (list []Answer, err error) {
	text, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		return nil, err
	}
	var manifest struct {
		Entries []struct {
			Of            string
			Files, Hashes []string
			Refused       string
		}
	}
	if err := json.Unmarshal(text, &manifest); err != nil {
		return nil, err
	}
	for _, e := range manifest.Entries {
		call, found := strings.CutPrefix(e.Of, "KMS ")
		if !found {
			continue
		}
		a := Answer{Call: call, Refused: e.Refused}
		if len(e.Files) > 0 {
			if a.Raw, err = os.ReadFile(filepath.Join(dir, filepath.Base(e.Files[0]))); err != nil {
				return nil, err
			}
			if sum := fmt.Sprintf("%x", sha256.Sum256(a.Raw)); len(e.Hashes) != 1 || sum != e.Hashes[0] {
				return nil, fmt.Errorf("%s has changed since it was recorded", e.Files[0])
			}
		}
		list = append(list, a)
	}
	return list, nil
}
