package home

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"privyseal/internal/watermark"
)

func at(height int64) watermark.Mark {
	return watermark.Mark{Height: height, Step: watermark.StepPrecommit}
}

// What the gate does with a mark, by where it comes from, what is known here, and
// which words were said.
func TestAdmit(t *testing.T) {
	zero := watermark.Mark{}
	tomb := func(height int64) Here { return Here{Exported: at(height), HasTombstone: true} }
	found := func(height int64) Here { return Here{Beside: []Found{{Path: "old.json", Mark: at(height)}}} }
	torn := Here{Beside: []Found{{Path: "old.json", Err: errors.New("torn")}}}
	const none, yes, fresh, unused = 0, 1, 2, 4
	for _, tt := range []struct {
		name  string
		in    Incoming
		here  Here
		words int
		want  error
	}{
		{"one of several cosigners was reset", Incoming{Mark: at(5), Unsigned: "three.json"}, Here{}, yes, errZero},
		{"one of several cosigners never signed", Incoming{Mark: at(5), Unsigned: "three.json"}, Here{}, yes | fresh, nil},
		{"the same takes a word for the mark too", Incoming{Mark: at(5), Unsigned: "three.json"}, Here{}, fresh, errNoWord},
		{"a file without a word", Incoming{Mark: at(5)}, Here{}, none, errNoWord},
		{"a file with the word", Incoming{Mark: at(5)}, Here{}, yes, nil},
		{"the wrong words", Incoming{Mark: at(5)}, Here{}, fresh | unused, errNoWord},
		{"a height without a word", Incoming{Mark: watermark.Floor(5), Origin: FromWord}, Here{}, none, errNoWord},
		{"a copy without a word", Incoming{Mark: at(5), Origin: FromHere}, Here{}, none, errNoWord},
		{"nothing signed, says a file", Incoming{Mark: zero}, Here{}, yes, errZero},
		{"and the operator too", Incoming{Mark: zero, Origin: FromNothing}, Here{}, fresh, nil},
		{"and the operator, as of a file", Incoming{Mark: zero}, Here{}, fresh, errNoWord},
		{"a fresh key beside a state", Incoming{Mark: zero, Origin: FromNothing}, found(5), fresh | yes, errNewer},
		{"a fresh key that joins high, beside a state", Incoming{Mark: watermark.Floor(9), Origin: FromNothing}, found(5), fresh | yes, errNewer},
		{"a fresh key beside a fresh state", Incoming{Mark: zero, Origin: FromNothing}, found(0), fresh, errNewer}, // step 3 of height 0 is not a fresh state
		{"a fresh key beside a torn state", Incoming{Mark: zero, Origin: FromNothing}, torn, fresh | yes, errNewer},
		{"a height below a state", Incoming{Mark: watermark.Floor(4), Origin: FromWord}, found(5), yes, errNewer},
		{"a height above a state", Incoming{Mark: watermark.Floor(5), Origin: FromWord}, found(5), yes, nil},
		{"a height beside a torn state", Incoming{Mark: watermark.Floor(5), Origin: FromWord}, torn, yes, nil},
		{"an old backup beside a newer state", Incoming{Mark: at(4)}, found(5), yes, errNewer},
		{"above the tombstone", Incoming{Mark: at(6)}, tomb(5), yes, nil},
		{"above the tombstone, without a word", Incoming{Mark: at(6)}, tomb(5), none, errNoWord},
		{"at the tombstone", Incoming{Mark: at(5)}, tomb(5), yes, errTombstone},
		{"below the tombstone", Incoming{Mark: at(4)}, tomb(5), yes, errTombstone},
		{"at the tombstone, unused", Incoming{Mark: at(5)}, tomb(5), yes | unused, nil},
		{"at the tombstone, unused, without a word", Incoming{Mark: at(5)}, tomb(5), unused, errNoWord},
		{"a tombstone at zero", Incoming{Mark: zero}, Here{HasTombstone: true}, yes | fresh, errTombstone},
		{"moved back to the tombstone", Incoming{Mark: at(5), Origin: FromHere}, tomb(5), yes, errTombstone},
		{"moved back above the tombstone", Incoming{Mark: at(6), Origin: FromHere}, tomb(5), yes, nil},
		{"moved back to the tombstone, unused", Incoming{Mark: at(5), Origin: FromHere}, tomb(5), yes | unused, nil},
		{"our own export", Incoming{Mark: at(6), Own: true}, Here{}, yes, errOwnExport},
		{"our own export above a tombstone", Incoming{Mark: at(6), Own: true}, tomb(5), yes, errOwnExport},
		{"our own export, unused", Incoming{Mark: at(6), Own: true}, Here{}, yes | unused, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var shown bytes.Buffer
			g := gate(&shown)
			g.Yes, g.Fresh, g.ExportUnused = tt.words&yes != 0, tt.words&fresh != 0, tt.words&unused != 0
			tt.in.Chain, tt.in.From = "chain-1", "state.json"
			err := g.Admit(tt.in, tt.here)
			if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Fatalf("%v, want %v", err, tt.want)
			}
			var refusal *Refusal
			if err != nil && (!errors.As(err, &refusal) || len(refusal.Cures) == 0 || !strings.HasPrefix(err.Error(), "chain-1: ")) {
				t.Errorf("not for an operator: %v", err)
			}
			if asked := err == nil || errors.Is(err, errNoWord); asked != strings.Contains(shown.String(), "  from  state.json\n") {
				t.Errorf("shown: %q", shown.String())
			}
		})
	}
}

