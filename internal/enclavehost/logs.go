package enclavehost

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"syscall"
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
	ok, lost := h.flood.Allow(time.Now())
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

// ended logs why a connection ended, unless it just did. An empty message is for
// what is not worth a line.
func (h *Host) ended(message string, err error) {
	if err != nil && message != "" && !isEnd(err) {
		h.once.warn(h.Log, message, err)
	}
}

// isEnd reports whether err says that the other side is gone, or that we closed.
func isEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
