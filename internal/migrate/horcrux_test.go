package migrate

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"privyseal/internal/watermark"
)

// The cosigners of testdata are 1, 2 and 3 of a threshold of two; Horcrux' own dealer
// made their shards (test/interop/horcrux).
func cosignersOf(t *testing.T) (one, two, three string) {
	t.Helper()
	a, b := install(t, "horcrux"), install(t, "horcrux-second")
	return filepath.Join(a, "cosigner_1"), filepath.Join(b, "cosigner_2"), filepath.Join(a, "cosigner_3")
}

func combine(t *testing.T, dirs ...string) (*Installation, error) {
	t.Helper()
	return Read(t.Context(), Place{Source: "horcrux", Paths: dirs}, settle)
}

// Any two make the key, and the highest of all their states counts.
func TestHorcrux(t *testing.T) {
	one, two, three := cosignersOf(t)
	for _, tt := range []struct {
		dirs []string
		want watermark.Mark
	}{
		{[]string{one, two}, watermark.Mark{Height: 12, Step: watermark.StepPrevote}},
		{[]string{two, one}, watermark.Mark{Height: 12, Step: watermark.StepPrevote}},
		{[]string{three, two}, watermark.Mark{Height: 12, Step: watermark.StepPrevote}},
		{[]string{one, two, three}, watermark.Mark{Height: 12, Step: watermark.StepPrevote}},
		{[]string{one, three}, watermark.Mark{Height: 11, Step: watermark.StepPrecommit}},
	} {
		in, err := combine(t, tt.dirs...)
		if err != nil {
			t.Fatal(err)
		}
		c := in.Chains[0]
		m := c.Mark
		m.SignBytes = nil
		if !m.Equal(tt.want) || c.Key.PublicKey().String() != "ed25519 5ABBA271D7E7EB44A3CA4D48DEB6F6567B59FA66" {
			t.Errorf("%v: %v, %v", tt.dirs, c.Mark, c.Key)
		}
		if len(c.KeyFiles()) != len(tt.dirs) {
			t.Errorf("key files %v", c.KeyFiles())
		}
	}
}

// Too few, of two keys, of another chain, damaged, without what each has signed.
func TestHorcruxRefuses(t *testing.T) {
	const chain = "test-chain-8SAWOC"
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, one, three string) []string
		want  string
	}{
		{"too few", func(_ *testing.T, one, _ string) []string { return []string{one} }, "needs the shards of 2 cosigners, and here there is 1: name"},
		{"twice the same", func(_ *testing.T, one, _ string) []string { return []string{one, one} }, "here there is 1"},
		{"too few, and no config says so", func(t *testing.T, one, _ string) []string {
			remove(t, one+"/config.yaml")
			return []string{one}
		}, "do not make the key"},
		{"no share state", func(t *testing.T, one, three string) []string {
			remove(t, three+"/state/"+chain+"_share_sign_state.json")
			return []string{one, three}
		}, "it is missing, and without it nobody knows what this cosigner has signed"},
		{"two keys", func(t *testing.T, one, three string) []string {
			edit(t, three+"/"+chain+"_shard.json", "CiD13CC4h5vCStrIt3Yq3TB9Et+UizJ0LtmMrSYCGWCYCw==", "CiDXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg==")
			return []string{one, three}
		}, "these are shards of two keys"},
		{"one number, two shares", func(t *testing.T, one, three string) []string {
			edit(t, three+"/"+chain+"_shard.json", `"id":3`, `"id":1`)
			return []string{one, three}
		}, "they were not dealt together"},
		{"a wrong number", func(t *testing.T, one, three string) []string {
			edit(t, three+"/"+chain+"_shard.json", `"id":3`, `"id":4`)
			return []string{one, three}
		}, "do not make the key"},
		{"no number", func(t *testing.T, one, three string) []string {
			edit(t, three+"/"+chain+"_shard.json", `"id":3`, `"id":0`)
			return []string{one, three}
		}, "it has no number"},
		{"another chain", func(t *testing.T, one, three string) []string {
			for _, name := range []string{"/_shard.json", "/state/_share_sign_state.json"} {
				dir, file := filepath.Split(name)
				if err := os.Rename(three+dir+"/"+chain+file, three+dir+"/chain-2"+file); err != nil {
					t.Fatal(err)
				}
			}
			return []string{one, three}
		}, "is of chain "},
		{"a chain id that is none", func(t *testing.T, one, three string) []string {
			if err := os.Rename(three+"/"+chain+"_shard.json", three+"/$(id)_shard.json"); err != nil {
				t.Fatal(err)
			}
			return []string{one, three}
		}, "is not a chain id"},
		{"others may read it", func(t *testing.T, one, three string) []string {
			if err := os.Chmod(three+"/"+chain+"_shard.json", 0o640); err != nil {
				t.Fatal(err)
			}
			return []string{one, three}
		}, "others may have read it"},
		{"a share state of another chain", func(t *testing.T, one, three string) []string {
			edit(t, three+"/state/"+chain+"_share_sign_state.json", "385341574F43", "385341574F44")
			return []string{one, three}
		}, "it is the state of another chain"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			one, _, three := cosignersOf(t)
			in, err := combine(t, tt.spoil(t, one, three)...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, %v, want %q", in, err, tt.want)
			}
		})
	}
}

// A state that was copied into another folder of its cosigner counts with the others, and
// one that was reset is reported: nobody knows what that cosigner has signed.
func TestHorcruxStatesOfACosigner(t *testing.T) {
	const chain = "test-chain-8SAWOC"
	reset, newer := `{"height":"0","round":"0","step":0}`, `{"height":"99","round":"0","step":3}`
	for _, tt := range []struct {
		name, file, text string
		height           int64
		unsigned         bool
	}{
		{"its own, newer, beside the shard", chain + "_share_sign_state.json", newer, 99, false},
		{"the leader's, newer, beside the shard", chain + "_priv_validator_state.json", newer, 99, false},
		{"its own, older, beside the shard", chain + "_share_sign_state.json", `{"height":"9","round":"0","step":3}`, 11, false},
		{"its own, reset", "state/" + chain + "_share_sign_state.json", reset, 11, true},
		{"the leader's, reset", "state/" + chain + "_priv_validator_state.json", reset, 11, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			one, _, three := cosignersOf(t)
			path := filepath.Join(three, tt.file)
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			in, err := combine(t, one, three)
			if err != nil {
				t.Fatal(err)
			}
			if c := in.Chains[0]; c.Mark.Height != tt.height || (c.Unsigned == path) != tt.unsigned {
				t.Errorf("height %d, unsigned %q", c.Mark.Height, c.Unsigned)
			}
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// At one place only what was verified counts, and two signatures of it count as none.
func TestHigher(t *testing.T) {
	at := func(height int64, bytes string) watermark.Mark {
		m := watermark.Mark{Height: height, Step: watermark.StepPrevote}
		if bytes != "" {
			m.SignBytes = []byte(bytes)
		}
		return m
	}
	for _, tt := range []struct{ a, b, want watermark.Mark }{
		{at(1, "x"), at(2, ""), at(2, "")},
		{at(2, ""), at(2, "x"), at(2, "x")},
		{at(2, "x"), at(2, "x"), at(2, "x")},
		{at(2, "x"), at(2, "y"), at(2, "")},
	} {
		if got, again := higher(tt.a, tt.b), higher(tt.b, tt.a); !got.Equal(tt.want) || !again.Equal(tt.want) {
			t.Errorf("%v, %v: %v, %v", tt.a, tt.b, got, again)
		}
	}
}
