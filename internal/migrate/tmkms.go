package migrate

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"privyseal/internal/pubkey"
	"privyseal/internal/regular"
	"privyseal/internal/shell"
)

// readTMKMS reads a tmkms.toml.
func readTMKMS(path string) (*Installation, error) {
	path = fileIn(path, "tmkms.toml")
	in := &Installation{before: []string{stopFor("tmkms")}}
	var cfg tmkmsConfig
	if err := in.decodeTOML(path, &cfg, "providers.yubihsm"); err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	device, err := in.readDevice(path, &cfg)
	if err != nil {
		return nil, err
	}
	for _, v := range cfg.Validator {
		if !cfg.has(v.ChainID) {
			return nil, fmt.Errorf("%s has a [[validator]] of the chain %q, and no such [[chain]]", path, v.ChainID)
		}
	}
	for _, chain := range cfg.Chain {
		validators := slices.DeleteFunc(slices.Clone(cfg.Validator), func(v tmkmsValidator) bool { return v.ChainID != chain.ID })
		if len(validators) == 0 {
			in.warn("the chain %s has no [[validator]] in %s and is left out", chain.ID, path)
			continue
		}
		c, err := cfg.chain(dir, device, chain, validators)
		if err != nil {
			return nil, err
		}
		in.Chains = append(in.Chains, c)
	}
	return in, nil
}

func (cfg *tmkmsConfig) chain(dir string, device *Device, chain tmkmsChain, validators []tmkmsValidator) (Chain, error) {
	c := Chain{ID: chain.ID, StateFile: resolve(dir, chain.StateFile), parseState: parseTMKMSState}
	if c.StateFile == "" {
		c.StateFile = filepath.Join(dir, chain.ID+"_priv_validator_state.json")
	}
	if err := cfg.readKey(dir, device, &c); err != nil {
		return Chain{}, err
	}
	if chain.StateHook != nil {
		c.warn("the state_hook of tmkms is not taken over: privyseal itself refuses the first height after a downtime")
	}
	for _, v := range validators {
		n, err := v.connection(dir)
		if err == nil {
			err = c.connect(n)
		}
		if err != nil {
			return Chain{}, err
		}
		if v.Reconnect != nil && !*v.Reconnect {
			c.warn("reconnect = false is not taken over: privyseal dials forever")
		}
	}
	return c, nil
}

// fileKeys returns the keys of a chain that are in files.
func (cfg *tmkmsConfig) fileKeys(dir, chainID string) (list []tmkmsKey, err error) {
	for _, s := range cfg.Providers.Softsign {
		if !slices.Contains(s.ChainIDs, chainID) {
			continue
		}
		if !slices.Contains([]string{"", "account", "consensus"}, s.KeyType) {
			return nil, fmt.Errorf("the key %s is of the unknown type %q", s.Path, s.KeyType)
		}
		path := resolve(dir, s.Path)
		list = append(list, tmkmsKey{name: path, path: path, isAccount: s.KeyType == "account"})
	}
	return list, nil
}

// readKey finds the one key of the chain: its consensus key, or the account
// key with which tmkms signs on chains of secp256k1.
func (cfg *tmkmsConfig) readKey(dir string, device *Device, c *Chain) error {
	all, err := cfg.fileKeys(dir, c.ID)
	if err != nil {
		return err
	}
	all = append(all, cfg.deviceKeys(c.ID)...)
	account := slices.DeleteFunc(slices.Clone(all), func(k tmkmsKey) bool { return !k.isAccount })
	found, as := slices.DeleteFunc(all, func(k tmkmsKey) bool { return k.isAccount }), pubkey.Ed25519
	if len(found) == 0 {
		found, as = account, pubkey.Secp256k1
	} else if len(account) > 0 {
		c.warn("the account key %s is not taken over: privyseal signs blocks only", account[0].name)
	}
	if len(found) == 0 {
		if err := cfg.elsewhere(c.ID); err != nil {
			return err
		}
		return fmt.Errorf("the chain %s has no key: neither [[providers.softsign]] nor [[providers.yubihsm]] names it", c.ID)
	}
	if len(found) > 1 {
		return fmt.Errorf("the chain %s has %d keys, and tmkms allows one: %s and %s", c.ID, len(found), found[0].name, found[1].name)
	}
	if found[0].path == "" {
		c.Device = &DeviceKey{device, found[0].id, as}
		return nil
	}
	c.KeyFile = found[0].path
	c.Key, err = readKey(c.KeyFile, as)
	return err
}

func (v *tmkmsValidator) connection(dir string) (connection, error) {
	if v.SecretKey == "" && !strings.HasPrefix(v.Addr, "unix://") {
		return connection{}, fmt.Errorf("the node %s of chain %s is dialled by tcp, and has no secret_key", v.Addr, v.ChainID)
	}
	maxHeight, err := parseMaxHeight(v.MaxHeight)
	return connection{
		addr:      tmkmsAddr(v.Addr),
		identity:  resolve(dir, v.SecretKey),
		timeout:   time.Duration(v.Timeout) * time.Second,
		maxHeight: maxHeight,
	}, err
}

// parseMaxHeight reads the highest height, which tendermint-rs writes as text.
func parseMaxHeight(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	h, err := strconv.ParseInt(s, 10, 64)
	if err != nil || h < 1 {
		return 0, fmt.Errorf("max_height %.40q is not a height", s)
	}
	return h, nil
}

// tmkmsAddr undoes the escapes of a socket path: tmkms reads it as a URL.
func tmkmsAddr(addr string) string {
	path, ok := strings.CutPrefix(addr, "unix://")
	if !ok {
		return addr
	}
	if plain, err := url.PathUnescape(path); err == nil {
		return "unix://" + plain
	}
	return addr
}

// decodeTOML decodes the config file at path. Keys that v does not have make a
// warning each, and an error in the table strict.
func (in *Installation) decodeTOML(path string, v any, strict string) error {
	data, _, err := regular.Read(path, maxConfigSize)
	if err != nil {
		return err
	}
	err = toml.NewDecoder(strings.NewReader(string(data))).DisallowUnknownFields().Decode(v)
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) {
		for _, e := range unknown.Errors {
			line, _ := e.Position()
			key := strings.Join(e.Key(), ".")
			if strict != "" && strings.HasPrefix(key, strict+".") {
				return fmt.Errorf("%s:%d: the key %s is unknown", path, line, shell.Line(key))
			}
			in.warn("%s:%d: the key %s is unknown and was left out", path, line, key)
		}
		return nil
	}
	if mistake := (*toml.DecodeError)(nil); errors.As(err, &mistake) {
		line, _ := mistake.Position()
		return fmt.Errorf("%s:%d: %w", path, line, err)
	}
	return err
}
