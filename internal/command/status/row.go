package status

import (
	"fmt"
	"strings"
	"time"

	"privyseal/internal/command/screen"
)

// pageRow is what there is to say about one thing: a label, and a text that begins
// with a word. The tone is that of the word, or of the label where there is none.
type pageRow struct {
	label, word, text string
	tone              screen.Tone
}

// putRows writes rows with their texts below each other.
func putRows(s screen.Screen, b *strings.Builder, rows []pageRow) {
	width := 0
	for _, r := range rows {
		width = max(width, len(r.label))
	}
	for _, r := range rows {
		label, painted := fmt.Sprintf("  %-*s  ", width, r.label), s.Paint(r.tone, r.word)
		if r.word == "" {
			label = "  " + s.Paint(r.tone, r.label) + strings.TrimPrefix(label, "  "+r.label)
		}
		lines := s.Wrap(width+4, strings.TrimSpace(r.word+" "+r.text))
		lines[0] = painted + strings.TrimPrefix(lines[0], r.word)
		s.Put(b, label, width+4, lines)
	}
}

// seconds is a time as a person would say it.
func seconds(n float64) time.Duration {
	return time.Duration(n * float64(time.Second)).Round(100 * time.Microsecond)
}

// Age returns how long ago then was, as coarse as a person would say it.
func Age(then, now time.Time) string {
	d := now.Sub(then)
	switch {
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
