package oplog

import (
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"
)

// A reader that does not read costs lines, never time.
func TestLogNeverBlocks(t *testing.T) {
	r, w := net.Pipe() // without a buffer
	logger := New(w, slog.LevelDebug, "json")
	const lines = 3 * queuedLines
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range lines {
			logger.Info("signed", "n", i)
		}
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("logging waits for its reader")
	}
	read := make(chan string)
	go func() {
		text, _ := io.ReadAll(r)
		read <- string(text)
	}()
	logger.Close()
	w.Close()
	text := <-read
	kept := strings.Count(text, `"msg":"signed"`)
	if kept < queuedLines || kept >= lines || !strings.Contains(text, "log lines were dropped") {
		t.Errorf("%d of %d lines kept, and the loss told: %t", kept, lines, strings.Contains(text, "dropped"))
	}
}
