package vault

import (
	"bytes"
	"fmt"

	"privyseal/internal/regular"
)

// maxSecret bounds in bytes a token or secret id. Vault's batch tokens have some hundred.
const maxSecret = 4096

// readSecret returns the one line of a file that only its owner may read.
func readSecret(path, credentials string) (string, error) {
	text, err := regular.ReadSecret("secret file", path, credentials, maxSecret+2)
	if err != nil {
		return "", err
	}
	text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	if !isSecretText(string(text)) {
		return "", fmt.Errorf("the secret file %s holds no token or secret id: that is one line of letters, digits and signs, and nothing else", path)
	}
	return string(text), nil
}

// isSecretText reports whether s can stand in a header: printable ASCII without spaces.
func isSecretText(s string) bool {
	for _, r := range s {
		if r <= ' ' || r > '~' {
			return false
		}
	}
	return s != "" && len(s) <= maxSecret
}
