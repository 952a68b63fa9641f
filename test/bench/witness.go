package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	witnessVotes    = 5_000
	witnessStartMax = 150 * time.Millisecond
)

// watched measures what a witness costs: the same votes with and without one, by turns,
// and a start that waits for its word.
func (b *bench) watched(ctx context.Context) ([]row, error) {
	without, err := b.healthy(ctx, "unwatched")
	if err != nil {
		return nil, err
	}
	defer without.close()
	w, err := startWitness("watched")
	if err != nil {
		return nil, err
	}
	defer w.server.Close()
	// The node is far faster than a chain.
	with, err := b.healthyAt(ctx, "watched", map[string]string{
		`(?m)^(# )?height_per_second = .*$`: `height_per_second = 1000000`,
	}, "--witness", w.addr)
	if err != nil {
		return nil, err
	}
	defer with.close()

	var tookWith, tookWithout samples
	for range witnessVotes / batchSize {
		for range batchSize {
			if err := without.n.timedVote(&tookWithout); err != nil {
				return nil, without.p.failed(err)
			}
		}
		for range batchSize {
			if err := with.n.timedVote(&tookWith); err != nil {
				return nil, with.p.failed(err)
			}
			w.tip.Store(with.n.height - 1)
		}
	}
	begun, err := b.watchedStart(ctx)
	if err != nil {
		return nil, err
	}
	return []row{
		atMost(1.02, "request to reply with a witness, p50", tookWith, 50, "without", tookWithout),
		atMost(1.02, "the same, p99", tookWith, 99, "without", tookWithout),
		{
			what: "start to first signature with a witness, p50", measured: fmt.Sprintf("%.1f ms", ms(begun.p(50))),
			reference: "-", ratio: "-", bound: fmt.Sprintf("≤ %d ms", witnessStartMax.Milliseconds()), ok: begun.p(50) <= witnessStartMax,
		},
	}, nil
}

func (b *bench) watchedStart(ctx context.Context) (took samples, err error) {
	w, err := startWitness("watched-start")
	if err != nil {
		return nil, err
	}
	defer w.server.Close()
	h := &home{b: b, dir: b.path("watched-start")}
	if err := h.init(ctx, "watched-start", "--witness", w.addr); err != nil {
		return nil, err
	}
	if err := h.moveMetrics(); err != nil {
		return nil, err
	}
	n, err := b.newNode("watched-start")
	if err != nil {
		return nil, err
	}
	defer n.close()
	for range starts {
		if err := n.startOnce(ctx, h, &took); err != nil {
			return nil, err
		}
		w.tip.Store(n.height - 1)
	}
	return took, nil
}

// witness answers as the RPC of a node does whose chain has the tip, and in whose
// commits another validator alone has signed.
type witness struct {
	chain  string
	tip    atomic.Int64
	addr   string
	server http.Server
}

func startWitness(chain string) (*witness, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &witness{chain: chain, addr: "http://" + l.Addr().String()}
	mux := http.NewServeMux()
	mux.HandleFunc("/status", func(out http.ResponseWriter, _ *http.Request) {
		answer(out, map[string]any{
			"node_info": map[string]any{"network": chain, "version": "0.38.0"},
			"sync_info": map[string]any{"latest_block_height": strconv.FormatInt(w.tip.Load(), 10), "catching_up": false},
		})
	})
	mux.HandleFunc("/commit", func(out http.ResponseWriter, req *http.Request) {
		height := req.URL.Query().Get("height")
		now := time.Now().UTC().Format(time.RFC3339Nano)
		hash := strings.Repeat("AB", 32)
		answer(out, map[string]any{"signed_header": map[string]any{
			"header": map[string]any{"chain_id": chain, "height": height, "time": now},
			"commit": map[string]any{
				"height": height, "round": 0,
				"block_id": map[string]any{"hash": hash, "parts": map[string]any{"total": 1, "hash": hash}},
				"signatures": []any{map[string]any{
					"block_id_flag": 2, "validator_address": strings.Repeat("CD", 20), "timestamp": now,
					"signature": base64.StdEncoding.EncodeToString(make([]byte, 64)),
				}},
			},
		}})
	})
	w.server.Handler = mux
	go w.server.Serve(l)
	return w, nil
}

func answer(w http.ResponseWriter, result any) {
	json.NewEncoder(w).Encode(map[string]any{"jsonrpc": "2.0", "id": -1, "result": result})
}

// healthyAt is healthy with changes to the config.
func (b *bench) healthyAt(ctx context.Context, chain string, changes map[string]string, args ...string) (*pair, error) {
	h := &home{b: b, dir: b.path("neighbours-" + chain)}
	if err := h.init(ctx, chain, args...); err != nil {
		return nil, err
	}
	if err := h.moveMetrics(); err != nil {
		return nil, err
	}
	if err := edit(filepath.Join(h.dir, "privyseal.toml"), changes); err != nil {
		return nil, err
	}
	n, err := b.newNode(chain)
	if err != nil {
		return nil, err
	}
	p, err := h.start(ctx)
	if err != nil {
		return nil, err
	}
	if err := n.accept(); err != nil {
		return nil, p.failed(err)
	}
	if err := n.greet(); err != nil {
		return nil, p.failed(err)
	}
	return &pair{n, p}, nil
}
