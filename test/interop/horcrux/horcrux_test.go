// Package horcrux_test has Horcrux' own dealer (unit410/threshold-ed25519, which
// `horcrux create-ed25519-shards` calls) make the shards that privyseal combines, and
// makes the installation that internal/migrate's own tests read.
package horcrux_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cometbft/cometbft/crypto/ed25519"
	tsed25519 "gitlab.com/unit410/threshold-ed25519/pkg"

	"privyseal/internal/migrate"
)

var update = flag.Bool("update", false, "deal the shards of internal/migrate/testdata/horcrux")

// shardFile is signer.CosignerEd25519Key of Horcrux v3 as it is marshalled.
type shardFile struct {
	PubKey       []byte `json:"pubKey"` // cometproto.crypto.PublicKey
	PrivateShard []byte `json:"privateShard"`
	ID           int    `json:"id"`
}

// deal is CreateCosignerEd25519Shards.
func deal(key ed25519.PrivKey, threshold, shards uint8) (files []shardFile) {
	public := append([]byte{0x0a, 0x20}, key.PubKey().Bytes()...)
	for i, s := range tsed25519.DealShares(tsed25519.ExpandSecret(key[:32]), threshold, shards) {
		files = append(files, shardFile{public, s, i + 1})
	}
	return files
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// cosigner writes the home of one cosigner of version 3.
func cosigner(t *testing.T, home string, threshold uint8, f shardFile, chain string, height int64) {
	t.Helper()
	write(t, filepath.Join(home, chain+"_shard.json"), marshal(t, f))
	write(t, filepath.Join(home, "config.yaml"), fmt.Appendf(nil, `signMode: threshold
thresholdMode:
  threshold: %d
  cosigners:
  - shardID: 1
    p2pAddr: tcp://10.0.0.1:2222
  - shardID: 2
    p2pAddr: tcp://10.0.0.2:2222
  - shardID: 3
    p2pAddr: tcp://10.0.0.3:2222
  grpcTimeout: 1000ms
  raftTimeout: 1000ms
chainNodes:
- privValAddr: tcp://10.0.1.%d:1234
debugAddr: 0.0.0.0:6001
`, threshold, f.ID))
	write(t, filepath.Join(home, "state", chain+"_share_sign_state.json"), fmt.Appendf(nil, `{
  "height": "%d",
  "round": "0",
  "step": 2,
  "nonce_public": null
}`, height))
}

// Whatever threshold of whatever number of shards: the key is the one that was dealt.
func TestCombinesWhatHorcruxDeals(t *testing.T) {
	for _, tt := range []struct{ threshold, shards uint8 }{{2, 2}, {2, 3}, {3, 4}, {3, 5}, {5, 9}} {
		key := ed25519.GenPrivKey()
		files := deal(key, tt.threshold, tt.shards)
		var homes []string
		for i, f := range files {
			home := filepath.Join(t.TempDir(), fmt.Sprintf("cosigner_%d", i+1))
			cosigner(t, home, tt.threshold, f, "chain-1", 100+int64(i))
			homes = append(homes, home)
		}
		for from := range len(homes) - int(tt.threshold) + 1 {
			some := homes[from : from+int(tt.threshold)]
			in, err := migrate.Read(t.Context(), migrate.Place{Source: "horcrux", Paths: some}, time.Second)
			if err != nil {
				t.Fatalf("%d of %d: %v", tt.threshold, tt.shards, err)
			}
			c := in.Chains[0]
			if !bytes.Equal(c.Key.PublicKey().Bytes(), key.PubKey().Bytes()) {
				t.Fatalf("%d of %d: another key", tt.threshold, tt.shards)
			}
			sig, err := c.Key.Sign(nil, []byte("a vote"), nil)
			if err != nil || !key.PubKey().VerifySignature([]byte("a vote"), sig) {
				t.Errorf("%d of %d: CometBFT does not take the signature: %v", tt.threshold, tt.shards, err)
			}
			if want := int64(99 + from + int(tt.threshold)); c.Mark.Height != want {
				t.Errorf("%d of %d: the mark is at %v, want %d", tt.threshold, tt.shards, c.Mark, want)
			}
			// Its own library agrees.
			var ids []int
			var parts [][]byte
			for _, f := range files[from : from+int(tt.threshold)] {
				ids, parts = append(ids, f.ID), append(parts, f.PrivateShard)
			}
			if whole := tsed25519.CombineShares(tt.shards, ids, parts); !bytes.Equal(tsed25519.ScalarMultiplyBase(whole), key.PubKey().Bytes()) {
				t.Errorf("%d of %d: its own library makes another key", tt.threshold, tt.shards)
			}
		}
		if _, err := migrate.Read(t.Context(), migrate.Place{Source: "horcrux", Paths: homes[:tt.threshold-1]}, time.Second); err == nil || !strings.Contains(err.Error(), "name the folders of more") {
			t.Errorf("%d of %d, one too few: %v", tt.threshold, tt.shards, err)
		}
	}
}

// The installation that internal/migrate reads: two of three cosigners, one of version
// 3 and one of version 2, of the key in testdata/cometbft.
func TestInstallation(t *testing.T) {
	if !*update {
		t.Skip("only with -update: dealing is random")
	}
	data := "../../../internal/migrate/testdata/"
	text, err := os.ReadFile(data + "cometbft/config/priv_validator_key.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		PrivKey struct{ Value []byte } `json:"priv_key"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	const chain = "test-chain-8SAWOC"
	files := deal(file.PrivKey.Value, 2, 3)
	cosigner(t, data+"horcrux/cosigner_1", 2, files[0], chain, 10)
	cosigner(t, data+"horcrux/cosigner_3", 2, files[2], chain, 11)
	cosigner(t, data+"horcrux-second/cosigner_2", 2, files[1], chain, 12)
	write(t, data+"horcrux-second/v2/share.json", marshal(t, map[string]any{
		"rsa_key": []byte("unused"), "pub_key": files[1].PubKey, "secret_share": files[1].PrivateShard, "rsa_pubs": []any{}, "id": 2,
	}))
}
