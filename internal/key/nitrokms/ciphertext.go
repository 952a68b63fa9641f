package nitrokms

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"privyseal/internal/secret"
	"privyseal/internal/strictjson"
)

// maxFile bounds in bytes a file with a ciphertext in it.
const maxFile = 16 << 10

// Decrypt opens a plain ciphertext under the KMS key, made without an encryption
// context by somebody who had kms:Encrypt: by `aws kms encrypt`, or by
// tmkms-light, whose sealed keys are the ciphertext of the 32-byte seed. The file
// holds the raw ciphertext, base64 of it (--output text), or the JSON that the
// command prints. What comes out says nothing about its origin, and whoever made
// it knows it.
func (k *Client) Decrypt(ctx context.Context, c secret.AWS, file []byte) ([]byte, error) {
	ciphertext, err := ReadCiphertext(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read the ciphertext: %w", err)
	}
	return k.decrypt(ctx, c, ciphertext, nil)
}

// ReadCiphertext returns the ciphertext in a file that [Client.Decrypt] takes.
func ReadCiphertext(file []byte) ([]byte, error) {
	if len(file) > maxFile {
		return nil, fmt.Errorf("it has more than %d bytes", maxFile)
	}
	if bytes.HasPrefix(file, []byte(wrappedMagic)) {
		return nil, errors.New("it is a wrapped key of privyseal, which needs no import")
	}
	ciphertext := file
	text := bytes.TrimSpace(file)
	// A raw ciphertext may begin with any byte, but is not text.
	if bytes.HasPrefix(text, []byte("{")) && utf8.Valid(text) {
		var printed struct{ CiphertextBlob []byte }
		if err := strictjson.Unmarshal(text, &printed); err != nil || len(printed.CiphertextBlob) == 0 {
			return nil, errors.New("it is JSON, but not of `aws kms encrypt`")
		}
		ciphertext = printed.CiphertextBlob
	} else if decoded, err := base64.StdEncoding.Strict().DecodeString(strings.Join(strings.Fields(string(text)), "")); err == nil {
		// KMS's ciphertexts begin with a byte that is in no base64.
		ciphertext = decoded
	}
	if len(ciphertext) == 0 || len(ciphertext) > maxCiphertext {
		return nil, fmt.Errorf("it has %d bytes, not 1 to %d", len(ciphertext), maxCiphertext)
	}
	return ciphertext, nil
}
