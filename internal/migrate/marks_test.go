package migrate

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"privyseal/internal/key/soft"
	"privyseal/internal/pubkey"
	"privyseal/internal/watermark"
)

// testKey is the one of RFC 8032's first test, of which old files are.
func testKey(t *testing.T) pubkey.Key {
	t.Helper()
	k, err := soft.Import([]byte("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="), "")
	if err != nil {
		t.Fatal(err)
	}
	return k.PublicKey()
}

// Every form in which other signers write how far they are.
func TestParseState(t *testing.T) {
	at := func(height int64, round int32, step watermark.Step) watermark.Mark {
		return watermark.Mark{Height: height, Round: round, Step: step}
	}
	for _, tt := range []struct {
		text string
		want watermark.Mark
	}{
		{`{"height":"361402","round":0,"step":3}`, at(361402, 0, 3)},
		{`{"height":"361402","round":"0","step":3}`, at(361402, 0, 3)},   // Tendermint up to 0.33, Heimdall v1
		{`{"height":"361402","round":"2","step":"1"}`, at(361402, 2, 1)}, // everything as text
		{`{"height":361402,"round":0,"step":3}`, at(361402, 0, 3)},
		{`{"height":9007199254740993,"round":0,"step":3}`, at(9007199254740993, 0, 3)}, // above what a float holds
		{`{"height":"0","round":"0","step":0}`, watermark.Mark{}},
		{`{"height":"9","round":"1","step":2,"nonce_public":null}`, at(9, 1, 2)},
		{`{"height":"9","round":"1","step":2,"nonce_public":"AA==","signature":"AA==","vote_ext_signature":null}`, watermark.Mark{}}, // below
		{`{"height":"9","round":"1","step":2,"block_id":null}`, at(9, 1, 3)},
		{`{"height":"9","round":1,"step":0,"block_id":null}`, at(9, 1, 1)},
		{`{"address":"","last_height":"7","last_round":"1","last_step":2,"priv_key":{"type":"x","value":"y"}}`, at(7, 1, 2)},
		{`{"last_height":7,"last_round":1,"last_step":3}`, at(7, 1, 3)},
	} {
		m, err := ParseState([]byte(tt.text), "chain-1", testKey(t))
		if strings.Contains(tt.text, `"signature":"AA=="`) {
			if err == nil || !strings.Contains(err.Error(), "not both") {
				t.Errorf("%s: %v, %v", tt.text, m, err)
			}
			continue
		}
		if err != nil || !m.Equal(tt.want) {
			t.Errorf("%s: %v, %v, want %v", tt.text, m, err, tt.want)
		}
	}
}

// What is not a state is called what it is, and a state that has two meanings has none.
func TestParseStateRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`{"height":"361402","round":0,"step":3,"height":"5"}`: `duplicate key "height"`,
		`{"height":"361402","round":0,"step":3,"Height":"5"}`: `duplicate key "Height"`,
		`{"height":"9","round":0,"step":3,"colour":"red"}`:    `unknown field "colour"`,
		`{"height":"09","round":0,"step":3}`:                  "not a whole number",
		`{"height":"9.5","round":0,"step":3}`:                 "not a whole number",
		`{"height":9e3,"round":0,"step":3}`:                   "not a whole number",
		`{"height":"-9","round":0,"step":3}`:                  "the height -9",
		`{"height":"9","round":0,"step":4}`:                   "the step 4",
		`{"height":"9","round":0,"step":3,"block_id":null}`:   "the step 3",
		`{"height":"9","round":2147483647,"step":3}`:          "the round 2147483647",
		`{"height":"0","round":1,"step":3}`:                   "at height 0",
		`{"height":null,"round":0,"step":0}`:                  "no height, round or step",
		`{"pubKey":"","privateShard":"","id":1}`:              "but a shard of Horcrux' key",
		`{"rsa_key":"","secret_share":"","rsa_pubs":[]}`:      "but a shard of Horcrux' key",
		`{"id":1,"eciesKey":"","eciesPubs":[]}`:               "but a communication key of Horcrux",
		`{"address":"","pub_key":{},"priv_key":{}}`:           "but a validator's key",
		`{"priv_key":{}}`:                                     "but a key",
		`{"genesis_time":"","chain_id":"a"}`:                  "but a genesis",
		`{"addrs":[]}`:                                        "but an address book",
		"privyseal software key 1\ntype ed25519\n":            "but a key of privyseal",
		"privyseal-mark/1\x00\x00":                            "but the live state file of a host",
		"# tmkms\n[[chain]]\nid = 1\n":                        "but a config in TOML",
		"":                                                    "it is empty",
		" \n":                                                 "it is empty",
		`{"height":"9`:                                        "it is truncated",
		`no state at all`:                                     "it is truncated, or not a state",
		`[]`:                                                  "it is truncated, or not a state",
		`{"last_height":"7","last_round":"x","last_step":2}`:  "not a whole number",
		`{"last_height":"7"}`:                                 "no height, round or step",
	} {
		if m, err := ParseState([]byte(text), "chain-1", testKey(t)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v, want %q", text, m, err, want)
		}
	}
}

