package rig

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"privyseal/test/tools"
)

// bringsNodes is the command that brings nodes.
const bringsNodes = "scripts/setup nodes"

// Node is a CometBFT node.
type Node struct {
	*Process // nil until Start

	Version string // v0.38.26
	Home    string
	RPC     string // host:port
	P2P     string // host:port
	App     string // where its application listens; the node's own kvstore if empty

	program string
}

// InitNode makes the home of a lone node, with ports of its own and blocks as
// fast as they come.
func InitNode(ctx context.Context, version, home string) (*Node, error) {
	program, err := tools.Program("cometbft-"+version, bringsNodes)
	if err != nil {
		return nil, err
	}
	if _, err := Output(ctx, program, "init", "--home", home); err != nil {
		return nil, err
	}
	return openNode(version, home, program)
}

// InitNetwork makes the homes of a network of validators and of full nodes that
// follow them, the validators first. They know each other's addresses.
func InitNetwork(ctx context.Context, version, dir string, validators, full int) ([]*Node, error) {
	program, err := tools.Program("cometbft-"+version, bringsNodes)
	if err != nil {
		return nil, err
	}
	if _, err := Output(ctx, program, "testnet", "--v", strconv.Itoa(validators), "--n", strconv.Itoa(full), "--o", dir); err != nil {
		return nil, err
	}
	var nodes []*Node
	var peers []string
	for i := range validators + full {
		n, err := openNode(version, filepath.Join(dir, fmt.Sprintf("node%d", i)), program)
		if err != nil {
			return nil, err
		}
		id, err := Output(ctx, program, "show-node-id", "--home", n.Home)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
		peers = append(peers, strings.TrimSpace(id)+"@"+n.P2P)
	}
	for _, n := range nodes {
		if err := n.Configure("p2p", "persistent_peers", strings.Join(peers, ",")); err != nil {
			return nil, err
		}
	}
	return nodes, nil
}

// Use runs another program from now on, whose commands are those of CometBFT.
func (n *Node) Use(program string) { n.program = program }

