package etcdstore

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestRound plays testdata/round.txt: which member is asked after what happened.
func TestRound(t *testing.T) {
	text, err := os.ReadFile("testdata/round.txt")
	if err != nil {
		t.Fatal(err)
	}
	var r round
	now := time.Unix(1e9, 0)
	for i, line := range strings.Split(string(text), "\n") {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		var d time.Duration
		if len(words) > 1 && words[1] != "->" {
			if d, err = time.ParseDuration(words[1]); err != nil {
				t.Fatalf("line %d: %v", i+1, err)
			}
		}
		moved := false
		switch words[0] {
		case "start":
			r = round{known: make([]pace, 3)}
		case "swaps": // four of them
			for range len(r.last) {
				moved = r.took(d, now) || moved
			}
		case "swap":
			moved = r.took(d, now)
		case "fails":
			r.failed(d, now)
			moved = true
		case "wait":
			now = now.Add(d)
		default:
			t.Fatalf("line %d: %s", i+1, line)
		}
		got := fmt.Sprintf("stays at %d", r.at)
		if moved {
			got = fmt.Sprintf("goes to %d", r.at)
		}
		if _, want, ok := strings.Cut(line, "-> "); ok && got != want {
			t.Errorf("line %d: %s, but it %s", i+1, line, got)
		}
	}
}
