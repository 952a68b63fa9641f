package rig

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
)

// Unwrap opens a wrapped key as the operator of KMS could: no policy is asked and
// no document is needed. So a test knows the secrets that no byte that leaves an
// enclave may show. Format: package nitrokms.
func (k *KMS) Unwrap(wrapped []byte) (dataKey, secret []byte, err error) {
	const head = "privyseal wrapped key 1\n"
	rest, ok := strings.CutPrefix(string(wrapped), head)
	var fields []string
	sealedAt := 0
	for ok && len(rest) >= 2 {
		sealedAt = len(wrapped) - len(rest)
		n := int(binary.BigEndian.Uint16([]byte(rest)))
		if len(rest)-2 < n {
			break
		}
		fields, rest = append(fields, rest[2:2+n]), rest[2+n:]
	}
	if len(fields) != 6 || rest != "" {
		return nil, nil, errors.New("not a wrapped key")
	}
	chain, public, encrypted, sealed := fields[1], fields[3], fields[4], fields[5]
	context := map[string]string{"privyseal-public-key": base64.StdEncoding.EncodeToString([]byte(public))}
	if chain != "" {
		context["privyseal-chain"] = chain
	}
	k.mu.Lock()
	_, dataKey, err = k.open([]byte(encrypted), context)
	k.mu.Unlock()
	if err != nil {
		return nil, nil, err
	}
	block, err := aes.NewCipher(dataKey)
	if err != nil {
		return nil, nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, nil, err
	}
	n := aead.NonceSize()
	if len(sealed) < n {
		return nil, nil, errors.New("not a wrapped key")
	}
	inner, err := aead.Open(nil, []byte(sealed[:n]), []byte(sealed[n:]), wrapped[:sealedAt])
	if err != nil {
		return nil, nil, err
	}
	const before = 1 + 8 // origin and time
	if len(inner) <= before {
		return nil, nil, errors.New("not a wrapped key")
	}
	return dataKey, inner[before:], nil
}
