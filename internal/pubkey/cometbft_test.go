package pubkey

import (
	"bytes"
	"strings"
	"testing"
)

// Every name that a version of CometBFT writes is read, and gives the same key.
func TestFromCometBFT(t *testing.T) {
	for _, v := range readVectors(t) {
		k := mustNew(t, v.typ, v.public)
		if got, err := FromCometBFT(v.typ.jsonName(), v.public); err != nil || !got.Equal(k) {
			t.Errorf("%s: %v, %v", v.typ, got, err)
		}
		long := k.Uncompressed()
		if v.typ != Secp256k1Eth {
			if long != nil {
				t.Errorf("%s has an uncompressed form", v.typ)
			}
			continue
		}
		if len(long) != 65 || long[0] != 4 || !bytes.Equal(long[1:33], v.public[1:]) {
			t.Errorf("uncompressed: %x of %x", long, v.public)
		}
		for _, b := range [][]byte{v.public, long} {
			if got, err := FromCometBFT("cometbft/PubKeySecp256k1eth", b); err != nil || !got.Equal(k) {
				t.Errorf("%x: %v, %v", b, got, err)
			}
		}
		long[64] ^= 1
		if got, err := FromCometBFT("cometbft/PubKeySecp256k1eth", long); err == nil || !strings.Contains(err.Error(), "not a point on the curve") {
			t.Errorf("a spoiled point: %v, %v", got, err)
		}
		if got, err := FromCometBFT("tendermint/PubKeySecp256k1", k.Uncompressed()); err == nil {
			t.Errorf("65 bytes of secp256k1 are %v", got)
		}
	}
}
