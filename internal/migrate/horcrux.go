package migrate

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"privyseal/internal/key/soft"
	"privyseal/internal/pubkey"
	"privyseal/internal/regular"
	"privyseal/internal/strictjson"
	"privyseal/internal/watermark"
)

// horcruxConfig is the config.yaml of Horcrux: the first fields of version 3
// (signer/config.go), the others of version 2 (cmd/horcrux/cmd/migrate.go).
type horcruxConfig struct {
	KeyDir    string `yaml:"keyDir"`
	SignMode  string `yaml:"signMode"`
	Threshold struct {
		Threshold int `yaml:"threshold"`
	} `yaml:"thresholdMode"`
	Nodes []struct {
		Addr string `yaml:"privValAddr"`
	} `yaml:"chainNodes"`

	ChainID  string `yaml:"chain-id"`
	KeyFile  string `yaml:"key-file"`
	Cosigner struct {
		Threshold int `yaml:"threshold"`
	} `yaml:"cosigner"`
	OldNodes []struct {
		Addr string `yaml:"priv-val-addr"`
	} `yaml:"chain-nodes"`
}

// shard is a cosigner's file CHAIN_shard.json (version 3), or share.json (version 2).
type shard struct {
	path   string
	dir    string // the cosigner's
	id     int
	public pubkey.Key
	secret []byte
}

// horcrux is what was found in the folders of several cosigners.
type horcrux struct {
	threshold int
	nodes     []string
	shards    map[string][]shard // by chain
}

