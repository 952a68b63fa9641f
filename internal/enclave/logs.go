package enclave

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"privyseal/internal/hostlink"
	"privyseal/internal/oplog"
)

// hostWriter writes lines to the host's LogPort and dials it again for as long
// as it takes. It blocks; a queue stands in front of it.
type hostWriter struct {
	ctx  context.Context
	dial func(context.Context, uint32) (net.Conn, error)
	conn net.Conn
}

func (w *hostWriter) write(l hostlink.Line) bool {
	line, err := l.Encode()
	if err != nil {
		return false
	}
	for w.ctx.Err() == nil {
		if w.conn == nil {
			conn, err := w.dial(w.ctx, hostlink.LogPort)
			if err != nil {
				select {
				case <-w.ctx.Done():
				case <-time.After(time.Second):
				}
				continue
			}
			w.conn = conn
		}
		if _, err := w.conn.Write(line); err == nil {
			return true
		}
		// Half a line may be out; the host drops a connection with one.
		w.conn.Close()
		w.conn = nil
	}
	return false
}

func lostLines(n int64) hostlink.Line {
	return hostlink.Line{Log: &hostlink.LogRecord{
		Level: slog.LevelWarn, Message: "log lines were dropped, the host did not read them in time",
		Attrs: [][2]string{{"lines", fmt.Sprint(n)}},
	}}
}

// lineHandler makes lines of log records.
type lineHandler struct {
	lines *oplog.Queue[hostlink.Line]
	level *slog.LevelVar
	attrs []slog.Attr
}

func (h *lineHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	rec := &hostlink.LogRecord{Level: r.Level, Message: r.Message}
	add := func(a slog.Attr) bool {
		rec.Attrs = append(rec.Attrs, [2]string{a.Key, clip(a.Value.Resolve().String())})
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	h.lines.Put(hostlink.Line{Log: rec})
	return nil
}

func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &lineHandler{lines: h.lines, level: h.level, attrs: append(append([]slog.Attr(nil), h.attrs...), attrs...)}
}

// WithGroup keeps names flat: nothing here uses groups.
func (h *lineHandler) WithGroup(string) slog.Handler { return h }
