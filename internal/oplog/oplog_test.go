package oplog

import (
	"bytes"
	"errors"
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
	case <-time.After(time.Minute):
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
		t.Errorf("%d of %d lines kept, and the loss reported: %t", kept, lines, strings.Contains(text, "dropped"))
	}
}

// gone is a reader that goes away and comes back.
type gone struct {
	bytes.Buffer
	away bool
}

func (g *gone) Write(line []byte) (int, error) {
	if g.away {
		return 0, errors.New("broken pipe")
	}
	return g.Buffer.Write(line)
}

// Lines that nobody takes are counted, and said to the next reader.
func TestLostLinesAreCounted(t *testing.T) {
	w := &gone{away: true}
	q := NewQueue(func(line string) bool {
		w.away = line != "back"
		_, err := w.Write([]byte(line))
		return err == nil
	}, func(n int64) string { w.WriteString(strings.Repeat("!", int(n))); return "" })
	for range 3 {
		q.Put("x")
	}
	q.Put("back")
	q.Close()
	if got := w.String(); got != "back!!!" || q.lostAll.Load() != 3 {
		t.Errorf("the next reader sees %q, and %d were counted", got, q.lostAll.Load())
	}
}

// The level can change while others log.
func TestSetLevel(t *testing.T) {
	for _, format := range []string{"text", "json", "journald"} {
		var out bytes.Buffer
		l := New(&out, slog.LevelInfo, format)
		with := l.With("a", 1)
		with.Debug("first")
		l.SetLevel(slog.LevelDebug)
		with.Debug("second")
		l.SetLevel(slog.LevelError)
		with.Warn("third")
		l.Close()
		if got := out.String(); strings.Contains(got, "first") || !strings.Contains(got, "second") || strings.Contains(got, "third") {
			t.Errorf("%s: %s", format, got)
		}
	}
}
