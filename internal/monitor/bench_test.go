package monitor

import (
	"log/slog"
	"testing"

	"privyseal/internal/session"
	"privyseal/internal/watermark"
)

// BenchmarkObserve is what a signature costs in here: the node waits for it.
func BenchmarkObserve(b *testing.B) {
	c := New(slog.New(slog.DiscardHandler), "v1").AddChain("chain-1", "chain-1")
	c.AddNode("a", "unix:///a")(session.Serving, nil)
	c.Ready(testKey, func() watermark.Saved { return watermark.Saved{} })
	e := signedEvent(7)
	b.ReportAllocs()
	for b.Loop() {
		c.Observe(e)
	}
}
