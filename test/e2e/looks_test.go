package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"privyseal/test/e2e/rig"
)

// looks is a proxy before the RPC of a node which notes what a signer's witness is shown.
// A look begins with the status and goes on with commits.
type looks struct {
	*httptest.Server
	rpc string // host:port of the node

	mu      sync.Mutex
	answers []answer
}

// answer is one answer of the node.
type answer struct {
	conn   string // the address that asked
	whole  bool   // the node gave it, and it was written
	tip    int64  // of a status, else 0
	commit *rig.Commit
}

func newLooks(t *testing.T, rpc string) *looks {
	l := &looks{rpc: rpc}
	l.Server = httptest.NewServer(l)
	t.Cleanup(l.Close)
	return l
}

// ServeHTTP asks the node. Where it is not there, nobody answers.
func (l *looks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := answer{conn: r.RemoteAddr}
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.answers = append(l.answers, a)
	}()
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, "http://"+l.rpc+r.URL.RequestURI(), nil)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	var said struct {
		Result struct {
			Sync struct {
				Height int64 `json:"latest_block_height,string"`
			} `json:"sync_info"`
			Signed struct {
				Header struct {
					ChainID string `json:"chain_id"`
				} `json:"header"`
				Commit *rig.Commit `json:"commit"`
			} `json:"signed_header"`
		} `json:"result"`
	}
	err = json.NewDecoder(bytes.NewReader(body)).Decode(&said)
	a.tip, a.commit = said.Result.Sync.Height, said.Result.Signed.Commit
	if a.commit != nil {
		a.commit.ChainID = said.Result.Signed.Header.ChainID
	}
	w.WriteHeader(resp.StatusCode)
	_, failed := w.Write(body)
	a.whole = err == nil && failed == nil && resp.StatusCode == http.StatusOK
}

// forget forgets what was shown until now.
func (l *looks) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers = nil
}

// shown returns the height of the first commit that counts of those that the witness was
// shown, 0 if there is none, and the highest tip of a look that came to its end before.
// What somebody did not wait for was not shown: he closes the connection, and asks again
// over another one.
func (l *looks) shown(counts func(*rig.Commit) bool) (first, passed int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var tip int64 // of the look that goes on; 0: there is none, or it was cut off
	for i, a := range l.answers {
		if a.tip > 0 {
			passed, tip = max(passed, tip), a.tip
		}
		if !a.whole || i+1 < len(l.answers) && l.answers[i+1].conn != a.conn {
			tip = 0
			continue
		}
		if a.commit != nil && counts(a.commit) {
			return a.commit.Height, passed
		}
	}
	return 0, passed
}
