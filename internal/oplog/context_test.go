package oplog

import (
	"log/slog"
	"testing"
)

func TestWithin(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	if Of(Within(t.Context(), log)) != log || Of(t.Context()) != slog.Default() {
		t.Error("another log")
	}
}
