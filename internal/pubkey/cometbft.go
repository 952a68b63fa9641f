package pubkey

import (
	"fmt"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// FromCometBFT returns the key that CometBFT writes to JSON under a type's name
// (PubKeyName in the packages of crypto/) as the bytes b. It knows the names of all
// versions: v2.0.0-rc1 and Polygon's Heimdall v2 write secp256k1eth keys as
// cometbft/PubKeySecp256k1eth, the point uncompressed, 65 bytes.
func FromCometBFT(name string, b []byte) (Key, error) {
	t, err := parseJSONName(name)
	if name == "cometbft/PubKeySecp256k1eth" {
		t, err = Secp256k1Eth, nil
	}
	if err != nil {
		return Key{}, err
	}
	if t != Secp256k1Eth || len(b) != secp256k1.PubKeyBytesLenUncompressed || b[0] != secp256k1.PubKeyFormatUncompressed {
		return New(t, b)
	}
	point, err := secp256k1.ParsePubKey(b)
	if err != nil {
		return Key{}, fmt.Errorf("the public key is not a point on the curve of %s: %w", t, err)
	}
	return New(t, point.SerializeCompressed())
}

// Uncompressed returns the 65 bytes by which v2.0.0-rc1 names a secp256k1eth key,
// nil for any other type.
func (k Key) Uncompressed() []byte {
	if k.typ != Secp256k1Eth {
		return nil
	}
	return k.parsed.point.SerializeUncompressed()
}
