package monitor

import (
	"net"
	"net/http"
	"sync"
)

// Listens reports how a listener does: err is why it does not work, nil if it does. A
// failure is counted.
func (m *Monitor) Listens(name, addr string, err error) {
	l := Listener{Name: name, Addr: addr}
	if err != nil {
		l.Problem = err.Error()
		m.ListenerFailed(name)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.listeners {
		if m.listeners[i].Name == name {
			m.listeners[i] = l
			return
		}
	}
	m.listeners = append(m.listeners, l)
}

// ListenerFailed counts a failure of a listener, one of those above.
func (m *Monitor) ListenerFailed(listener string) {
	m.metrics.listenerErrors.WithLabelValues(listener).Inc()
}

// maxConns is how many connections a listener beside the nodes has open at once.
// Descriptors belong to the nodes.
const maxConns = 64

// crowd bounds the connections of one server. When there are too many the one that
// has been idle longest is closed: who holds connections open keeps nobody out.
type crowd struct {
	mu   sync.Mutex
	idle []net.Conn // since the longest time first; new ones too
	open map[net.Conn]bool
}

// limit bounds the connections of s.
func limit(s *http.Server) {
	c := &crowd{open: map[net.Conn]bool{}}
	s.ConnState = c.changed
}

func (c *crowd) changed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(conn)
	switch state {
	case http.StateClosed, http.StateHijacked:
		delete(c.open, conn)
		return
	case http.StateNew, http.StateIdle:
		c.idle = append(c.idle, conn)
	}
	c.open[conn] = true
	// The new one goes first only if all others are being served.
	for len(c.open) > maxConns && len(c.idle) > 0 {
		oldest := c.idle[0]
		c.idle = c.idle[1:]
		delete(c.open, oldest)
		oldest.Close()
	}
}

func (c *crowd) forget(conn net.Conn) {
	for i, other := range c.idle {
		if other == conn {
			c.idle = append(c.idle[:i], c.idle[i+1:]...)
			return
		}
	}
}
