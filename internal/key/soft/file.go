package soft

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"

	"privyseal/internal/pubkey"
)

// A key file is four lines of ASCII, each ended by a line feed:
//
//	privyseal software key 1
//	type ed25519
//	public 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
//	secret nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=
//
// The 1 is the version of the format. The type is CometBFT's name. Public and
// secret key are base64 in the standard alphabet, padded, unbroken: the public
// key as in genesis.json; the secret is the seed of RFC 8032 (32 bytes) for
// ed25519, or scalar and prefix (64 bytes) of a key that came without its seed,
// the scalar (32 bytes, big endian) for secp256k1 and secp256k1eth, and the
// packed private key of FIPS 204 (4032 bytes) for ml_dsa_65. Nothing else may
// stand in the file.
const header = FirstLine + "\n"

// FirstLine says what the file is.
const FirstLine = "privyseal software key 1"

// MaxFileSize bounds in bytes what is read as a key file. The longest is under
// 9,000 (priv_validator_key.json of an ML-DSA-65 key).
const MaxFileSize = 64 << 10

// Encode returns the key file that holds the key, for the caller to clear.
func (k *Key) Encode() []byte {
	secret := k.Secret()
	defer clear(secret)
	var b bytes.Buffer
	b.Grow(MaxFileSize) // or growing would leave copies of the secret behind
	fmt.Fprintf(&b, "%stype %s\npublic ", header, k.Type())
	b.Write(base64.StdEncoding.AppendEncode(b.AvailableBuffer(), k.public.Bytes()))
	b.WriteString("\nsecret ")
	b.Write(base64.StdEncoding.AppendEncode(b.AvailableBuffer(), secret))
	b.WriteString("\n")
	return b.Bytes()
}

// ErrFormat hides its cause, which could quote the file.
var ErrFormat = errors.New("it is truncated, or not a key file of privyseal")

// Decode reads a key file. What it accepts is, byte for byte, what
// [Key.Encode] returns. Another format is [ErrFormat].
func Decode(data []byte) (*Key, error) {
	rest, ok := bytes.CutPrefix(data, []byte(header))
	if !ok {
		return nil, ErrFormat
	}
	lines := bytes.Split(rest, []byte("\n"))
	if len(lines) != 4 {
		return nil, ErrFormat
	}
	name, ok1 := bytes.CutPrefix(lines[0], []byte("type "))
	public, ok2 := unbase64(lines[1], "public ")
	secret, ok3 := unbase64(lines[2], "secret ")
	defer clear(secret)
	t, err := pubkey.ParseType(string(name))
	if err != nil || !ok1 || !ok2 || !ok3 {
		return nil, ErrFormat
	}
	if len(secret) != secretSize(t) && !(t == pubkey.Ed25519 && len(secret) == expandedSize) {
		return nil, ErrFormat
	}
	k, err := FromSecret(t, secret)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(k.public.Bytes(), public) {
		return nil, errors.New("its public key does not belong to its secret key")
	}
	again := k.Encode()
	defer clear(again)
	if !bytes.Equal(again, data) {
		return nil, ErrFormat
	}
	return k, nil
}

// Torn reports whether data is the beginning of a key file that was cut off while it
// was written, or lost its bytes to a power cut: it holds no whole key.
func Torn(data []byte) bool {
	n := min(len(data), len(header))
	text := bytes.TrimRight(data, "\x00")
	return len(text) == 0 || string(data[:n]) == header[:n] && (len(text) < len(data) || data[len(data)-1] != '\n' || bytes.Count(data, []byte("\n")) < 4)
}

func unbase64(line []byte, name string) ([]byte, bool) {
	text, ok := bytes.CutPrefix(line, []byte(name))
	if !ok {
		return nil, false
	}
	b, err := base64.StdEncoding.AppendDecode(nil, text)
	return b, err == nil
}
