package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"
)

const (
	nodeVersion = "v0.38.26"
	turns       = 30
	turnTime    = time.Second
)

// chain compares whole nodes: a lone validator that signs with its own FilePV,
// and one for which privyseal signs.
//
// Both live through the whole measurement and run by turns, a second each, the
// other one stopped: what the machine does beside us changes more slowly.
func (b *bench) chain(ctx context.Context) ([]row, error) {
	setup := filepath.Join(b.root, "scripts", "setup")
	if _, err := output(ctx, setup, "nodes", nodeVersion); err != nil {
		return nil, err
	}
	bin, err := output(ctx, setup, "bin")
	if err != nil {
		return nil, err
	}
	node := filepath.Join(bin, "cometbft-"+nodeVersion)
	own := &validator{b: b, bin: node, name: "own"}
	ours := &validator{b: b, bin: node, name: "ours", remote: true}
	for _, v := range []*validator{own, ours} {
		defer v.kill()
		if err := v.start(ctx); err != nil {
			return nil, err
		}
	}
	for range turns {
		for _, v := range []*validator{own, ours} {
			if err := v.turn(ctx); err != nil {
				return nil, err
			}
		}
	}
	// The disk's pace can change in mid-run, so each turn is compared with the
	// one beside it.
	var ratios figures
	for i := range turns {
		ratios = append(ratios, ours.rates[i]/own.rates[i])
	}
	return []row{{
		what:      "lone validator, blocks a minute",
		measured:  fmt.Sprintf("%.0f", ours.rates.median()),
		reference: fmt.Sprintf("its own FilePV %.0f", own.rates.median()),
		ratio:     fmt.Sprintf("%.2f", ratios.median()),
		bound:     "≥ 1.0",
		ok:        ratios.median() >= 1,
	}}, nil
}

// validator is a node alone on its chain.
type validator struct {
	b         *bench
	bin       string
	name      string // of the chain, the home folders and the sockets
	remote    bool   // privyseal signs for it
	processes []*process
	rates     figures // blocks a minute, of each turn
}

// start makes a chain, runs it until it has found its pace, and stops it.
func (v *validator) start(ctx context.Context) error {
	dir := v.b.path(v.name)
	if err := v.prepare(ctx, dir); err != nil {
		return err
	}
	args := []string{
		"node", "--home", dir, "--proxy_app", "kvstore", "--log_level", "error",
		"--rpc.laddr", "unix://" + v.b.socket(v.name+".rpc"), "--p2p.laddr", "tcp://127.0.0.1:0", "--p2p.pex=false",
	}
	if v.remote {
		args = append(args, "--priv_validator_laddr", "unix://"+v.b.socket(v.name))
		signer, err := v.signer(ctx, dir)
		if err != nil {
			return err
		}
		v.processes = append(v.processes, signer)
	}
	p, err := start(ctx, v.bin, args...)
	if err != nil {
		return err
	}
	v.processes = append(v.processes, p)
	if err := v.waitFor(ctx, 50); err != nil {
		return p.failed(err)
	}
	return v.signal(syscall.SIGSTOP)
}

func (v *validator) kill() {
	for _, p := range v.processes {
		p.kill()
	}
}

func (v *validator) signal(s os.Signal) error {
	for _, p := range v.processes {
		if err := p.cmd.Process.Signal(s); err != nil {
			return err
		}
	}
	return nil
}

// turn lets the chain go on for a while and adds its blocks a minute.
func (v *validator) turn(ctx context.Context) error {
	if err := v.signal(syscall.SIGCONT); err != nil {
		return err
	}
	// The first answer comes when the node is awake again.
	from, err := v.height(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	select {
	case <-time.After(turnTime):
	case <-ctx.Done():
		return ctx.Err()
	}
	to, err := v.height(ctx)
	if err != nil {
		return err
	}
	v.rates = append(v.rates, float64(to-from)/time.Since(start).Minutes())
	return v.signal(syscall.SIGSTOP)
}

// prepare makes the node's home folder.
func (v *validator) prepare(ctx context.Context, dir string) error {
	if _, err := output(ctx, v.bin, "init", "--home", dir); err != nil {
		return err
	}
	// As fast as it goes: what the signer costs is then the largest share.
	err := edit(filepath.Join(dir, "config", "config.toml"), map[string]string{
		`(?m)^timeout_commit = .*$`:      `timeout_commit = "10ms"`,
		`(?m)^skip_timeout_commit = .*$`: `skip_timeout_commit = true`,
	})
	if err != nil {
		return err
	}
	return edit(filepath.Join(dir, "config", "genesis.json"), map[string]string{
		`"chain_id": ".*"`: `"chain_id": "` + v.name + `"`,
	})
}

// signer starts a privyseal that has taken over the node's key.
func (v *validator) signer(ctx context.Context, dir string) (*process, error) {
	h := &home{b: v.b, dir: v.b.path(v.name + ".signer")}
	key := filepath.Join(dir, "config", "priv_validator_key.json")
	if err := h.init(ctx, v.name, "--import-key", key, "--fresh-state"); err != nil {
		return nil, err
	}
	if err := h.moveMetrics(); err != nil {
		return nil, err
	}
	return h.start(ctx)
}

// waitFor asks until the chain has reached a height.
func (v *validator) waitFor(ctx context.Context, height int64) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		at, err := v.height(ctx)
		switch {
		case err == nil && at >= height:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("the chain %s is at height %d: %w", v.name, at, ctx.Err())
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// height asks the node for its last block.
func (v *validator) height(ctx context.Context) (int64, error) {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", v.b.socket(v.name+".rpc"))
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://node/status", nil)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var status struct {
		Result struct {
			SyncInfo struct {
				Height string `json:"latest_block_height"`
			} `json:"sync_info"`
		} `json:"result"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&status); err != nil {
		return 0, err
	}
	return strconv.ParseInt(status.Result.SyncInfo.Height, 10, 64)
}

// edit replaces what each pattern matches in the file, once each.
func edit(path string, changes map[string]string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for pattern, with := range changes {
		p := regexp.MustCompile(pattern)
		if len(p.FindAll(text, -1)) != 1 {
			return fmt.Errorf("not one match of %q in %s", pattern, path)
		}
		text = p.ReplaceAll(text, []byte(with))
	}
	return os.WriteFile(path, text, 0o600)
}
