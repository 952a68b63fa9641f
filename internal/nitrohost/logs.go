package nitrohost

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"privyseal/internal/hostlink"
	"privyseal/internal/vsock"
)

// logs hands on what the enclave logs. If who gets it is slow, the enclave
// drops lines; nothing else waits.
func (h *Host) logs(ctx context.Context, conn vsock.Conn) {
	defer h.lookNow()
	h.ended("cannot read the enclave's log", hostlink.ReadLines(conn, func(l hostlink.Line) { h.line(ctx, l) }))
}

func (h *Host) line(ctx context.Context, l hostlink.Line) {
	switch {
	case l.Log != nil:
		h.record(ctx, l.Log)
	case l.Event != nil:
		// Names become labels of metrics: only those of the config.
		if c := h.chains[l.Event.ChainID]; c != nil && c.nodes[l.Event.Node] != nil {
			c.Observer.Event(*l.Event)
		}
	case l.Node != nil:
		if c := h.chains[l.Node.ChainID]; c != nil && c.nodes[l.Node.Node] != nil {
			var err error
			if l.Node.Error != "" {
				err = errors.New(l.Node.Error)
			}
			c.Observer.Node(l.Node.Node, l.Node.State, err)
		}
	}
}

// maxAttrs is how many attributes of a record are taken over.
const maxAttrs = 32

func (h *Host) record(ctx context.Context, r *hostlink.LogRecord) {
	level := min(max(r.Level, slog.LevelDebug), slog.LevelError)
	if !h.Log.Enabled(ctx, level) {
		return
	}
	ok, lost := h.flood.allow(time.Now())
	if lost > 0 {
		h.Log.Warn("the enclave logs too much, lines were dropped", "lines", lost)
	}
	if !ok {
		return
	}
	attrs := make([]slog.Attr, 0, len(r.Attrs))
	for _, a := range r.Attrs[:min(len(r.Attrs), maxAttrs)] {
		attrs = append(attrs, slog.String(a[0], a[1]))
	}
	h.Log.LogAttrs(ctx, level, r.Message, attrs...)
}

// How many log records of an enclave are taken over: at once, and a second.
const (
	floodBurst = 1000
	floodRate  = 100
)

// limiter lets a flood through by drops.
type limiter struct {
	mu     sync.Mutex
	tokens float64
	at     time.Time
	lost   int
}

func newLimiter() *limiter { return &limiter{tokens: floodBurst} }

// allow reports whether one more record may pass, and, with the first that may
// after some that might not, how many those were.
func (l *limiter) allow(now time.Time) (ok bool, lost int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.at.IsZero() {
		l.tokens = min(l.tokens+now.Sub(l.at).Seconds()*floodRate, floodBurst)
	}
	l.at = now
	if l.tokens < 1 {
		l.lost++
		return false, 0
	}
	l.tokens--
	lost, l.lost = l.lost, 0
	return true, lost
}

// repeatAfter is how soon the same warning is said again.
const repeatAfter = time.Minute

// deduper says a warning once that would come many times a second.
type deduper struct {
	mu   sync.Mutex
	last map[string]said
}

type said struct {
	text string
	at   time.Time
}

func newDeduper() *deduper { return &deduper{last: map[string]said{}} }

// warn logs the message, unless its last error was the same and not long ago.
func (d *deduper) warn(log *slog.Logger, message string, err error) {
	d.mu.Lock()
	last, now := d.last[message], said{err.Error(), time.Now()}
	repeated := last.text == now.text && now.at.Sub(last.at) < repeatAfter
	if !repeated {
		d.last[message] = now
	}
	d.mu.Unlock()
	if !repeated {
		log.Warn(message, "error", err)
	}
}
