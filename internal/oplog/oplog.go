// Package oplog writes logs without ever making the one who logs wait: lines
// that nobody reads in time, or at all, are counted and dropped, and so are lines
// that say the same again and again ([Repeats]). It knows nothing of what is logged, and
// keeps no secret out of it; that is the part of who logs.
package oplog

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Logger is a log whose reader may be slow, or gone.
type Logger struct {
	*slog.Logger
	level *slog.LevelVar
	lines *Queue[[]byte]
}

// New returns a logger that writes to w. Level is debug, info, warn or
// error, format text, json, or journald: text after the priority that systemd
// strips from each line (sd-daemon(3)), without time, which the journal has.
func New(w io.Writer, level slog.Level, format string) *Logger {
	write := func(line []byte) bool { _, err := w.Write(line); return err == nil }
	lines := NewQueue(write, func(n int64) []byte {
		return fmt.Appendf(nil, "level=WARN msg=\"log lines were dropped, nobody read them in time\" lines=%d\n", n)
	})
	lowest := &slog.LevelVar{}
	lowest.Set(level)
	opts := &slog.HandlerOptions{Level: lowest}
	var h slog.Handler
	switch format {
	case "json":
		h = slog.NewJSONHandler(queueWriter{lines}, opts)
	case "journald":
		h = newJournalHandler(queueWriter{lines}, lowest)
	default:
		h = slog.NewTextHandler(queueWriter{lines}, opts)
	}
	return &Logger{Logger: slog.New(h), level: lowest, lines: lines}
}

// logKey is the key of a log in a context.
type logKey struct{}

// Within returns a context with a log, for what is opened with it and has something to say
// later on.
func Within(ctx context.Context, log *slog.Logger) context.Context {
	return context.WithValue(ctx, logKey{}, log)
}

// Of returns the log of a context, the process's own if it has none.
func Of(ctx context.Context) *slog.Logger {
	if log, ok := ctx.Value(logKey{}).(*slog.Logger); ok {
		return log
	}
	return slog.Default()
}

// SetLevel changes the level from now on.
func (l *Logger) SetLevel(level slog.Level) { l.level.Set(level) }

// Lost returns how many lines were dropped since the start.
func (l *Logger) Lost() int64 { return l.lines.lostAll.Load() }

// Close writes what is still in the queue, for at most a second.
func (l *Logger) Close() { l.lines.Close() }

// queueWriter queues a copy of each line that a handler of slog writes.
type queueWriter struct{ q *Queue[[]byte] }

func (w queueWriter) Write(line []byte) (int, error) {
	w.q.Put(bytes.Clone(line))
	return len(line), nil
}

// queuedLines is how many lines wait for a slow reader before lines are
// dropped: a few hundred kilobytes.
const queuedLines = 1024

// Queue hands what it is given to a goroutine that writes it on: who gives waits
// neither for the writing nor for the encoding before it.
type Queue[T any] struct {
	queue   chan T
	write   func(T) bool
	lost    func(n int64) T
	dropped atomic.Int64 // and not said yet
	lostAll atomic.Int64
	closing chan struct{}
	close   sync.Once
	done    chan struct{}
}

// NewQueue returns a queue of a thousand lines in front of write, which may
// block, and reports whether the line is out. lost makes the line that says how
// many were dropped.
func NewQueue[T any](write func(T) bool, lost func(n int64) T) *Queue[T] {
	q := &Queue[T]{
		queue: make(chan T, queuedLines), write: write, lost: lost,
		closing: make(chan struct{}), done: make(chan struct{}),
	}
	go q.run()
	return q
}

// Put queues a line, or counts it as dropped. It is the queue's from then on.
func (q *Queue[T]) Put(line T) {
	select {
	case <-q.closing:
		return
	default:
	}
	select {
	case q.queue <- line:
	default:
		q.drop()
	}
}

func (q *Queue[T]) drop() {
	q.dropped.Add(1)
	q.lostAll.Add(1)
}

// run writes lines until the queue is closed, and then those that are in it.
func (q *Queue[T]) run() {
	defer close(q.done)
	for {
		select {
		case line := <-q.queue:
			q.pass(line)
			continue
		case <-q.closing:
		}
		for {
			select {
			case line := <-q.queue:
				q.pass(line)
			default:
				return
			}
		}
	}
}

func (q *Queue[T]) pass(line T) {
	if !q.write(line) {
		q.drop()
		return // the loss is said when somebody reads again
	}
	if n := q.dropped.Swap(0); n > 0 && !q.write(q.lost(n)) {
		q.dropped.Add(n)
	}
}

// Close writes what is still in the queue, for at most a second.
func (q *Queue[T]) Close() {
	q.close.Do(func() { close(q.closing) })
	select {
	case <-q.done:
	case <-time.After(time.Second):
	}
}

// journalHandler is a text handler for each priority.
type journalHandler struct {
	level  slog.Leveler
	byPrio map[string]slog.Handler
}

func newJournalHandler(w io.Writer, level slog.Leveler) journalHandler {
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

func (h journalHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

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
