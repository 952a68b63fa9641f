// Package oplog writes logs without ever making the one who logs wait: lines
// that nobody reads in time are counted and dropped. It knows nothing of what is
// logged, and keeps no secret out of it; that is the part of who logs.
package oplog

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"
)

// Logger is a log whose reader may be slow, or gone.
type Logger struct {
	*slog.Logger
	lines *Queue
}

// New returns a logger that writes to w. Level is debug, info, warn or
// error, format text, json, or journald: text behind the priority that systemd
// strips from each line (sd-daemon(3)), without time, which the journal has.
func New(w io.Writer, level slog.Level, format string) *Logger {
	lines := NewQueue(w, func(n int64) []byte {
		return fmt.Appendf(nil, "level=WARN msg=\"log lines were dropped, nobody read them in time\" lines=%d\n", n)
	})
	opts := &slog.HandlerOptions{Level: level}
	var h slog.Handler
	switch format {
	case "json":
		h = slog.NewJSONHandler(lines, opts)
	case "journald":
		h = newJournalHandler(lines, level)
	default:
		h = slog.NewTextHandler(lines, opts)
	}
	return &Logger{Logger: slog.New(h), lines: lines}
}

// Close writes what is still in the queue, for at most a second.
func (l *Logger) Close() { l.lines.Close() }

// queuedLines is how many lines wait for a slow reader before lines are
// dropped: a few hundred kilobytes.
const queuedLines = 1024

// Queue hands each Write, a line, to a goroutine that writes it on.
type Queue struct {
	queue   chan []byte
	lost    func(n int64) []byte
	dropped atomic.Int64
	closing atomic.Bool
	done    chan struct{}
}

// NewQueue returns a queue of a thousand lines in front of w. lost makes the
// line that tells how many were dropped.
func NewQueue(w io.Writer, lost func(n int64) []byte) *Queue {
	l := &Queue{queue: make(chan []byte, queuedLines), lost: lost, done: make(chan struct{})}
	go l.copyTo(w)
	return l
}

// Write queues a copy of line, or counts it as dropped.
func (l *Queue) Write(line []byte) (int, error) {
	if l.closing.Load() {
		return len(line), nil
	}
	select {
	case l.queue <- append([]byte(nil), line...):
	default:
		l.dropped.Add(1)
	}
	return len(line), nil
}

// copyTo writes lines until it meets nil, which close sends.
func (l *Queue) copyTo(w io.Writer) {
	defer close(l.done)
	for line := range l.queue {
		if line == nil {
			return
		}
		w.Write(line)
		if n := l.dropped.Swap(0); n > 0 {
			w.Write(l.lost(n))
		}
	}
}

// Close writes what is still in the queue, for at most a second.
func (l *Queue) Close() {
	if l.closing.Swap(true) {
		return
	}
	timeout := time.After(time.Second)
	select {
	case l.queue <- nil:
	case <-timeout:
		return
	}
	select {
	case <-l.done:
	case <-timeout:
	}
}

// journalHandler is a text handler for each priority.
type journalHandler struct {
	level  slog.Level
	byPrio map[string]slog.Handler
}

func newJournalHandler(w io.Writer, level slog.Level) journalHandler {
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
			return slog.Attr{}
		}
		return a
	}}
	h := journalHandler{level: level, byPrio: map[string]slog.Handler{}}
	for _, prio := range []string{"<3>", "<4>", "<6>", "<7>"} {
		h.byPrio[prio] = slog.NewTextHandler(prefixWriter{w, prio}, opts)
	}
	return h
}

func priority(level slog.Level) string {
	switch {
	case level >= slog.LevelError:
		return "<3>"
	case level >= slog.LevelWarn:
		return "<4>"
	case level >= slog.LevelInfo:
		return "<6>"
	}
	return "<7>"
}

func (h journalHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

func (h journalHandler) Handle(ctx context.Context, r slog.Record) error {
	return h.byPrio[priority(r.Level)].Handle(ctx, r)
}

func (h journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.each(func(in slog.Handler) slog.Handler { return in.WithAttrs(attrs) })
}

func (h journalHandler) WithGroup(name string) slog.Handler {
	return h.each(func(in slog.Handler) slog.Handler { return in.WithGroup(name) })
}

func (h journalHandler) each(f func(slog.Handler) slog.Handler) journalHandler {
	out := journalHandler{level: h.level, byPrio: map[string]slog.Handler{}}
	for prio, in := range h.byPrio {
		out.byPrio[prio] = f(in)
	}
	return out
}

type prefixWriter struct {
	w      io.Writer
	prefix string
}

func (p prefixWriter) Write(line []byte) (int, error) {
	if _, err := p.w.Write(append([]byte(p.prefix), line...)); err != nil {
		return 0, err
	}
	return len(line), nil
}