func openNode(version, home, program string) (*Node, error) {
	n := &Node{Version: version, Home: home, program: program}
	for _, addr := range []*string{&n.RPC, &n.P2P} {
		port, err := FreePort()
		if err != nil {
			return nil, err
		}
		*addr = fmt.Sprintf("127.0.0.1:%d", port)
	}
	for _, c := range []struct{ section, key, value string }{
		{"", "log_level", "info"},
		{"rpc", "laddr", "tcp://" + n.RPC},
		{"p2p", "laddr", "tcp://" + n.P2P},
		{"p2p", "pex", "false"},
		{"p2p", "addr_book_strict", "false"},
		{"p2p", "allow_duplicate_ip", "true"},
		{"consensus", "timeout_commit", "20ms"},
		{"consensus", "peer_gossip_sleep_duration", "10ms"},
	} {
		if err := n.Configure(c.section, c.key, c.value); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// Configure changes one value in config.toml; section "" is the top. The key
// has to be there.
func (n *Node) Configure(section, key, value string) error {
	path := filepath.Join(n.Home, "config", "config.toml")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if _, err := strconv.ParseBool(value); err != nil {
		value = strconv.Quote(value)
	}
	lines := strings.Split(string(text), "\n")
	at, found := "", false
	for i, line := range lines {
		if strings.HasPrefix(line, "[") {
			at = strings.Trim(line, "[] ")
		}
		name, _, isKey := strings.Cut(line, "=")
		if isKey && at == section && strings.TrimSpace(name) == key {
			lines[i], found = key+" = "+value, true
		}
	}
	if !found {
		return fmt.Errorf("%s has no %s in [%s]", path, key, section)
	}
	return os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600)
}

// Genesis is genesis.json as far as it is changed here.
type Genesis struct{ doc map[string]any }

// EditGenesis changes genesis.json.
func (n *Node) EditGenesis(edit func(*Genesis)) error {
	path := filepath.Join(n.Home, "config", "genesis.json")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	g := &Genesis{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&g.doc); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	edit(g)
	text, err = json.MarshalIndent(g.doc, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// SetChainID names the chain.
func (g *Genesis) SetChainID(id string) { g.doc["chain_id"] = id }

// SetValidator gives the i-th validator another public key: its JSON as
// `privyseal key show --format json` prints it, and its type as in
// consensus_params.validator.pub_key_types.
func (g *Genesis) SetValidator(i int, key json.RawMessage, keyType string) {
	v := g.doc["validators"].([]any)[i].(map[string]any)
	v["pub_key"] = key
	delete(v, "address")
	types := g.params("validator")
	types["pub_key_types"] = []string{"ed25519"}
	if keyType != "ed25519" {
		types["pub_key_types"] = []string{"ed25519", keyType}
	}
}

// EnableVoteExtensions turns them on from the first height, and reports false
// in a version that has none.
func (g *Genesis) EnableVoteExtensions() bool {
	const key = "vote_extensions_enable_height"
	for _, section := range []string{"abci", "feature"} {
		if params := g.params(section); params[key] != nil {
			params[key] = "1"
			return true
		}
	}
	return false
}

func (g *Genesis) params(section string) map[string]any {
	params, _ := g.doc["consensus_params"].(map[string]any)[section].(map[string]any)
	return params
}

// Start starts the node. With privval it waits for a signer at that address,
// for three seconds; with "" it signs with its own key file.
func (n *Node) Start(privval string) error {
	args := []string{"node", "--home", n.Home, "--proxy_app", cmp.Or(n.App, "kvstore")}
	if privval != "" {
		args = append(args, "--priv_validator_laddr", privval)
	}
	p, err := StartProcess(filepath.Base(n.Home)+" "+n.Version, filepath.Join(n.Home, "node.log"), n.program, args...)
	n.Process = p
	return err
}

// StartUntilUp starts the node until it answers: one whose signer is not there within
// seconds ends, and on a busy machine that is soon. Its service starts it again.
func (n *Node) StartUntilUp(ctx context.Context, privval string) (err error) {
	for range 20 {
		if path, ok := strings.CutPrefix(privval, "unix://"); ok {
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		if err := n.Start(privval); err != nil {
			return err
		}
		if err = n.WaitHeight(ctx, 0); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// PeerID returns the libp2p peer id by which a noise:// signer knows the node;
// v0.40 has it.
func (n *Node) PeerID(ctx context.Context) (string, error) {
	id, err := Output(ctx, n.program, "show-node-id", "--libp2p", "--home", n.Home)
	return strings.TrimSpace(id), err
}

// Height returns the height of the last block.
func (n *Node) Height(ctx context.Context) (int64, error) {
	var status struct {
		SyncInfo struct {
			Height int64 `json:"latest_block_height,string"`
		} `json:"sync_info"`
	}
	err := n.call(ctx, "status", nil, &status)
	return status.SyncInfo.Height, err
}

// WaitHeight waits for a block of that height or above.
func (n *Node) WaitHeight(ctx context.Context, height int64) error {
	err := poll(ctx, n.Process, func() (bool, error) {
		h, err := n.Height(ctx)
		if err == nil && h < height {
			err = fmt.Errorf("it is at height %d", h)
		}
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("no block %d: %w", height, err)
	}
	return nil
}

// Commit returns the commit of a block below the last one.
func (n *Node) Commit(ctx context.Context, height int64) (*Commit, error) {
	var r struct {
		SignedHeader struct {
			Header struct {
				ChainID string `json:"chain_id"`
			} `json:"header"`
			Commit Commit `json:"commit"`
		} `json:"signed_header"`
	}
	err := n.call(ctx, "commit", url.Values{"height": {strconv.FormatInt(height, 10)}}, &r)
	c := r.SignedHeader.Commit
	c.ChainID = r.SignedHeader.Header.ChainID
	if err == nil && c.Height != height {
		err = fmt.Errorf("asked for the commit of %d, got that of %d", height, c.Height)
	}
	return &c, err
}

// Evidence returns how many pieces of evidence of misbehaviour a block holds.
func (n *Node) Evidence(ctx context.Context, height int64) (int, error) {
	var r struct {
		Block struct {
			Evidence struct {
				List []json.RawMessage `json:"evidence"`
			} `json:"evidence"`
		} `json:"block"`
	}
	err := n.call(ctx, "block", url.Values{"height": {strconv.FormatInt(height, 10)}}, &r)
	return len(r.Block.Evidence.List), err
}

// call asks the node's RPC.
func (n *Node) call(ctx context.Context, method string, query url.Values, result any) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	u := url.URL{Scheme: "http", Host: n.RPC, Path: "/" + method, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var reply struct {
		Result json.RawMessage
		Error  json.RawMessage
	}
	if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil {
		return fmt.Errorf("%s: %w", u.Path, err)
	}
	if len(reply.Error) > 0 {
		return errors.New(string(reply.Error))
	}
	return json.Unmarshal(reply.Result, result)
}
