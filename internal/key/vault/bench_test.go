package vault

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"privyseal/internal/filestore"
	"privyseal/internal/privval"
	"privyseal/internal/signer"
	"privyseal/internal/watermark"
)

// BenchmarkRequest measures what a vote costs, from the decoded request to its answer,
// beside the parts that nobody can take out of it: the bare round trip to the same
// server for the same bytes, the store's write, and one verification. The parts take
// turns within one run; each is reported as its median.
func BenchmarkRequest(b *testing.B) {
	w := newWorld(b)
	k := w.key()
	bare := w.bareSign(b)
	vote := newVoter(b, k)
	store := newBenchStore(b)
	last, err := store.Load(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	message := bytes.Repeat([]byte{1}, 121)
	signature := mustSign(b, k, string(message))
	var whole, round, write, verify []time.Duration
	took := func(list *[]time.Duration, f func()) {
		start := time.Now()
		f()
		*list = append(*list, time.Since(start))
	}
	for height := int64(1); b.Loop(); height++ {
		took(&whole, func() { vote(height) })
		took(&write, func() {
			if last, err = store.Replace(b.Context(), last, watermark.Mark{Height: height, Step: watermark.StepPrevote, SignBytes: message}); err != nil {
				b.Fatal(err)
			}
		})
		took(&round, func() { bare(message) }) // after a write, as in a request
		took(&verify, func() { k.verify(message, signature) })
	}
	parts := median(round) + median(write) + median(verify)
	b.ReportMetric(float64(median(whole).Microseconds()), "µs/request")
	b.ReportMetric(float64(median(round).Microseconds()), "µs/round-trip")
	b.ReportMetric(float64(median(write).Microseconds()), "µs/write")
	b.ReportMetric(float64(median(verify).Microseconds()), "µs/verify")
	b.ReportMetric(float64(median(whole))/float64(parts), "request/parts")
}

func median(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}

// newVoter returns what answers a prevote of a height, as the program does.
func newVoter(b *testing.B, k *Key) func(height int64) {
	b.Helper()
	s, err := signer.New(b.Context(), signer.Config{ChainID: "bench", Key: k, PubKey: privval.PubKey{Type: "ed25519", Bytes: k.public.Bytes()},
		Verify: k.public.Verifier(), Store: newBenchStore(b), Nodes: 1})
	if err != nil {
		b.Fatal(err)
	}
	return func(height int64) {
		req := &privval.Request{Kind: privval.KindPrevote, ChainID: "bench", Height: height}
		resp, err := s.Handle(context.Background(), "node", req)
		if err != nil || resp.Refused != "" {
			b.Fatal(err, resp.Refused)
		}
	}
}

func newBenchStore(b *testing.B) watermark.Store {
	b.Helper()
	c := filestore.Config{Path: filepath.Join(b.TempDir(), "state"), ID: watermark.ID{ChainID: "bench"}}
	if err := filestore.Create(c, watermark.Saved{}); err != nil {
		b.Fatal(err)
	}
	store, err := filestore.Open(b.Context(), c)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { store.Close() })
	return store
}

// bareSign returns a call of the same kind with nothing of ours in it.
func (w *world) bareSign(b *testing.B) func(message []byte) {
	b.Helper()
	secured, err := (&Config{CAFile: w.CAFile}).tlsConfig()
	if err != nil {
		b.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: secured.RootCAs}}}
	b.Cleanup(client.CloseIdleConnections)
	token, err := readSecret(w.config.TokenFile, "")
	if err != nil {
		b.Fatal(err)
	}
	return func(message []byte) {
		text, err := json.Marshal(signRequest{Input: message, KeyVersion: 1})
		if err != nil {
			b.Fatal(err)
		}
		req, err := http.NewRequest("POST", w.URL+"/v1/transit/sign/"+w.name, bytes.NewReader(text))
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("X-Vault-Token", token)
		resp, err := client.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 {
			b.Fatal(err, resp.Status)
		}
	}
}