// readHorcrux reads the homes of as many cosigners of Horcrux as make the key, each
// on a host of its own once: their folders were brought here.
func readHorcrux(paths, nodes []string) (*Installation, error) {
	in := &Installation{before: []string{
		"Stop Horcrux on the hosts of all cosigners, including those whose folders are not here, and keep it from starting again (systemctl disable): any of them that reach the threshold together are a second signer of this key.",
	}}
	h := &horcrux{shards: map[string][]shard{}, nodes: nodes}
	defer h.wipe()
	for _, dir := range cosigners(paths) {
		if err := h.readCosigner(in, dir); err != nil {
			return nil, err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(h.shards)) {
		c, err := h.chain(id)
		if err != nil {
			return nil, err
		}
		in.Chains = append(in.Chains, c)
	}
	if len(in.Chains) == 0 {
		return nil, errors.New("no folder was named")
	}
	return in, nil
}

func (h *horcrux) wipe() {
	for _, list := range h.shards {
		for _, s := range list {
			clear(s.secret)
		}
	}
}

// cosigners returns the folders of the cosigners: those that were named, or what is
// in one that holds nothing but theirs, as `horcrux create-ed25519-shards` makes it.
func cosigners(paths []string) (dirs []string) {
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			path = filepath.Dir(path) // a file in it
		}
		below, err := filepath.Glob(filepath.Join(globEscape(path), "*", "*_shard.json"))
		if own := shardFiles(path); err != nil || len(own) > 0 || len(below) == 0 {
			dirs = append(dirs, path)
			continue
		}
		for _, f := range below {
			if dir := filepath.Dir(f); !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs
}

// globEscape returns path as a pattern that matches it alone.
func globEscape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// shardFiles returns the shards that lie in a folder.
func shardFiles(dir string) []string {
	list, err := filepath.Glob(filepath.Join(globEscape(dir), "*_shard.json"))
	if err != nil {
		return nil // the pattern is ours
	}
	if old := filepath.Join(dir, "share.json"); exists(old) {
		list = append(list, old)
	}
	return list
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// readCosigner reads config and shards of one cosigner.
func (h *horcrux) readCosigner(in *Installation, dir string) error {
	cfg, err := readHorcruxConfig(in, dir)
	if err != nil {
		return err
	}
	h.threshold = max(h.threshold, cfg.Threshold.Threshold, cfg.Cosigner.Threshold)
	for _, n := range cfg.Nodes {
		h.nodes = appendOnce(h.nodes, n.Addr)
	}
	for _, n := range cfg.OldNodes {
		h.nodes = appendOnce(h.nodes, n.Addr)
	}
	files := shardFiles(dir)
	if cfg.KeyDir != "" && resolve(dir, cfg.KeyDir) != dir {
		files = append(files, shardFiles(resolve(dir, cfg.KeyDir))...)
	}
	if cfg.KeyFile != "" && !slices.Contains(files, resolve(dir, cfg.KeyFile)) {
		files = append(files, resolve(dir, cfg.KeyFile))
	}
	if len(files) == 0 && cfg.SignMode == "single" {
		return fmt.Errorf("%s is a Horcrux in single-signer mode, which has the whole key: take it over with `privyseal init --chain-id ID --node ADDR --import-key CHAIN_priv_validator_key.json --import-state state/CHAIN_priv_validator_state.json`", dir)
	}
	if len(files) == 0 {
		return fmt.Errorf("there is no shard of a key (CHAIN_shard.json, share.json) in %s: %w", dir, fs.ErrNotExist)
	}
	for _, path := range files {
		chainID, isShard := strings.CutSuffix(filepath.Base(path), "_shard.json")
		if !isShard {
			chainID = cfg.ChainID
		}
		if !watermark.ValidChainID(chainID) {
			return fmt.Errorf("%s: %.60q is not a chain id", path, chainID)
		}
		if err := h.readShard(chainID, path, dir); err != nil {
			return fmt.Errorf("the shard %s: %w", path, err)
		}
	}
	return nil
}

// readHorcruxConfig reads the config.yaml of a cosigner; one that is missing says
// nothing.
func readHorcruxConfig(in *Installation, dir string) (cfg horcruxConfig, err error) {
	path := filepath.Join(dir, "config.yaml")
	data, _, err := regular.Read(path, maxConfigSize)
	if errors.Is(err, fs.ErrNotExist) {
		in.warn("there is no config.yaml in %s, so its threshold and nodes are not known", dir)
		return cfg, nil
	}
	if err != nil {
		return cfg, err
	}
	// Most of it is about the cosigners among themselves, and means nothing here.
	if err := yaml.Unmarshal(data, &cfg); err != nil {
		return cfg, fmt.Errorf("%s: %w", path, err)
	}
	return cfg, nil
}

// readShard reads one shard.
func (h *horcrux) readShard(chainID, path, dir string) error {
	data, info, err := regular.Read(path, MaxStateSize)
	if err != nil {
		return err
	}
	defer clear(data)
	if perm := info.Mode().Perm(); perm&^0o600 != 0 {
		return fmt.Errorf("it has mode %04o, so that others may have read it: chmod 600", perm)
	}
	var file struct {
		PubKey    []byte `json:"pubKey"`
		Shard     []byte `json:"privateShard"`
		OldPubKey []byte `json:"pub_key"`
		OldShard  []byte `json:"secret_share"`
		ID        int    `json:"id"`
	}
	if err := strictjson.Unmarshal(data, &file); errors.Is(err, strictjson.ErrDuplicate) {
		return strictjson.ErrDuplicate // the name could be a secret that slipped
	} else if err != nil {
		return errors.New("it is truncated, or not a shard of Horcrux") // the cause could quote it
	}
	s := shard{path: path, dir: dir, id: file.ID, secret: append(file.Shard, file.OldShard...)}
	if s.public, err = protoKey(append(file.PubKey, file.OldPubKey...)); err != nil {
		return err
	}
	if len(s.secret) != 32 || s.id < 1 || s.id > 255 {
		return errors.New("it is not a shard of Horcrux: it has no number, or no share of 32 bytes")
	}
	return h.add(chainID, s)
}

// add adds a shard to those of its chain, which all must be of one key.
func (h *horcrux) add(chainID string, s shard) error {
	for _, other := range h.shards[chainID] {
		switch {
		case !other.public.Equal(s.public):
			return fmt.Errorf("it is of the key %v, and %s is of %v: these are shards of two keys", s.public, other.path, other.public)
		case other.id == s.id && !bytes.Equal(other.secret, s.secret):
			return fmt.Errorf("it has the number %d, like %s, but other content: they were not dealt together", s.id, other.path)
		}
	}
	h.shards[chainID] = append(h.shards[chainID], s)
	return nil
}

// protoKey reads a public key as Horcrux writes it: CometBFT's PublicKey in protobuf
// (field 1), or amino's form of older files.
func protoKey(b []byte) (pubkey.Key, error) {
	for _, prefix := range []string{"\x0a\x20", "\x16\x24\xde\x64\x20"} {
		if raw, found := bytes.CutPrefix(b, []byte(prefix)); found && len(raw) == 32 {
			return pubkey.New(pubkey.Ed25519, raw)
		}
	}
	return pubkey.Key{}, errors.New("it has no public key of type ed25519")
}

// chain combines the shards of a chain, and finds the states of their cosigners.
func (h *horcrux) chain(id string) (Chain, error) {
	c := Chain{ID: id, parseState: parseChainState}
	shares := map[int][]byte{}
	for _, s := range h.shards[id] {
		shares[s.id] = s.secret
		c.moreKeys = appendOnce(c.moreKeys, s.path)
		if err := c.addStates(s.dir); err != nil {
			return Chain{}, err
		}
	}
	c.KeyFile, c.moreKeys = c.moreKeys[0], c.moreKeys[1:]
	c.StateFile, c.moreStates = c.moreStates[0], c.moreStates[1:]
	if len(shares) < h.threshold {
		return Chain{}, fmt.Errorf("the key of chain %s needs the shards of %d cosigners, and here %s: name the folders of more", id, h.threshold, h.found(id, len(shares)))
	}
	var err error
	if c.Key, err = soft.Combine(shares); err != nil {
		return Chain{}, fmt.Errorf("the shards of chain %s: %w", id, err)
	}
	if !c.Key.PublicKey().Equal(h.shards[id][0].public) {
		c.Key.Wipe()
		return Chain{}, fmt.Errorf("the shards of chain %s, %d here, do not make the key %v that they name: they are too few, or one is damaged or was dealt at another time", id, len(shares), h.shards[id][0].public)
	}
	for _, addr := range h.nodes {
		if err := c.connect(connection{addr: addr}); err != nil {
			return Chain{}, err
		}
	}
	if len(c.Nodes) == 0 {
		return Chain{}, fmt.Errorf("the chain %s has no node: no folder holds a config.yaml with one; name it with --node ADDR", id)
	}
	return c, nil
}

// found says which shards there are, where they are too few.
func (h *horcrux) found(id string, n int) string {
	text := fmt.Sprintf("there is %d", n)
	if n > 1 {
		text = fmt.Sprintf("there are %d", n)
	}
	for _, other := range slices.Sorted(maps.Keys(h.shards)) {
		if other != id {
			text += fmt.Sprintf(" (%s is of chain %s)", h.shards[other][0].path, other)
		}
	}
	return text
}

// addStates adds the states that a cosigner has of the chain. The one of its own
// shares is mandatory: whatever was signed, was signed by as many cosigners as make
// the key, so the highest of theirs is at or above it. The one of whole signatures
// comes from the leader, and may be behind. Where copies lie about, all count.
func (c *Chain) addStates(dir string) error {
	found := false
	for _, folder := range []string{filepath.Join(dir, "state"), dir} {
		for _, suffix := range []string{shareState, "_priv_validator_state.json"} {
			path := filepath.Join(folder, c.ID+suffix)
			if !exists(path) {
				continue
			}
			c.moreStates = appendOnce(c.moreStates, path)
			found = found || suffix == shareState
		}
	}
	if found {
		return nil
	}
	return &StateError{ChainID: c.ID, Path: filepath.Join(dir, "state", c.ID+shareState),
		Err: errors.New("it is missing, and without it nobody knows what this cosigner has signed")}
}

// shareState ends the name of a cosigner's own state.
const shareState = "_share_sign_state.json"

// parseChainState reads one of several states of a chain, in any form.
func parseChainState(c *Chain, data []byte) (watermark.Mark, error) {
	return ParseState(data, c.ID, c.public())
}

// higher returns the higher of two marks of one key. At one place, what was signed
// there counts where it is known: it was verified, and a signature over it is out.
func higher(a, b watermark.Mark) watermark.Mark {
	switch {
	case a.Less(b):
		return b
	case b.Less(a) || b.SignBytes == nil:
		return a
	case a.SignBytes == nil || a.Equal(b):
		return b
	}
	a.SignBytes = nil // two signatures of one place: neither is made again
	return a
}
