package pubkey

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"privyseal/internal/bech32"
	"privyseal/internal/strictjson"
)

// MaxJSONSize bounds in bytes what [ParseJSON] reads, and JSON in [Parse]. The
// longest key takes 2,700.
const MaxJSONSize = 8 << 10

// Parse reads a key in any format that [Key.Format] writes, with any prefix; an
// address is not one, for no key follows from it. In base64 and hex the length
// shows the type, and 33 bytes are a key of type secp256k1, not secp256k1eth.
//
// There is one text for each key, format and prefix: white space is accepted
// within JSON only, and capitals in hex only.
func Parse(text string) (Key, error) {
	if strings.HasPrefix(text, "{") {
		return parseJSON([]byte(text), "json", "cosmos-json")
	}
	raw, err := hex.DecodeString(text)
	if err != nil {
		raw, err = decodeBase64(text)
	}
	if err == nil {
		for _, t := range Types() {
			if len(raw) == t.Size() {
				return New(t, raw)
			}
		}
	}
	_, data, bech32Err := bech32.Decode(text)
	switch {
	case bech32Err == nil:
		return parseAmino(data)
	case strings.Contains(strings.ToLower(text), "pub1"): // it was meant to be bech32
		return Key{}, bech32Err
	case err == nil && len(raw) > 0:
		return Key{}, fmt.Errorf("no type of public key has %d bytes", len(raw))
	}
	return Key{}, errors.New("it is not a public key: JSON as in genesis.json or of the Cosmos SDK, base64, hex, or bech32 as in cosmosvalconspub1zcjduepq…")
}

// decodeBase64 decodes what encodes to the same text again.
func decodeBase64(text string) ([]byte, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err == nil && strings.ContainsAny(text, "\r\n") {
		err = errors.New("base64 with line breaks")
	}
	return raw, err
}

// parseAmino reads what bech32 carries: a key after its amino prefix.
func parseAmino(data []byte) (Key, error) {
	for _, t := range Types() {
		amino, ok := t.amino()
		if raw, found := bytes.CutPrefix(data, amino); ok && found {
			return New(t, raw)
		}
	}
	return Key{}, errors.New("the bech32 text is not a public key of type ed25519 or secp256k1; an address cannot stand for the key")
}

// ParseJSON reads a key in the form of the format json. Only white space may
// differ from what [Key.Format] writes.
func ParseJSON(text []byte) (Key, error) { return parseJSON(text, "json") }

// parseJSON reads a key in one of the formats.
func parseJSON(text []byte, formats ...string) (Key, error) {
	if len(text) > MaxJSONSize {
		return Key{}, fmt.Errorf("a public key in JSON has at most %d bytes", MaxJSONSize)
	}
	var fields struct {
		Type, Value string
		URL         string `json:"@type"`
		Key         string
	}
	if err := strictjson.Unmarshal(text, &fields); err != nil {
		return Key{}, fmt.Errorf("cannot read the public key as JSON: %w", err)
	}
	format, find, name, value := "json", parseJSONName, fields.Type, fields.Value
	if fields.URL != "" {
		format, find, name, value = "cosmos-json", parseCosmosURL, fields.URL, fields.Key
	}
	if !slices.Contains(formats, format) {
		return Key{}, fmt.Errorf("the public key is in the format %s; here it is %s", format, strings.Join(formats, " or "))
	}
	t, err := find(name)
	if err != nil {
		return Key{}, err
	}
	raw, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return Key{}, fmt.Errorf("cannot read the public key's value: %w", err)
	}
	k, err := New(t, raw)
	if err != nil {
		return Key{}, err
	}
	want, err := k.Format(format, "")
	if err != nil {
		return Key{}, err
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil || compact.String() != want {
		return Key{}, errors.New("the public key in JSON has keys or characters that do not belong there")
	}
	return k, nil
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

func parseCosmosURL(url string) (Type, error) {
	if strings.HasPrefix(url, "/cosmos.crypto.bls12_381.") {
		return "", ErrBLS
	}
	for _, t := range Types() {
		if known, ok := t.cosmosURL(); ok && url == known {
			return t, nil
		}
	}
	return "", fmt.Errorf("unknown type of public key %.40q", url)
}
