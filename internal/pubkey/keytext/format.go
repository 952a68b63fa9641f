// Package keytext is public keys as chains and operators write them: the formats that are
// printed, and the reading of what somebody pastes.
//
// It is for the operator's side. What a signer itself needs of a key is in
// internal/pubkey.
package keytext

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"privyseal/internal/bech32"
	"privyseal/internal/noiseconn"
	"privyseal/internal/pubkey"
)

// DefaultPrefix is the bech32 prefix of a [Form] that has none.
const DefaultPrefix = "cosmosvalconspub"

// Form is a way to write a key.
type Form struct {
	Format string // one of Formats, or of IdentityFormats
	Prefix string // of the format bech32, in place of DefaultPrefix
}

// Formats returns the names of the formats of any key.
func Formats() []string {
	return []string{"base64", "bech32", "hex", "json", "cosmos-json", "address"}
}

// IdentityFormats returns the names by which nodes know an identity key.
func IdentityFormats() []string { return []string{"node-id", "peer-id"} }

// Check finds what is wrong with a form, before there is a key. more are formats beside
// those of any key.
func (f Form) Check(more ...string) error {
	formats := append(Formats(), more...)
	if !slices.Contains(formats, f.Format) {
		return fmt.Errorf("--format %.40q is not one of %s", f.Format, strings.Join(formats, ", "))
	}
	if f.Prefix != "" && f.Format != "bech32" {
		return errors.New("--prefix goes with --format bech32 only")
	}
	return nil
}

// Text returns a key as text, on one line and without its end:
//
//   - base64: the bytes, in the standard alphabet, padded;
//   - bech32: the bytes after their amino prefix, as in cosmosvalconspub1zcjduepq…;
//     Ed25519 and secp256k1 only, amino knows no other;
//   - hex: the bytes, lower case;
//   - json: as in genesis.json and priv_validator_key.json;
//   - cosmos-json: as the Cosmos SDK writes and reads it (show-validator); not
//     secp256k1eth, for which the SDK has no such key;
//   - address: 20 bytes in upper-case hex, as in genesis.json;
//   - node-id: the same in lower case, as tcp nodes have it;
//   - peer-id: libp2p's name of an Ed25519 key, as noise nodes have it.
func (f Form) Text(k pubkey.Key) (string, error) {
	if k.IsZero() {
		return "", errors.New("cannot format an empty public key")
	}
	if err := f.Check(IdentityFormats()...); err != nil {
		return "", err
	}
	switch f.Format {
	case "bech32":
		return bech32Text(k, f.Prefix)
	case "hex":
		return hex.EncodeToString(k.Bytes()), nil
	case "json":
		return k.JSON(), nil
	case "cosmos-json":
		return cosmosJSON(k)
	case "address":
		return fmt.Sprintf("%X", k.Address()), nil
	case "node-id":
		return k.NodeID(), nil
	case "peer-id":
		if k.Type() != pubkey.Ed25519 {
			return "", fmt.Errorf("only an ed25519 key has a peer id, this one is %s", k.Type())
		}
		return PeerID(k), nil
	}
	return k.Base64(), nil
}

// PeerID returns the libp2p name of an identity key, which is ed25519.
func PeerID(identity pubkey.Key) string {
	return noiseconn.PeerIDOf(identity.Bytes()).String()
}

func bech32Text(k pubkey.Key, prefix string) (string, error) {
	if prefix == "" {
		prefix = DefaultPrefix
	}
	amino, ok := aminoPrefix(k.Type())
	if !ok {
		return "", fmt.Errorf("keys of type %s have no bech32 form; use --format json or base64", k.Type())
	}
	text, err := bech32.Encode(prefix, append(amino, k.Bytes()...))
	return string(text), err
}

// aminoPrefix returns what comes before the bytes of a key in amino's encoding: the
// first four bytes of the hash of the type's name, and the length of the key
// (amino, "prefix bytes").
func aminoPrefix(t pubkey.Type) ([]byte, bool) {
	switch t {
	case pubkey.Ed25519:
		return []byte{0x16, 0x24, 0xde, 0x64, 32}, true
	case pubkey.Secp256k1:
		return []byte{0xeb, 0x5a, 0xe9, 0x87, 33}, true
	}
	return nil, false
}

func cosmosJSON(k pubkey.Key) (string, error) {
	url, ok := cosmosURL(k.Type())
	if !ok {
		return "", fmt.Errorf("the Cosmos SDK has no form for keys of type %s; use --format json", k.Type())
	}
	return `{"@type":"` + url + `","key":"` + k.Base64() + `"}`, nil
}

// cosmosURL returns the type URL of the key's message in the Cosmos SDK.
// ML-DSA-65 is there from v0.55.
func cosmosURL(t pubkey.Type) (string, bool) {
	switch t {
	case pubkey.Ed25519:
		return "/cosmos.crypto.ed25519.PubKey", true
	case pubkey.Secp256k1:
		return "/cosmos.crypto.secp256k1.PubKey", true
	case pubkey.MLDSA65:
		return "/cosmos.crypto.mldsa65.PubKey", true
	}
	return "", false
}
