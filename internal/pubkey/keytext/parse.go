package keytext

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"privyseal/internal/bech32"
	"privyseal/internal/pubkey"
	"privyseal/internal/strictjson"
)

// Parse reads a key in any format that [Form.Text] writes, with any prefix, with white
// space around it; an address is not one, for no key follows from it. In base64 and hex
// the length shows the type, and 33 bytes are a key of type secp256k1, not secp256k1eth.
//
// There is one text for each key, format and prefix: white space is accepted around it and
// within JSON only, and capitals in hex only.
func Parse(text string) (pubkey.Key, error) {
	text = strings.TrimSpace(text)
	switch {
	case strings.HasPrefix(text, "{") && strings.Contains(text, `"@type"`):
		return parseCosmos([]byte(text))
	case strings.HasPrefix(text, "{"):
		return pubkey.ParseJSON([]byte(text))
	}
	raw, err := hex.DecodeString(text)
	if err != nil {
		raw, err = decodeBase64(text)
	}
	if err == nil {
		for _, t := range pubkey.Types() {
			if len(raw) == t.Size() {
				return pubkey.New(t, raw)
			}
		}
	}
	_, data, bech32Err := bech32.Decode(text)
	switch {
	case bech32Err == nil:
		return parseAmino(data)
	case strings.Contains(strings.ToLower(text), "pub1"): // it was meant to be bech32
		return pubkey.Key{}, bech32Err
	case err == nil && len(raw) > 0:
		return pubkey.Key{}, fmt.Errorf("no type of public key has %d bytes", len(raw))
	}
	return pubkey.Key{}, errors.New("it is not a public key: JSON as in genesis.json or of the Cosmos SDK, base64, hex, or bech32 as in cosmosvalconspub1zcjduepq…")
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
func parseAmino(data []byte) (pubkey.Key, error) {
	for _, t := range pubkey.Types() {
		amino, ok := aminoPrefix(t)
		if raw, found := bytes.CutPrefix(data, amino); ok && found {
			return pubkey.New(t, raw)
		}
	}
	return pubkey.Key{}, errors.New("the bech32 text is not a public key of type ed25519 or secp256k1; an address cannot stand for the key")
}

// parseCosmos reads a key as the Cosmos SDK writes it. Only white space may differ.
func parseCosmos(text []byte) (pubkey.Key, error) {
	if len(text) > pubkey.MaxJSONSize {
		return pubkey.Key{}, fmt.Errorf("a public key in JSON has at most %d bytes", pubkey.MaxJSONSize)
	}
	var fields struct {
		URL string `json:"@type"`
		Key string
	}
	if err := strictjson.Unmarshal(text, &fields); err != nil {
		return pubkey.Key{}, fmt.Errorf("cannot read the public key as JSON: %w", err)
	}
	t, err := parseURL(fields.URL)
	if err != nil {
		return pubkey.Key{}, err
	}
	raw, err := base64.StdEncoding.DecodeString(fields.Key)
	if err != nil {
		return pubkey.Key{}, fmt.Errorf("cannot read the public key's value: %w", err)
	}
	k, err := pubkey.New(t, raw)
	if err != nil {
		return pubkey.Key{}, err
	}
	var compact bytes.Buffer
	want, err := cosmosJSON(k)
	if err == nil {
		err = json.Compact(&compact, text)
	}
	if err != nil || compact.String() != want {
		return pubkey.Key{}, errors.New("the public key in JSON has keys or characters that do not belong there")
	}
	return k, nil
}

func parseURL(url string) (pubkey.Type, error) {
	if strings.HasPrefix(url, "/cosmos.crypto.bls12_381.") {
		return "", pubkey.ErrBLS
	}
	for _, t := range pubkey.Types() {
		if known, ok := cosmosURL(t); ok && url == known {
			return t, nil
		}
	}
	return "", fmt.Errorf("unknown type of public key %.40q", url)
}

// Names reports whether text is a key in any of its forms, the address among them.
func Names(text string, key pubkey.Key) bool {
	text = strings.TrimSpace(text)
	if other, err := Parse(text); err == nil && other.Equal(key) {
		return true
	}
	// An address, and the bare bytes of a key, which do not show its type.
	for _, format := range []string{"address", "hex", "base64"} {
		printed, err := Form{Format: format}.Text(key)
		if err == nil && (printed == text || format != "base64" && strings.EqualFold(printed, text)) {
			return true
		}
	}
	return false
}

// CheckName finds what is wrong with text as the name of a public key: the key itself, its
// address, or the hash that stands for a long one in an attestation.
func CheckName(text string) error {
	text = strings.TrimSpace(text)
	_, err := Parse(text)
	digits, size := text, 20
	if hash, found := strings.CutPrefix(text, "sha256:"); found {
		digits, size = hash, 32
	}
	if raw, hexErr := hex.DecodeString(digits); hexErr == nil && len(raw) == size {
		return nil
	}
	return err
}
