package storetest

import (
	"context"
	"errors"
	"testing"

	"privyseal/internal/watermark"
)

func TestFake(t *testing.T) {
	Run(t, func(*testing.T) watermark.Store { return NewFake(watermark.Mark{}) })
	RunShared(t, func(*testing.T) (a, b watermark.Store) {
		f := NewFake(watermark.Mark{})
		return f, f.Another()
	})
}

// What a failed Replace from 1 to 2 leaves behind, and what the next one meets.
func TestFakeFails(t *testing.T) {
	tests := []struct {
		name            string
		outcome         Outcome
		loaded, present int64 // height that the next Load returns, and that is there after it
	}{
		{"before", Before, 1, 1},
		{"after", After, 2, 2},
		{"late", Late, 1, 2},
		{"silent before", SilentBefore, 1, 1},
		{"silent after", SilentAfter, 2, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := NewFake(at(1))
			old := load(t, f)
			f.Script(tt.outcome)
			ctx, cancel := context.WithCancel(t.Context())
			answer := make(chan error, 1)
			go func() { _, err := f.Replace(ctx, old, at(2)); answer <- err }()
			if tt.outcome == SilentBefore || tt.outcome == SilentAfter {
				cancel()
			}
			if err := <-answer; err == nil {
				t.Fatal("Replace succeeded")
			}
			cancel()
			if _, err := f.Replace(t.Context(), old, at(2)); err == nil || errors.Is(err, watermark.ErrMoved) {
				t.Fatalf("Replace without a Load in between: %v", err)
			}
			got := load(t, f)
			if got.Mark.Height != tt.loaded || f.Saved().Mark.Height != tt.present {
				t.Fatalf("loaded height %d, present is %d; want %d and %d", got.Mark.Height, f.Saved().Mark.Height, tt.loaded, tt.present)
			}
			_, err := f.Replace(t.Context(), got, at(3))
			if moved := tt.loaded != tt.present; errors.Is(err, watermark.ErrMoved) != moved || !moved && err != nil {
				t.Fatalf("Replace after the Load: %v", err)
			}
		})
	}
}
