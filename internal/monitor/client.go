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
	"syscall"
	"time"
)

// ErrNotRunning says that no signer answers in a home folder.
var ErrNotRunning = errors.New("no signer is running")

// requestTimeout bounds everything that a client of ours can take.
const requestTimeout = 5 * time.Second

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
