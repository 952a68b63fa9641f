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
)

// tmkmsConfig is the tmkms.toml of tmkms (src/config/, v0.15).
type tmkmsConfig struct {
	Chain     []tmkmsChain     `toml:"chain"`
	Validator []tmkmsValidator `toml:"validator"`
	Providers struct {
		Softsign    []tmkmsSoftsign `toml:"softsign"`
		YubiHSM     any             `toml:"yubihsm"`
		LedgerTM    any             `toml:"ledgertm"`
		FortanixDSM any             `toml:"fortanixdsm"`
	} `toml:"providers"`
}

type tmkmsChain struct {
	ID             string `toml:"id"`
	KeyFormat      any    `toml:"key_format"`
	SignExtensions bool   `toml:"sign_extensions"`
	StateFile      string `toml:"state_file"`
	StateHook      any    `toml:"state_hook"`
}

type tmkmsValidator struct {
	Addr            string `toml:"addr"`
	ChainID         string `toml:"chain_id"`
	Reconnect       *bool  `toml:"reconnect"`
	Timeout         uint16 `toml:"timeout"` // seconds
	SecretKey       string `toml:"secret_key"`
	MaxHeight       string `toml:"max_height"`
	ProtocolVersion string `toml:"protocol_version"`
}

type tmkmsSoftsign struct {
	ChainIDs  []string `toml:"chain_ids"`
	KeyType   string   `toml:"key_type"`
	KeyFormat string   `toml:"key_format"`
	Path      string   `toml:"path"`
}

// readTMKMS reads a tmkms.toml.
func readTMKMS(path string) (*Installation, error) {
	path = fileIn(path, "tmkms.toml")
	in := &Installation{before: []string{stopFor("tmkms")}}
	var cfg tmkmsConfig
	if err := in.decodeTOML(path, &cfg); err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	for _, v := range cfg.Validator {
		if !slices.ContainsFunc(cfg.Chain, func(c tmkmsChain) bool { return c.ID == v.ChainID }) {
			return nil, fmt.Errorf("%s has a [[validator]] of the chain %q, and no such [[chain]]", path, v.ChainID)
		}
	}
	for _, chain := range cfg.Chain {
		validators := slices.DeleteFunc(slices.Clone(cfg.Validator), func(v tmkmsValidator) bool { return v.ChainID != chain.ID })
		if len(validators) == 0 {
			in.warn("the chain %s has no [[validator]] in %s and is left out", chain.ID, path)
			continue
		}
		c, err := cfg.chain(dir, chain, validators)
		if err != nil {
			return nil, err
		}
		in.Chains = append(in.Chains, c)
	}
	return in, nil
}

func (cfg *tmkmsConfig) chain(dir string, chain tmkmsChain, validators []tmkmsValidator) (Chain, error) {
	c := Chain{ID: chain.ID, StateFile: resolve(dir, chain.StateFile), parseState: parseTMKMSState}
	if c.StateFile == "" {
		c.StateFile = filepath.Join(dir, chain.ID+"_priv_validator_state.json")
	}
	if err := cfg.readKey(dir, &c); err != nil {
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

// readKey finds the one key of the chain: its consensus key, or the account
// key with which tmkms signs on chains of secp256k1.
func (cfg *tmkmsConfig) readKey(dir string, c *Chain) error {
	var consensus, account []tmkmsSoftsign
	for _, s := range cfg.Providers.Softsign {
		switch {
		case !slices.Contains(s.ChainIDs, c.ID):
		case s.KeyType == "account":
			account = append(account, s)
		case s.KeyType == "" || s.KeyType == "consensus":
			consensus = append(consensus, s)
		default:
			return fmt.Errorf("the key %s is of the unknown type %q", s.Path, s.KeyType)
		}
	}
	found, as := consensus, pubkey.Ed25519
	if len(found) == 0 {
		found, as = account, pubkey.Secp256k1
	} else if len(account) > 0 {
		c.warn("the account key %s is not taken over: privyseal signs blocks only", resolve(dir, account[0].Path))
	}
	switch {
	case len(found) == 0 && (cfg.Providers.YubiHSM != nil || cfg.Providers.LedgerTM != nil || cfg.Providers.FortanixDSM != nil):
		return fmt.Errorf("the key of chain %s is in a device (yubihsm, ledgertm or fortanixdsm): this release takes over softsign keys, the devices come with a later one", c.ID)
	case len(found) == 0:
		return fmt.Errorf("the chain %s has no [[providers.softsign]]", c.ID)
	case len(found) > 1:
		return fmt.Errorf("the chain %s has %d keys in [[providers.softsign]], and tmkms allows one", c.ID, len(found))
	}
	c.KeyFile = resolve(dir, found[0].Path)
	var err error
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
// warning each.
func (in *Installation) decodeTOML(path string, v any) error {
	data, _, err := regular.Read(path, maxConfigSize)
	if err != nil {
		return err
	}
	err = toml.NewDecoder(strings.NewReader(string(data))).DisallowUnknownFields().Decode(v)
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) {
		for _, e := range unknown.Errors {
			line, _ := e.Position()
			in.warn("%s:%d: the key %s is unknown and was left out", path, line, strings.Join(e.Key(), "."))
		}
		return nil
	}
	if mistake := (*toml.DecodeError)(nil); errors.As(err, &mistake) {
		line, _ := mistake.Position()
		return fmt.Errorf("%s:%d: %w", path, line, err)
	}
	return err
}
