package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler serves /metrics, /healthz (the process lives) and /readyz (key and state of every
// chain are loaded, not all devices that sign for one have failed, and every node is
// connected).
func (m *Monitor) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		s := m.Snapshot()
		if !s.Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		for _, c := range s.Chains {
			fmt.Fprintf(w, "%s ready=%t %s\n", c.Name, c.Ready, c.Problem)
			if !c.SomeDevice() {
				fmt.Fprintf(w, "%s no device signs\n", c.Name)
			}
			for _, n := range c.Nodes {
				fmt.Fprintf(w, "%s %s %s\n", c.Name, n.Name, n.State)
			}
		}
	})
	return mux
}

// ServeHTTP serves [Monitor.Handler] on the listener until ctx ends.
func (m *Monitor) ServeHTTP(ctx context.Context, l net.Listener) error {
	return serve(ctx, l, m.Handler())
}

// ListenStatus opens the status socket in the home folder, mode 0600, in place
// of one that a killed signer left behind.
func ListenStatus(home string) (net.Listener, error) {
	path, done, err := socketPath(home)
	if err != nil {
		return nil, err
	}
	defer done()
	if conn, err := net.DialTimeout("unix", path, requestTimeout); err == nil {
		conn.Close()
		return nil, fmt.Errorf("cannot listen on %s: another signer answers there", filepath.Join(home, SocketName))
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := listenPrivate(path)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", filepath.Join(home, SocketName), err)
	}
	// The name in l may lead through a file descriptor that is closed now.
	l.SetUnlinkOnClose(false)
	return &statusListener{UnixListener: l, path: filepath.Join(home, SocketName)}, nil
}

// statusListener removes its socket by a name that stays valid.
type statusListener struct {
	*net.UnixListener
	path string
}

func (l *statusListener) Close() error {
	return errors.Join(l.UnixListener.Close(), os.Remove(l.path))
}

// ServeStatus answers status requests on the listener until ctx ends.
func (m *Monitor) ServeStatus(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(m.Snapshot())
	})
	mux.HandleFunc("POST /attest", m.serveAttest)
	return serve(ctx, l, mux)
}

func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	s := http.Server{
		Handler:     h,
		ReadTimeout: requestTimeout, WriteTimeout: requestTimeout, IdleTimeout: time.Minute,
		MaxHeaderBytes: 1 << 14,
	}
	limit(&s)
	defer context.AfterFunc(ctx, func() { s.Close() })()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("cannot serve on %s: %w", l.Addr(), err)
	}
	return nil
}

// listenPrivate listens on a socket that only its owner may use. The socket
// is made with that mode, by the umask of the process, so there is no moment
// at which another user could connect.
func listenPrivate(path string) (*net.UnixListener, error) {
	old := syscall.Umask(0o177)
	defer syscall.Umask(old)
	return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
}
