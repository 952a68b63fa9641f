package witness

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"privyseal/internal/watermark"
)

// answering is the RPC of a node before its first block, without a network.
type answering func() error

func (a answering) RoundTrip(*http.Request) (*http.Response, error) {
	if err := a(); err != nil {
		return nil, err
	}
	const status = `{"result":{"node_info":{"network":"` + chainID + `"},"sync_info":{"latest_block_height":"0","catching_up":false}}}`
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(status))}, nil
}

// A node is looked at each second, so that a second signer is found soon; more often while
// requests are held back, and ever less often while it fails.
func TestPauses(t *testing.T) {
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		fails string // + for a look that is answered, - for one that is not
		want  []time.Duration
	}{
		"it answers":        {"+++", []time.Duration{1000 * ms, 1000 * ms}},
		"from the third on": {"--++", []time.Duration{100 * ms, 100 * ms, 1000 * ms}},
		"it goes":           {"+------++", []time.Duration{1000 * ms, 2000 * ms, 4000 * ms, 8000 * ms, 10000 * ms, 10000 * ms, 10000 * ms, 1000 * ms}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, end := context.WithCancel(t.Context())
				w, err := New(Config{ChainID: chainID, Addrs: []string{"http://w.test"}, Verify: ourVerify, Log: slog.New(slog.DiscardHandler)})
				if err != nil {
					t.Fatal(err)
				}
				var got []time.Duration
				looks, last := 0, time.Now()
				w.sources[0].client.http.Transport = answering(func() error {
					if looks > 0 {
						got = append(got, time.Since(last))
					}
					looks, last = looks+1, time.Now()
					if looks == len(c.fails) {
						end()
					}
					if c.fails[looks-1] == '-' {
						return errors.New("connection refused")
					}
					return nil
				})
				w.Begin(watermark.Mark{}, nil)
				w.Run(ctx)
				if !slices.Equal(got, c.want) {
					t.Errorf("looked at after %v, not %v", got, c.want)
				}
			})
		})
	}
}
