package noiseconn

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"os"
	"strings"
	"testing"
)

// TestGoldenPeerIDs reads lines of a public key and the id that CometBFT v0.40
// gives it.
func TestGoldenPeerIDs(t *testing.T) {
	b, err := os.ReadFile("testdata/peerids.txt")
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		lines++
		key, want, _ := strings.Cut(strings.TrimSpace(line), " ")
		raw, err := hex.DecodeString(key)
		if err != nil {
			t.Fatal(err)
		}
		id := PeerIDOf(raw)
		if got := id.String(); got != want {
			t.Errorf("key %s is %s, want %s", key, got, want)
		}
		parsed, err := ParsePeerID(want)
		if err != nil || parsed != id || !bytes.Equal(parsed[:], raw) {
			t.Errorf("%s parses to %x, %v", want, parsed, err)
		}
	}
	if lines < 20 {
		t.Errorf("only %d ids in the file", lines)
	}
}

func TestBadPeerIDs(t *testing.T) {
	good := idOf(ed25519.NewKeyFromSeed(make([]byte, 32))).String()
	for name, id := range map[string]string{
		"empty":              "",
		"RSA or long key":    "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
		"secp256k1":          "16Uiu2HAmLhLvBoYaoZfaMUKuibM6ac163GwKY74c5kiSLg5KvLpY",
		"cid":                "k51qzi5uqu5dh9ihj4p2v5sl3hxvv27ryx2w0xrsv6jmmqi91t9xp8p9kaipc2",
		"node id of tcp":     "5576458aef205977e18fd50b274e9b5d9014525a",
		"a digit short":      good[:51],
		"a digit long":       good + "1",
		"a letter not in it": good[:51] + "0",
		"a space":            " " + good[:51],
		"not ascii":          good[:50] + "é",
		"another multihash":  "2" + good[1:],
		"largest number":     strings.Repeat("z", 52),
		"smallest number":    strings.Repeat("1", 52),
		"another key type":   "12D3" + strings.Repeat("1", 48),
		"nobody":             PeerID{}.String(),
	} {
		if got, err := ParsePeerID(id); err == nil {
			t.Errorf("%s: %q parsed to %x", name, id, got)
		}
	}
}
