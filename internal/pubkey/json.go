package pubkey

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"privyseal/internal/strictjson"
)

// MaxJSONSize bounds in bytes what [ParseJSON] reads. The longest key takes 2,700.
const MaxJSONSize = 8 << 10

// Base64 returns the key's bytes in the standard alphabet, padded.
func (k Key) Base64() string { return base64.StdEncoding.EncodeToString([]byte(k.raw)) }

// JSON returns the key as genesis.json and priv_validator_key.json have it, on one line;
// "" for the zero Key.
func (k Key) JSON() string {
	if k.IsZero() {
		return ""
	}
	return `{"type":"` + k.typ.jsonName() + `","value":"` + k.Base64() + `"}`
}

// ParseJSON reads what [Key.JSON] returns. Only white space may differ.
func ParseJSON(text []byte) (Key, error) {
	if len(text) > MaxJSONSize {
		return Key{}, fmt.Errorf("a public key in JSON has at most %d bytes", MaxJSONSize)
	}
	var fields struct{ Type, Value string }
	if err := strictjson.Unmarshal(text, &fields); err != nil {
		return Key{}, fmt.Errorf("cannot read the public key as JSON: %w", err)
	}
	t, err := parseJSONName(fields.Type)
	if err != nil {
		return Key{}, err
	}
	raw, err := base64.StdEncoding.DecodeString(fields.Value)
	if err != nil {
		return Key{}, fmt.Errorf("cannot read the public key's value: %w", err)
	}
	k, err := New(t, raw)
	if err != nil {
		return Key{}, err
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil || compact.String() != k.JSON() {
		return Key{}, errors.New("the public key in JSON has keys or characters that do not belong there")
	}
	return k, nil
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

func parseJSONName(name string) (Type, error) {
	if name == "cometbft/PubKeyBls12_381" {
		return "", ErrBLS
	}
	for _, t := range Types() {
		if name == t.jsonName() {
			return t, nil
		}
	}
	return "", fmt.Errorf("unknown type of public key %.40q", name)
}
