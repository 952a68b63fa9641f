package witness

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What nodes of every version answer, as they wrote it: the commit's signature has to
// verify over the bytes that we build from it.
func TestRealAnswers(t *testing.T) {
	files, err := filepath.Glob("testdata/*.status.json")
	if err != nil || len(files) != 5 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		version := strings.TrimSuffix(filepath.Base(file), ".status.json")
		status, err := decodeStatus(read(t, file))
		if err != nil || !strings.HasPrefix(status.Network, "test-chain-") || status.Height < 3 || status.CatchingUp {
			t.Errorf("%s: %+v, %v", version, status, err)
		}
		var of struct {
			Result struct {
				ValidatorInfo struct {
					Address string `json:"address"`
					PubKey  struct {
						Value []byte `json:"value"`
					} `json:"pub_key"`
				} `json:"validator_info"`
			} `json:"result"`
		}
		if err := json.Unmarshal(read(t, file), &of); err != nil {
			t.Fatal(err)
		}
		v := of.Result.ValidatorInfo
		body := read(t, "testdata/"+version+".commit.json")
		for _, address := range []string{v.Address, strings.ToLower(v.Address)} {
			commit, err := decodeCommit(body, address)
			if err != nil || commit.Height != 2 || commit.ChainID != status.Network || len(commit.Votes) != 1 || !commit.Votes[0].ForBlock {
				t.Fatalf("%s: %+v, %v", version, commit, err)
			}
			verify := func(msg, sig []byte) bool { return ed25519.Verify(v.PubKey.Value, msg, sig) }
			if ours, lies := commit.Ours(verify); !ours || lies != 0 {
				t.Errorf("%s: the signature does not verify", version)
			}
		}
		if commit, err := decodeCommit(body, strings.Repeat("A", 40)); err != nil || len(commit.Votes) != 0 {
			t.Errorf("%s: another validator has %+v, %v", version, commit, err)
		}
	}
	_, err = decodeCommit(read(t, "testdata/no-such-height.json"), "")
	if e, ok := errors.AsType[*rpcError](err); !ok || !strings.Contains(e.Error(), "must be less than or equal to the current blockchain height") {
		t.Errorf("%v", err)
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

const aCommit = `{"result":{"signed_header":{"header":{"chain_id":"c","height":"7","time":"2026-01-01T00:00:00Z"},"commit":{"height":"7","round":0,` +
	`"block_id":{"hash":"` + hash + `","parts":{"total":1,"hash":"` + hash + `"}},"signatures":[` +
	`{"block_id_flag":1,"validator_address":"","timestamp":"0001-01-01T00:00:00Z","signature":null},` +
	`{"block_id_flag":2,"validator_address":"AA","timestamp":"2026-01-01T00:00:00.5Z","signature":"AAAA"}]}}}}`

const hash = "00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEFF"

// Answers that are not quite those of a node.
func TestStrangeAnswers(t *testing.T) {
	if c, err := decodeCommit([]byte(aCommit), "aa"); err != nil || len(c.Votes) != 1 || c.Votes[0].Timestamp.Nanos != 500_000_000 {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, change := range [][2]string{
		{`"height":"7","time"`, `"height":"8","time"`},
		{`"height":"7","time"`, `"height":7,"time"`},
		{`"height":"7","time"`, `"height":"+7","time"`},
		{`"height":"7","time"`, `"height":"07x","time"`},
		{`"height":"7"`, `"height":"-7"`},
		{`"round":0`, `"round":-1`},
		{`"round":0`, `"round":"0"`},
		{`"round":0`, `"round":0,"ROUND":1`},
		{`"total":1`, `"total":0`},
		{`"total":1`, `"total":-1`},
		{`"hash":"0011`, `"hash":"11`},
		{`"hash":"0011`, `"hash":"zz11`},
		{`"block_id_flag":2`, `"block_id_flag":4`},
		{`"AAAA"`, `"A"`},
		{`"AAAA"`, `"` + strings.Repeat("AAAA", maxSignature) + `"`},
		{`"2026-01-01T00:00:00.5Z"`, `"yesterday"`},
		{`"time":"2026-01-01T00:00:00Z"`, `"time":""`},
		{`}]}}}}`, `}]}}}} x`},
		{`}]}}}}`, `}]}}}`},
		{`{"result"`, `[{"result"`},
	} {
		text := strings.Replace(aCommit, change[0], change[1], 1)
		if text == aCommit {
			t.Fatalf("%q is not there", change[0])
		}
		if c, err := decodeCommit([]byte(text), "AA"); !errors.Is(err, errShape) {
			t.Errorf("%q: %+v, %v", change[1], c, err)
		}
	}
	// Sei's nodes have no envelope.
	bare := strings.TrimSuffix(strings.TrimPrefix(aCommit, `{"result":`), "}")
	if c, err := decodeCommit([]byte(bare), "AA"); err != nil || c.Height != 7 {
		t.Errorf("%+v, %v", c, err)
	}
	for _, text := range []string{`{}`, `null`, `""`, `{"result":{"node_info":{"network":"c"}}}`, `{"result":{"node_info":{"network":"c"},"sync_info":{"latest_block_height":"x"}}}`} {
		if s, err := decodeStatus([]byte(text)); !errors.Is(err, errShape) {
			t.Errorf("%s: %+v, %v", text, s, err)
		}
	}
	for in, want := range map[string]string{"a\x1b[31mb\n\u202ec": "a?[31mb??c", strings.Repeat("x", 200): strings.Repeat("x", maxText) + "…"} {
		if got := printable(in); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(aCommit))
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := decodeStatus(data); err == nil && (s.Height < 0 || s.Network == "") {
			t.Errorf("%+v", s)
		}
		c, err := decodeCommit(data, "AA")
		if err != nil {
			return
		}
		if c.Height < 1 || c.Round < 0 || len(c.BlockID.Hash) != 32 || len(c.BlockID.PartsHash) != 32 {
			t.Errorf("%+v", c)
		}
		for _, v := range c.Votes {
			if len(c.signBytes(v)) == 0 {
				t.Error("nothing to verify")
			}
		}
	})
}

// No bound that is made of a tip runs over.
func TestHighestHeight(t *testing.T) {
	if _, err := parseHeight("9223372036854775807"); err == nil {
		t.Error("the largest int64 is taken for a height")
	}
	if h, err := parseHeight("4611686018427387904"); h != maxHeight || err != nil {
		t.Errorf("%d, %v", h, err)
	}
}