func gate(shown *bytes.Buffer) *Gate {
	return &Gate{Shown: shown, Again: func(word string) string { return "again " + word }, Text: func(m watermark.Mark) string { return m.String() }}
}

// On a terminal the operator types the chain's name.
func TestTerminal(t *testing.T) {
	for answer, want := range map[string]error{
		"chain-1\n": nil, "yes\n": nil, " chain-1 \n": nil,
		"": errNoWord, "\n": errNoWord, "y\n": errNoWord, "chain-2\n": errNoWord, "yes": errNoWord, "no\n": errNoWord, strings.Repeat("x", 1000) + "\nyes\n": errNoWord,
	} {
		var shown bytes.Buffer
		g := gate(&shown)
		g.Terminal = strings.NewReader(answer)
		err := g.Admit(Incoming{Chain: "chain-1", Mark: at(5), From: "f", Written: time.Now().Add(-60 * 24 * time.Hour)}, Here{})
		if !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%q: %v", answer, err)
		}
		for _, part := range []string{"mark  5/0/precommit", "from  f", "60 days ago", "signed nothing newer on chain-1", "type chain-1 to confirm: "} {
			if !strings.Contains(shown.String(), part) {
				t.Errorf("not shown: %q in %q", part, shown.String())
			}
		}
	}
}

// A look shows the mark and what will be asked, and asks nothing.
func TestLook(t *testing.T) {
	var shown bytes.Buffer
	g := gate(&shown)
	g.Terminal, g.Yes = strings.NewReader("yes\n"), true
	g.Look(Incoming{Chain: "c", Mark: at(5), From: "f", Origin: FromHere})
	if text := shown.String(); !strings.Contains(text, "mark  5/0/precommit\n  from  f\n  to be confirmed: this key has signed nothing newer on c,") || strings.Contains(text, "word") || strings.Contains(text, "type ") {
		t.Errorf("%q", text)
	}
}

// The operator's word is about what can be wrong with where the mark comes from.
func TestClaims(t *testing.T) {
	for origin, want := range map[Origin]string{
		FromFile: "nothing newer on c, and no other", FromWord: "nothing above height 5", FromHere: "nothing newer on c, and no other", FromNothing: "never signed",
		FromShared: "every signer of it shares this state, and none of their hosts reports a database that was restored or made again", FromMemory: "no signer shares its state under another prefix, or in another cluster or table", FromRestored: "every other host stops until it has adopted, too",
	} {
		if claim := (&Incoming{Chain: "c", Mark: at(5), Origin: origin}).claim(); !strings.Contains(claim, want) {
			t.Errorf("%d: %q, want %q", origin, claim, want)
		}
	}
}

// A refusal never asks: what a terminal answers changes nothing.
func TestRefusalsDoNotAsk(t *testing.T) {
	var shown bytes.Buffer
	g := gate(&shown)
	g.Terminal = strings.NewReader("yes\n")
	if err := g.Admit(Incoming{Chain: "c", Mark: at(5), Own: true}, Here{}); !errors.Is(err, errOwnExport) || shown.Len() > 0 {
		t.Errorf("%v, %q", err, shown.String())
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "in the future", 0: "0 seconds ago", 1900 * time.Millisecond: "1 second ago", 90 * time.Second: "90 seconds ago", time.Hour: "60 minutes ago",
		3 * time.Hour: "3 hours ago", 60 * 24 * time.Hour: "60 days ago",
	} {
		if got := age(d); !strings.Contains(got, want) {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
