package home

import (
	"bytes"
	"math"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"privyseal/internal/pubkey"
	"privyseal/internal/watermark"
)

func testKey(t testing.TB) pubkey.Key {
	t.Helper()
	key, err := pubkey.ParseJSON([]byte(`{"type":"tendermint/PubKeyEd25519","value":"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}`))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// The files never change: a host may wait for years to read one.
func TestInterchangeFiles(t *testing.T) {
	written := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	saved := watermark.Saved{Mark: watermark.Mark{Height: math.MaxInt64, Round: 3, Step: watermark.StepPrevote, SignBytes: []byte{1, 2, 3}}, Time: written}
	by := Exporter{Place: "0123456789abcdef", Instance: "00112233445566778899aabbccddeeff"}
	got, err := EncodeInterchange("chain-1", testKey(t), saved, written.Add(time.Hour), by)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		file string
		by   Exporter
	}{{"testdata/state-v1.json", Exporter{}}, {"testdata/state-v2.json", by}} {
		data, err := os.ReadFile(tt.file)
		if err != nil {
			t.Fatal(err)
		}
		if tt.by == by {
			if diff := cmp.Diff(string(data), string(got)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		}
		chainID, key, again, err := decodeInterchange(data)
		if err != nil || chainID != "chain-1" || !key.Equal(testKey(t)) || again.By != tt.by || again.From != "exported by privyseal at 2026-01-02T04:04:05Z" {
			t.Errorf("%s: %q, %v, %+v, %v", tt.file, chainID, key, again, err)
		}
		if diff := cmp.Diff(saved, again.Saved); diff != "" {
			t.Errorf("-written +read\n%s", diff)
		}
	}
}

// A host knows its own exports by the place or by the file, and takes nobody else's
// for its own.
func TestExporter(t *testing.T) {
	a := Exporter{Place: "p", Instance: "i"}
	for _, tt := range []struct {
		b    Exporter
		want bool
	}{
		{a, true}, {Exporter{Place: "p"}, true}, {Exporter{Instance: "i"}, true}, {Exporter{Place: "p", Instance: "j"}, true},
		{Exporter{}, false}, {Exporter{Place: "q", Instance: "j"}, false},
	} {
		if a.Same(tt.b) != tt.want || (Exporter{}).Same(tt.b) {
			t.Errorf("%+v", tt.b)
		}
	}
}

func TestInterchangeKeepsEveryMark(t *testing.T) {
	for _, mark := range []watermark.Mark{
		{}, watermark.Floor(0), watermark.Floor(math.MaxInt64), {Height: 1, Step: watermark.StepProposal}, {Height: 1, Step: watermark.StepPrecommit, SignBytes: make([]byte, 276)},
	} {
		data, err := EncodeInterchange("c", testKey(t), watermark.Saved{Mark: mark, Time: time.Now()}, time.Now(), Exporter{})
		if err != nil {
			t.Fatal(err)
		}
		_, _, saved, err := decodeInterchange(data)
		if err != nil || !saved.Mark.Equal(mark) {
			t.Errorf("%v came back as %v, %v", mark, saved.Mark, err)
		}
	}
}

// What is accepted, is written in the same bytes.
func FuzzInterchange(f *testing.F) {
	good, err := os.ReadFile("testdata/state-v1.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(bytes.Replace(good, []byte(`"AQID"`), []byte(`null`), 1))
	f.Add(bytes.Replace(good, []byte(`"AQID"`), []byte(`""`), 1))
	f.Add(bytes.Replace(good, []byte(`"round": 3`), []byte(`"round": -3`), 1))
	f.Add(bytes.Replace(good, []byte(`"round": 3`), []byte(`"round": 3, "round": 4`), 1))
	f.Add(bytes.Replace(good, []byte(`prevote`), []byte(`step(4)`), 1))
	f.Add([]byte(`{"height":"5","round":0,"step":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		chainID, key, saved, err := decodeInterchange(data)
		if err != nil {
			if diff := cmp.Diff(watermark.Saved{}, saved.Saved, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("an error and a mark: %s", diff)
			}
			return
		}
		again, err := EncodeInterchange(chainID, key, saved.Saved, time.Time{}, saved.By)
		if err != nil {
			t.Fatal(err)
		}
		cut := func(b []byte) []byte { return b[:bytes.LastIndex(b, []byte(`"exported_at"`))] }
		data = bytes.Replace(data, []byte(`"version": 1,`), []byte(`"version": 2,`), 1)
		if !bytes.Equal(cut(again), cut(data)) {
			t.Fatalf("read\n%s\nwrote\n%s", data, again)
		}
	})
}
