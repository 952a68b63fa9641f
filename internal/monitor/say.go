package monitor

import (
	"context"
	"log/slog"
)

// say writes a line about a node, or counts it if too many said the same: whatever
// a node does, it does not fill the disk. Message, node and reason are what the same
// is; reason may be empty.
func (c *Chain) say(level slog.Level, msg, node, reason string, attrs ...any) {
	if c.admit(level, msg, node, reason) {
		c.log.Log(context.Background(), level, msg, append([]any{"node", node}, attrs...)...)
	}
}

// admit reports whether a line is to be written. If not, it is in the number of a
// later one.
func (c *Chain) admit(level slog.Level, msg, node, reason string) bool {
	return c.repeats.Admit(c.name+"\x00"+node+"\x00"+reason+"\x00"+msg, func(n int64) {
		attrs := []any{"node", node, "times", n}
		if reason != "" {
			attrs = append(attrs, "reason", reason)
		}
		c.log.Log(context.Background(), level, msg+", again", attrs...)
	})
}

// Flush writes what was counted in place of lines, as the last thing of a process.
func (m *Monitor) Flush() { m.repeats.Flush() }
