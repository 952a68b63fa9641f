package soft

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"privyseal/internal/pubkey"
	"privyseal/internal/strictjson"
)

// errSealed says that a key file was sealed by an enclave, and cannot be read
// outside of it.
var errSealed = errors.New("it was sealed by an SGX enclave, and only that enclave can read it")

// errText hides its cause, which could quote the file.
var errText = errors.New("it is not a key file of a known form: priv_validator_key.json, node_key.json, base64 of tmkms, or our own")

// errDuplicate hides which key, which could be a secret that slipped.
var errDuplicate = errors.New("it has a duplicate key, and it is not certain which of the two values counts")

// Import makes a key of the contents of a key file, white space around it
// aside:
//
//   - CometBFT's priv_validator_key.json and node_key.json, of all four types and
//     under the names of all versions; pub_key and address, where present, must
//     belong to priv_key, however their JSON is written;
//   - tmkms and tmkms-light: base64 of the 32-byte seed of an Ed25519 key, of
//     the 64 bytes of an expanded one (scalar and prefix, RFC 8032, 5.1.5), or of
//     the 96 bytes of a YubiHSM's export (scalar backwards, prefix, public key);
//   - cosmos/kms: base64 of the 64 bytes of an Ed25519 key (seed and public
//     key) or of the 4032 of an ML-DSA-65 key;
//   - with as one of the two secp256k1 types: the 32-byte scalar in base64
//     (tmkms) or hex (cosmos/kms);
//   - our own.
//
// as is the type that the key must have; "" is any. An error never quotes the
// file. It may be [errSealed] or [pubkey.ErrBLS].
func Import(data []byte, as pubkey.Type) (*Key, error) {
	text := bytes.TrimSpace(data)
	var k *Key
	var err error
	switch {
	case len(data) > MaxFileSize:
		err = fmt.Errorf("it has more than %d bytes", MaxFileSize)
	case len(text) == 0:
		err = errors.New("it is empty")
	case text[0] == '{':
		k, err = importJSON(text)
	case bytes.HasPrefix(data, []byte(header)):
		k, err = Decode(data)
	default:
		k, err = importText(text, as)
	}
	if err != nil {
		return nil, err
	}
	if as != "" && k.Type() != as {
		return nil, fmt.Errorf("it holds a key of type %s, not of type %s", k.Type(), as)
	}
	return k, nil
}

// namedKey is a key as CometBFT's JSON has it.
type namedKey struct {
	Type  string `json:"type"`
	Value []byte `json:"value"`
}

// isShard reports whether a JSON object is a shard of Horcrux, of version 3 or 2.
func isShard(text []byte) bool {
	var shard struct {
		Shard json.RawMessage `json:"privateShard"`
		Share json.RawMessage `json:"secret_share"`
	}
	err := strictjson.Unmarshal(text, &shard)
	clear(shard.Shard)
	clear(shard.Share)
	return err == nil && (shard.Shard != nil || shard.Share != nil)
}

// importJSON reads a key file of CometBFT (privval.FilePVKey, p2p.NodeKey).
func importJSON(text []byte) (*Key, error) {
	var file struct {
		Address string          `json:"address"`
		PubKey  *namedKey       `json:"pub_key"`
		PrivKey *namedKey       `json:"priv_key"`
		Sealed  json.RawMessage `json:"seal_key_request"` // of tmkms-light's SGX keys
	}
	if isShard(text) {
		return nil, errors.New("it is a shard of Horcrux' key; `privyseal migrate horcrux DIR…` combines as many as make the key")
	}
	if err := strictjson.Unmarshal(text, &file); errors.Is(err, strictjson.ErrDuplicate) {
		return nil, errDuplicate
	} else if err != nil {
		return nil, errText
	}
	if file.Sealed != nil {
		return nil, errSealed
	}
	if file.PrivKey == nil {
		return nil, errors.New("it has no priv_key")
	}
	defer clear(file.PrivKey.Value)
	k, err := fromCometBFT(file.PrivKey.Type, file.PrivKey.Value)
	if err != nil {
		return nil, err
	}
	if file.PubKey != nil {
		if public, err := pubkey.FromCometBFT(file.PubKey.Type, file.PubKey.Value); err != nil || !public.Equal(k.public) {
			return nil, errOfPubKey(file.PubKey)
		}
	}
	if address := fmt.Sprintf("%X", k.public.Address()); file.Address != "" && !strings.EqualFold(strings.TrimPrefix(file.Address, "0x"), address) {
		return nil, errors.New("its address does not belong to its priv_key")
	}
	return k, nil
}

