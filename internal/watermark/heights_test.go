package watermark_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"privyseal/internal/watermark"
)

// TestHeights plays the stories of heights.txt.
func TestHeights(t *testing.T) {
	raw, err := os.ReadFile("testdata/heights.txt")
	if err != nil {
		t.Fatal(err)
	}
	stories := strings.Split(string(raw), "\nstory ")[1:]
	for _, story := range stories {
		name, events, _ := strings.Cut(story, "\n")
		t.Run(name, func(t *testing.T) {
			p := player{start: time.Date(2026, 8, 12, 0, 0, 0, 0, time.UTC)}
			for _, line := range strings.Split(events, "\n") {
				if words := strings.Fields(line); len(words) > 0 && words[0] != "#" {
					p.play(t, line, words)
				}
			}
		})
	}
	if len(stories) < 20 {
		t.Errorf("only %d stories", len(stories))
	}
}

type player struct {
	start time.Time
	h     watermark.Heights
	last  watermark.Mark
	round int32
	b     watermark.Bounds
}

func (p *player) play(t *testing.T, line string, words []string) {
	t.Helper()
	switch words[0] {
	case "burst":
		p.h.Burst = readInt(t, words[1], 64)
		return
	case "refill":
		p.h.PerSecond = readInt(t, words[1], 64)
		return
	case "max":
		p.h.Max = readInt(t, words[1], 64)
		return
	case "shared":
		p.h.Shared = readInt(t, words[1], 64) == 1
		return
	case "floor":
		p.h.Floor = readInt(t, words[1], 64)
		return
	}
	now, height := p.start.Add(readDuration(t, words[0])), int64(0)
	if len(words) > 2 {
		height = readInt(t, words[2], 64)
	}
	switch words[1] {
	case "witness":
		p.b = watermark.Bounds{Tip: height, TipAt: now.Add(-readDuration(t, words[4])), Floor: readInt(t, words[7], 64)}
		return
	case "hold", "stop":
		p.b = watermark.Bounds{Hold: map[string]string{"hold": "on purpose"}[words[1]], Stop: map[string]string{"stop": "on purpose"}[words[1]]}
		return
	case "load":
		p.last = watermark.Mark{}
		if height > 0 {
			p.last = watermark.Floor(height)
			p.last.Round = 0
		}
		var written time.Time
		if words[4] != "never" {
			written = now.Add(-readDuration(t, words[4]))
		}
		p.h.Loaded(watermark.Saved{Mark: p.last, Time: written}, now)
		return
	}
	p.round++
	req := watermark.Mark{Height: height, Round: p.round, Step: watermark.StepPrevote}
	if words[1] == "repeat" {
		req = p.last
	}
	err := p.h.Allow(p.last, req, p.b, now)
	got := "ok"
	if refused, ok := errors.AsType[*watermark.RefusedError](err); ok {
		got = string(refused.Reason)
		checkRefusal(t, err, p.last, req)
	}
	if errors.Is(err, watermark.ErrHeld) {
		got = "held"
	}
	if got != words[3] {
		t.Fatalf("%s: got %s (%v)", line, got, err)
	}
	if err == nil && words[1] == "ask" {
		p.h.Spend(p.last, req, now)
		p.last = req
	}
}

func readDuration(t *testing.T, s string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The refusal says when signing goes on, or what to set.
func TestHeightsSayTheCure(t *testing.T) {
	at := func(height int64) watermark.Mark {
		return watermark.Mark{Height: height, Step: watermark.StepPrevote}
	}
	now := time.Unix(1_800_000_000, 0)
	h := watermark.Heights{Max: 5000, Burst: 1000}
	h.Loaded(watermark.Saved{Mark: at(100), Time: now}, now)
	for _, c := range []struct {
		height int64
		want   string
	}{
		{5001, "max_height is 5000"},
		{1101, "1001 heights ahead, 1000 allowed now (height_burst)"},
		{200, "signing goes on at 201"},
	} {
		if err := h.Allow(at(100), at(c.height), watermark.Bounds{}, now); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("height %d: %v does not say %q", c.height, err, c.want)
		}
	}
}
