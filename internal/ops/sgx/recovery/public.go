package recovery

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"strings"

	"privyseal/internal/cli"
	"privyseal/internal/cure"
	"privyseal/internal/policy"
)

// ReadPublic reads the public half of a recovery key, or the file that has it, and returns
// it in the one form that a policy has for it.
func ReadPublic(value string) (string, error) {
	text, path := value, ""
	if !strings.HasPrefix(value, "hpke-x25519") && !strings.HasPrefix(value, "-----BEGIN ") {
		data, err := cli.ReadBounded(value, maxKey)
		if err != nil {
			return "", err
		}
		if isPrivate(data) {
			clear(data)
			return "", ofPrivate(value)
		}
		text, path = string(data), value+": "
	}
	if isPrivate([]byte(text)) {
		return "", ofPrivate("it")
	}
	text = strings.TrimSpace(text)
	r, err := policy.ParseRecipient(text)
	if err != nil {
		return "", cli.Usagef("%s%w", path, err)
	}
	if r.RSA == nil {
		return text, nil
	}
	der, err := x509.MarshalPKIXPublicKey(r.RSA)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), err
}

// isPrivate reports whether something is the private half of a recovery key, of ours or in PEM.
func isPrivate(data []byte) bool {
	return bytes.Contains(data, []byte("hpke-x25519-private:")) || bytes.Contains(data, []byte("PRIVATE KEY-----"))
}

func ofPrivate(what string) error {
	return cure.Add(cli.Usagef("%s is the private half of a recovery key: whoever has that and the backups has the validator's keys", what),
		"take it away from this machine, and give the public half, which `privyseal sgx recovery-key` printed")
}
