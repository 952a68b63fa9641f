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
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// SocketName is the name of the status socket in the home folder.
const SocketName = "privyseal.sock"

// ErrNotRunning says that no signer answers in a home folder.
var ErrNotRunning = errors.New("no signer is running")

// requestTimeout bounds everything that a client of ours can take.
const requestTimeout = 5 * time.Second

// Handler serves /metrics, /healthz (the process lives) and /readyz (key and
// state of every chain are loaded, and every node is connected).
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

// ReadSnapshot asks the signer that runs in the home folder. It returns
// [ErrNotRunning] if there is none.
func ReadSnapshot(ctx context.Context, home string) (Snapshot, error) {
	_, body, err := ask(ctx, home, http.MethodGet, "/status", nil)
	if err != nil {
		return Snapshot{}, err
	}
	var s Snapshot
	if err := json.Unmarshal(body, &s); err != nil {
		return Snapshot{}, fmt.Errorf("cannot read the signer's status: %w", err)
	}
	return s, nil
}

// maxAnswer bounds in bytes what a signer answers: the status of some thousand
// chains.
const maxAnswer = 1 << 22

// ask sends one request to the signer that runs in the home folder.
func ask(ctx context.Context, home, method, target string, body io.Reader) (status int, answer []byte, err error) {
	path, done, err := socketPath(home)
	if err != nil {
		return 0, nil, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var d net.Dialer
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := d.DialContext(ctx, "unix", path)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
				return nil, fmt.Errorf("%w in %s", ErrNotRunning, home)
			}
			return conn, err
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://privyseal"+target, body)
	if err != nil {
		return 0, nil, err
	}
	resp, err := client.Do(req)
	if outer, ok := errors.AsType[*url.Error](err); ok {
		err = outer.Err // without the address, which is made up
	}
	switch {
	case errors.Is(err, ErrNotRunning):
		return 0, nil, err
	case err != nil:
		return 0, nil, fmt.Errorf("cannot ask the signer: %w", err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, nil, fmt.Errorf("cannot read the signer's answer: %w", err)
	}
	return resp.StatusCode, answer, nil
}

// listenPrivate listens on a socket that only its owner may use. The socket
// is made with that mode, by the umask of the process, so there is no moment
// at which another user could connect.
func listenPrivate(path string) (*net.UnixListener, error) {
	old := syscall.Umask(0o177)
	defer syscall.Umask(old)
	return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
}
