package migrate

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"privyseal/internal/pubkey"
)

// lightConfig is the tmkms.toml of tmkms-light: the one of its software signer
// (providers/softsign/src/config.rs), and of its enclaves as much as tells
// them apart.
type lightConfig struct {
	Address   string `toml:"address"`
	ChainID   string `toml:"chain_id"`
	MaxHeight string `toml:"max_height"`
	KeyFile   string `toml:"consensus_key_path"`
	IDKeyFile string `toml:"id_key_path"`
	StateFile string `toml:"state_file_path"`
	Timeout   uint16 `toml:"timeout"` // seconds
	Retry     *bool  `toml:"retry"`

	SealedKeyFile string `toml:"sealed_consensus_key_path"`
	EnclavePath   string `toml:"enclave_path"` // SGX
}

// readTMKMSLight reads the tmkms.toml of tmkms-light.
func readTMKMSLight(path string) (*Installation, error) {
	path = fileIn(path, "tmkms.toml")
	in := &Installation{before: []string{stopFor("tmkms-light (tmkms-softsign)")}}
	var cfg lightConfig
	if err := in.decodeTOML(path, &cfg); err != nil {
		return nil, err
	}
	if err := cfg.check(path); err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	c := Chain{
		ID:         cfg.ChainID,
		KeyFile:    resolve(dir, cfg.KeyFile),
		StateFile:  resolve(dir, cfg.StateFile),
		parseState: parseTMKMSState,
	}
	n := connection{
		addr:     tmkmsAddr(cfg.Address),
		identity: resolve(dir, cfg.IDKeyFile),
		timeout:  time.Duration(cfg.Timeout) * time.Second,
	}
	var err error
	if n.maxHeight, err = parseMaxHeight(cfg.MaxHeight); err != nil {
		return nil, err
	}
	if c.Key, err = readKey(c.KeyFile, pubkey.Ed25519); err != nil {
		return nil, err
	}
	if err := c.connect(n); err != nil {
		return nil, err
	}
	in.Chains = []Chain{c}
	return in, nil
}

// check tells the software signer from the enclaves and looks for what is
// needed.
func (cfg *lightConfig) check(path string) error {
	switch {
	case cfg.SealedKeyFile != "" && cfg.EnclavePath != "":
		return errors.New("this is tmkms-light in SGX, whose key only its enclave can read; privyseal's SGX provider comes with a later release")
	case cfg.SealedKeyFile != "":
		return errors.New("this is tmkms-light in a Nitro enclave, whose key AWS KMS gives to enclaves only; privyseal's Nitro provider, which can take it over, comes with a later release")
	case cfg.Address == "" && cfg.ChainID == "" && cfg.KeyFile == "":
		return fmt.Errorf("%s is no config of tmkms-light; if it has [[chain]], it is one of tmkms: privyseal migrate tmkms", path)
	}
	for _, needed := range [][2]string{
		{"address", cfg.Address},
		{"chain_id", cfg.ChainID},
		{"consensus_key_path", cfg.KeyFile},
		{"state_file_path", cfg.StateFile},
	} {
		if needed[1] == "" {
			return fmt.Errorf("%s has no %s", path, needed[0])
		}
	}
	if cfg.IDKeyFile == "" && !strings.HasPrefix(cfg.Address, "unix://") {
		return fmt.Errorf("%s has a tcp address, and no id_key_path", path)
	}
	return nil
}
