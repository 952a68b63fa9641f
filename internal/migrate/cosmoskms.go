package migrate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"privyseal/internal/pubkey"
	"privyseal/internal/regular"
)

// kmsConfig is the kms.yaml of cosmos/kms (config/config.go, v0.1). Paths are
// relative to the folder of the file.
type kmsConfig struct {
	Chains []struct {
		ID        string `yaml:"id"`
		StateFile string `yaml:"state_file"`
	} `yaml:"chains"`
	Validators []struct {
		ChainID     string `yaml:"chain_id"`
		Addr        string `yaml:"addr"`
		IdentityKey string `yaml:"identity_key"`
		Reconnect   *bool  `yaml:"reconnect"`
	} `yaml:"validators"`
	Keys []kmsKey `yaml:"keys"`
	GRPC any      `yaml:"grpc"`
}

type kmsKey struct {
	ChainIDs  []string `yaml:"chain_ids"`
	Backend   string   `yaml:"backend"`   // "" is file
	Algorithm string   `yaml:"algorithm"` // "" is ed25519
	KeyFile   string   `yaml:"key_file"`
	// Of the other backends. The file backend ignores them, we refuse the others.
	KeyID      any `yaml:"key_id"`
	Module     any `yaml:"module"`
	TokenLabel any `yaml:"token_label"`
	Slot       any `yaml:"slot"`
	KeyLabel   any `yaml:"key_label"`
	PIN        any `yaml:"pin"`
	PINEnv     any `yaml:"pin_env"`
	PINFile    any `yaml:"pin_file"`
	Region     any `yaml:"region"`
	Profile    any `yaml:"profile"`
	Endpoint   any `yaml:"endpoint"`
}

// readCosmosKMS reads the home of cosmos/kms.
func readCosmosKMS(path string) (*Installation, error) {
	path = fileIn(path, "kms.yaml")
	home := filepath.Dir(path)
	in := &Installation{before: []string{stopFor("kms (cosmos/kms)")}}
	var cfg kmsConfig
	if err := in.decodeYAML(path, &cfg); err != nil {
		return nil, err
	}
	if cfg.GRPC != nil {
		in.warn("the grpc block of %s is not taken over: privyseal signs blocks only", path)
	}
	for _, chain := range cfg.Chains {
		c := Chain{ID: chain.ID, StateFile: resolve(home, chain.StateFile), parseState: parseFilePVState}
		if c.ID == "" {
			return nil, fmt.Errorf("%s has a chain without id", path)
		}
		if c.StateFile == "" {
			c.StateFile = filepath.Join(home, "state", c.ID+".json")
		}
		if err := cfg.readKey(home, &c); err != nil {
			return nil, err
		}
		if err := cfg.connect(home, &c); err != nil {
			return nil, err
		}
		if len(c.Nodes) == 0 {
			in.warn("the chain %s has no validator in %s and is left out", c.ID, path)
			continue
		}
		in.Chains = append(in.Chains, c)
	}
	return in, nil
}

// readKey finds the one key of the chain.
func (cfg *kmsConfig) readKey(home string, c *Chain) error {
	keys := slices.DeleteFunc(slices.Clone(cfg.Keys), func(k kmsKey) bool { return !slices.Contains(k.ChainIDs, c.ID) })
	if len(keys) != 1 {
		return fmt.Errorf("the chain %s has %d keys, and cosmos/kms needs one", c.ID, len(keys))
	}
	k := keys[0]
	if k.Backend != "" && k.Backend != "file" {
		return fmt.Errorf("the key of chain %s is in the backend %s: this release takes over keys of the backend file, devices and clouds come with a later one", c.ID, k.Backend)
	}
	types := map[string]pubkey.Type{
		"":             pubkey.Ed25519,
		"ed25519":      pubkey.Ed25519,
		"secp256k1":    pubkey.Secp256k1,
		"secp256k1eth": pubkey.Secp256k1Eth,
		"mldsa65":      pubkey.MLDSA65,
	}
	as, ok := types[k.Algorithm]
	if !ok {
		return fmt.Errorf("the key of chain %s has the unknown algorithm %.40q", c.ID, k.Algorithm)
	}
	c.KeyFile = resolve(home, k.KeyFile)
	var err error
	c.Key, err = readKey(c.KeyFile, as)
	return err
}

// connect adds the nodes of the chain.
func (cfg *kmsConfig) connect(home string, c *Chain) error {
	for _, v := range cfg.Validators {
		if v.ChainID != c.ID {
			continue
		}
		n := connection{addr: v.Addr, identity: resolve(home, v.IdentityKey)}
		// kms makes a missing identity at its start. A node that speaks noise
		// knows the old one.
		if _, err := os.Stat(n.identity); errors.Is(err, fs.ErrNotExist) && !strings.HasPrefix(n.addr, "noise://") {
			c.warn("there is no identity key %s; privyseal makes one", n.identity)
			n.identity = ""
		}
		if err := c.connect(n); err != nil {
			return err
		}
		if v.Reconnect != nil && !*v.Reconnect {
			c.warn("reconnect: false is not taken over: privyseal dials forever")
		}
	}
	return nil
}

// decodeYAML decodes the config file at path. Keys that v does not have make a
// warning each.
func (in *Installation) decodeYAML(path string, v any) error {
	data, _, err := regular.Read(path, maxConfigSize)
	if err != nil {
		return err
	}
	// Once for mistakes, and once for unknown keys, which come mixed otherwise.
	if err := yaml.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	var unknown *yaml.TypeError
	if err := d.Decode(v); errors.As(err, &unknown) {
		for _, e := range unknown.Errors {
			text, _, _ := strings.Cut(e, " not found in type ") // line 3: field NAME
			line, name, _ := strings.Cut(strings.TrimPrefix(text, "line "), ": field ")
			in.warn("%s:%s: the key %s is unknown and was left out", path, line, name)
		}
	} else if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
