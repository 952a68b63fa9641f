package pubkey

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"privyseal/internal/bech32"
)

// DefaultPrefix is the bech32 prefix of [Key.Format] where none is given.
const DefaultPrefix = "cosmosvalconspub"

// Formats returns the names that [Key.Format] knows.
func Formats() []string {
	return []string{"base64", "bech32", "hex", "json", "cosmos-json", "address"}
}

// Format returns the key as text, on one line and without its end:
//
//   - base64: the bytes, in the standard alphabet, padded;
//   - bech32: the bytes after their amino prefix, as in cosmosvalconspub1zcjduepq…;
//     Ed25519 and secp256k1 only, amino knows no other;
//   - hex: the bytes, lower case;
//   - json: as in genesis.json and priv_validator_key.json;
//   - cosmos-json: as the Cosmos SDK writes and reads it (show-validator); not
//     secp256k1eth, for which the SDK has no such key;
//   - address: 20 bytes in upper-case hex, as in genesis.json.
//
// prefix replaces [DefaultPrefix]; with another format than bech32 it is an
// error.
func (k Key) Format(format, prefix string) (string, error) {
	if k.IsZero() {
		return "", errors.New("cannot format an empty public key")
	}
	if prefix != "" && format != "bech32" {
		return "", fmt.Errorf("a prefix goes with the format bech32, not with %.40q", format)
	}
	switch format {
	case "base64":
		return k.base64(), nil
	case "bech32":
		return k.bech32(prefix)
	case "hex":
		return hex.EncodeToString([]byte(k.raw)), nil
	case "json":
		return `{"type":"` + k.typ.jsonName() + `","value":"` + k.base64() + `"}`, nil
	case "cosmos-json":
		url, ok := k.typ.cosmosURL()
		if !ok {
			return "", fmt.Errorf("the Cosmos SDK has no form for keys of type %s; use --format json", k.typ)
		}
		return `{"@type":"` + url + `","key":"` + k.base64() + `"}`, nil
	case "address":
		return fmt.Sprintf("%X", k.Address()), nil
	}
	return "", fmt.Errorf("unknown format %.40q: it is one of %s", format, strings.Join(Formats(), ", "))
}

func (k Key) base64() string { return base64.StdEncoding.EncodeToString([]byte(k.raw)) }

func (k Key) bech32(prefix string) (string, error) {
	if prefix == "" {
		prefix = DefaultPrefix
	}
	amino, ok := k.typ.amino()
	if !ok {
		return "", fmt.Errorf("keys of type %s have no bech32 form; use --format json or base64", k.typ)
	}
	text, err := bech32.Encode(prefix, append(amino, k.raw...))
	return string(text), err
}

// amino returns what comes before the bytes of a key in amino's encoding: the
// first four bytes of the hash of the type's name, and the length of the key
// (amino, "prefix bytes").
func (t Type) amino() ([]byte, bool) {
	switch t {
	case Ed25519:
		return []byte{0x16, 0x24, 0xde, 0x64, 32}, true
	case Secp256k1:
		return []byte{0xeb, 0x5a, 0xe9, 0x87, 33}, true
	}
	return nil, false
}

// jsonName returns the name under which CometBFT writes a key of the type to
// JSON (PubKeyName in the packages of crypto/).
func (t Type) jsonName() string {
	switch t {
	case Ed25519:
		return "tendermint/PubKeyEd25519"
	case Secp256k1:
		return "tendermint/PubKeySecp256k1"
	case Secp256k1Eth:
		return "tendermint/PubKeySecp256k1eth"
	case MLDSA65:
		return "cometbft/PubKeyMlDsa65"
	}
	return ""
}

// cosmosURL returns the type URL of the key's message in the Cosmos SDK.
// ML-DSA-65 is there from v0.55.
func (t Type) cosmosURL() (string, bool) {
	switch t {
	case Ed25519:
		return "/cosmos.crypto.ed25519.PubKey", true
	case Secp256k1:
		return "/cosmos.crypto.secp256k1.PubKey", true
	case MLDSA65:
		return "/cosmos.crypto.mldsa65.PubKey", true
	}
	return "", false
}