// The state of another chain or key is known as such, where it holds what was signed.
func TestParseStateKnowsForeignOnes(t *testing.T) {
	data, err := os.ReadFile("testdata/cometbft/data/priv_validator_state.json")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseState(data, "chain-1", testKey(t)); !errors.Is(err, errForeign) || !strings.Contains(err.Error(), "another chain") {
		t.Error(err)
	}
	if _, err := ParseState(data, "test-chain-8SAWOC", testKey(t)); !errors.Is(err, errForeign) || !strings.Contains(err.Error(), "another key") {
		t.Error(err)
	}
	combined := `{"pub_key":{"type":"tendermint/PubKeyEd25519","value":"9dwguIebwkrayLd2Kt0wfRLflIsydC7ZjK0mAhlgmAs="},"last_height":"7","last_round":"0","last_step":3}`
	if _, err := ParseState([]byte(combined), "chain-1", testKey(t)); !errors.Is(err, errForeign) {
		t.Error(err)
	}
}

// The share of one cosigner proves no key, so only its position counts.
func TestParseStateOfACosigner(t *testing.T) {
	data, err := os.ReadFile("testdata/cometbft/data/priv_validator_state.json")
	if err != nil {
		t.Fatal(err)
	}
	share := strings.Replace(string(data), `"signature"`, `"nonce_public": "AAAA", "vote_ext_signature": null, "signature"`, 1)
	m, err := ParseState([]byte(share), "test-chain-8SAWOC", testKey(t)) // as if another key's
	if want := (watermark.Mark{Height: 11, Step: 3}); err != nil || !m.Equal(want) {
		t.Errorf("%v, %v, want %v", m, err, want)
	}
	if _, err := ParseState([]byte(share), "chain-1", testKey(t)); !errors.Is(err, errForeign) {
		t.Error(err)
	}
}

func TestKeyFileMark(t *testing.T) {
	for text, want := range map[string]int64{
		`{"address":"","last_height":"361402","last_round":"0","last_step":3,"priv_key":{}}`: 361402,
		`{"address":"","last_height":0,"last_round":0,"last_step":0,"priv_key":{}}`:          0,
		`{"priv_key":{}}`: 0, "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=": 0, "": 0,
		`{"last_height":"5","last_height":"0"}`: -1, `{"last_height":"x"}`: -1, `{"last_height":"5"}`: -1, `{"`: -1,
		"{\xff": 0, "\n{\x00\x85\xb6": 0, // a ciphertext that begins like JSON
	} {
		m, err := KeyFileMark([]byte(text))
		if (err != nil) != (want < 0) || err == nil && m.Height != want {
			t.Errorf("%s: %v, %v", text, m, err)
		}
	}
}

func FuzzParseState(f *testing.F) {
	f.Add([]byte(`{"height":"361402","round":"0","step":3,"nonce_public":null}`))
	f.Add([]byte(`{"last_height":7,"last_round":1,"last_step":3}`))
	f.Add([]byte(`{"height":"9","round":"1","step":2,"block_id":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseState(data, "chain-1", pubkey.Key{})
		if err == nil && (m.Height < 0 || m.Round < 0 || m.Step > watermark.StepPrecommit || m.Height == 0 && !m.IsZero()) {
			t.Fatalf("%q gave %v", data, m)
		}
	})
}

// A state that does not say where it stands has no mark: what is missing is not a zero.
func TestStatesAreComplete(t *testing.T) {
	for name, whole := range map[string][3]string{
		"CometBFT": {`"height":"5"`, `"round":0`, `"step":3`},
		"tmkms":    {`"height":"5"`, `"round":"0"`, `"step":2,"block_id":null`},
		"old":      {`"last_height":"5"`, `"last_round":"0"`, `"last_step":3`},
	} {
		if m, err := ParseState([]byte("{"+strings.Join(whole[:], ",")+"}"), "chain-1", pubkey.Key{}); err != nil || m.String() != "5/0/precommit" {
			t.Errorf("%s: %v, %v", name, m, err)
		}
		for i, missing := range whole {
			rest := slices.Delete(slices.Clone(whole[:]), i, i+1)
			if m, err := ParseState([]byte("{"+strings.Join(rest, ",")+"}"), "chain-1", pubkey.Key{}); err == nil {
				t.Errorf("%s without %s stands at %v", name, missing, m)
			}
		}
	}
}