// errOfPubKey says what is wrong with a pub_key that is not that of its priv_key.
func errOfPubKey(k *namedKey) error {
	if k.Type == "tendermint/PubKeySecp256k1" && len(k.Value) == 65 && k.Value[0] == 4 {
		return errors.New("its pub_key is of 65 bytes under the name of CometBFT's secp256k1, as in Heimdall v1 (Polygon), whose signatures are of another kind; Heimdall v2 and CometBFT v2 call it cometbft/PubKeySecp256k1eth")
	}
	return errors.New("its pub_key does not belong to its priv_key")
}

// fromCometBFT makes the key that CometBFT writes under a type name
// (PrivKeyName in the packages of crypto/).
func fromCometBFT(name string, value []byte) (*Key, error) {
	switch name {
	case "tendermint/PrivKeyEd25519":
		return fromSeedAndPublic(value)
	case "tendermint/PrivKeySecp256k1":
		return FromSecret(pubkey.Secp256k1, value)
	case "tendermint/PrivKeySecp256k1eth", "cometbft/PrivKeySecp256k1eth": // of v0.40, of v2
		return FromSecret(pubkey.Secp256k1Eth, value)
	case "cometbft/PrivKeyMlDsa65":
		return FromSecret(pubkey.MLDSA65, value)
	case "cometbft/PrivKeyBls12_381":
		return nil, pubkey.ErrBLS
	case "tendermint/PrivKeySr25519":
		return nil, errors.New("its priv_key is of the type sr25519, which no version of CometBFT takes for a validator")
	}
	return nil, errors.New("its priv_key is of an unknown type")
}

// fromSeedAndPublic takes the 64 bytes that Go's and CometBFT's Ed25519 keys
// have.
func fromSeedAndPublic(b []byte) (*Key, error) {
	if len(b) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("a private key of type ed25519 has %d bytes, not %d", ed25519.PrivateKeySize, len(b))
	}
	k, err := FromSecret(pubkey.Ed25519, b[:ed25519.SeedSize])
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(k.public.Bytes(), b[ed25519.SeedSize:]) {
		return nil, errors.New("its two halves, seed and public key, do not belong together")
	}
	return k, nil
}

// importText reads a key in base64 or hex, whose kind only its length shows.
func importText(text []byte, as pubkey.Type) (*Key, error) {
	ecdsa := as == pubkey.Secp256k1 || as == pubkey.Secp256k1Eth
	digits := bytes.TrimPrefix(text, []byte("0x"))
	b := make([]byte, 0, len(text))
	defer func() { clear(b[:cap(b)]) }()
	var err error
	if ecdsa && len(digits) == hex.EncodedLen(secp256k1.PrivKeyBytesLen) {
		b, err = hex.AppendDecode(b, digits)
	} else {
		b, err = base64.StdEncoding.Strict().AppendDecode(b, text)
	}
	if err != nil {
		return nil, errText
	}
	switch {
	case ecdsa:
		return FromSecret(as, b)
	case len(b) == ed25519.SeedSize && as != pubkey.MLDSA65:
		return FromSecret(pubkey.Ed25519, b)
	case len(b) == ed25519.PrivateKeySize:
		if k, err := fromSeedAndPublic(b); err == nil {
			return k, nil
		}
		return importExpanded(b)
	case len(b) == yubiHSMSize:
		return importYubiHSM(b)
	case len(b) == secretSize(pubkey.MLDSA65):
		return FromSecret(pubkey.MLDSA65, b)
	}
	return nil, errText
}

// yubiHSMSize is the length in bytes of an Ed25519 key as a YubiHSM exports it.
const yubiHSMSize = expandedSize + ed25519.PublicKeySize

// importYubiHSM takes what is in a YubiHSM's wrapped export: the scalar in
// big endian, the prefix, the public key.
func importYubiHSM(b []byte) (*Key, error) {
	e := bytes.Clone(b[:expandedSize])
	defer clear(e)
	slices.Reverse(e[:32])
	k, err := importExpanded(e)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(k.public.Bytes(), b[expandedSize:]) {
		return nil, errors.New("its public key does not belong to its secret key")
	}
	return k, nil
}

// importExpanded takes scalar and prefix. As tmkms does, it sets and clears the
// bits of the scalar that RFC 8032 sets and clears.
func importExpanded(b []byte) (*Key, error) {
	e := bytes.Clone(b)
	defer clear(e)
	e[0] &= 248
	e[31] = e[31]&63 | 64
	return fromExpanded(e)
}
