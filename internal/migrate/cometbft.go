package migrate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/pelletier/go-toml/v2"

	"privyseal/internal/cure"
	"privyseal/internal/regular"
	"privyseal/internal/session"
)

// cometConfig is what concerns us in a node's config.toml; v0.34 to v2 name it
// alike (config/config.go, BaseConfig).
type cometConfig struct {
	DBDir     string `toml:"db_dir"`
	Genesis   string `toml:"genesis_file"`
	KeyFile   string `toml:"priv_validator_key_file"`
	StateFile string `toml:"priv_validator_state_file"`
	Laddr     string `toml:"priv_validator_laddr"`
}

// readCometBFT reads the home of a node.
func readCometBFT(path string) (*Installation, error) {
	home := path
	if _, err := os.Stat(filepath.Join(home, "config", "config.toml")); err != nil && filepath.Base(path) == "config" {
		home = filepath.Dir(path)
	}
	configFile := filepath.Join(home, "config", "config.toml")
	cfg := cometConfig{
		DBDir:     "data",
		Genesis:   "config/genesis.json",
		KeyFile:   "config/priv_validator_key.json",
		StateFile: "data/priv_validator_state.json",
	}
	data, _, err := regular.Read(configFile, maxConfigSize)
	if err != nil {
		return nil, fmt.Errorf("this is not the home of a node: %w", err)
	}
	if err := toml.Unmarshal(data, &cfg); err != nil {
		return nil, fmt.Errorf("%s: %w", configFile, err)
	}
	if cfg.Laddr == "" {
		if pid, running := lockHolder(resolve(home, cfg.DBDir)); running {
			return nil, &LiveError{Path: home, Detail: fmt.Sprintf("is in use by process %d", pid)}
		}
	}

	in := &Installation{}
	c := Chain{
		KeyFile:    resolve(home, cfg.KeyFile),
		StateFile:  resolve(home, cfg.StateFile),
		parseState: parseFilePVState,
	}
	if c.ID, err = genesisChainID(resolve(home, cfg.Genesis)); err != nil {
		return nil, err
	}
	if c.Key, err = readKey(c.KeyFile, ""); err != nil {
		return nil, err
	}
	if err := c.listen(in, cfg.Laddr, home, configFile); err != nil {
		return nil, err
	}
	in.Chains = []Chain{c}
	return in, nil
}

// listen finds out where the node will listen for us.
func (c *Chain) listen(in *Installation, laddr, home, configFile string) error {
	if laddr == "" {
		addr := "unix://" + filepath.Join(home, "privval.sock")
		if _, err := session.ParseAddr(addr); err != nil { // too long for a socket
			addr = "tcp://127.0.0.1:26659"
		}
		in.before = []string{
			fmt.Sprintf("Stop the node of %s, and every other node that has a copy of its key; they must stay down until the next step is done.", home),
			fmt.Sprintf("In %s write priv_validator_laddr = %q: the node then signs with privyseal, and no longer with the key in its own folder.", configFile, addr),
		}
		return c.connect(connection{addr: addr, listens: addr})
	}
	in.before = []string{"Stop every other signer of this key, and keep it from starting again (systemctl disable): it and privyseal must never run at the same time."}
	c.warn("priv_validator_laddr is set in %s, so the node itself has not signed since then: make sure that no other signer has, or migrate that one instead", configFile)
	if strings.HasPrefix(laddr, "noise://") {
		return cure.Add(fmt.Errorf("the node listens at %s for the one signer whose peer id that is", laddr), "migrate that signer instead, or write priv_validator_laddr for privyseal first")
	}
	addr, err := dialAddr(laddr)
	if err != nil {
		return err
	}
	if addr != laddr {
		c.warn("the node listens at %s; from its own host that is %s", laddr, addr)
	}
	return c.connect(connection{addr: addr, listens: laddr})
}

// dialAddr returns where on the same host to dial what listens at laddr.
func dialAddr(laddr string) (string, error) {
	if strings.HasPrefix(laddr, "unix://") {
		return laddr, nil
	}
	host, port, err := net.SplitHostPort(strings.TrimPrefix(laddr, "tcp://"))
	if err != nil {
		return "", fmt.Errorf("cannot read priv_validator_laddr: %w", err)
	}
	switch ip := net.ParseIP(host); {
	case host == "" || ip.Equal(net.IPv4zero):
		host = "127.0.0.1"
	case ip.Equal(net.IPv6zero):
		host = "::1"
	}
	return "tcp://" + net.JoinHostPort(host, port), nil
}

// genesisChainID returns the chain_id of a genesis file. These can have
// gigabytes, so nothing else is kept.
func genesisChainID(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("the node's genesis names the chain: %w", err)
	}
	defer f.Close()
	d := json.NewDecoder(f)
	d.UseNumber()
	id, err := findChainID(d)
	if err != nil {
		return "", fmt.Errorf("cannot read the genesis %s: %w", path, err)
	}
	return id, nil
}

// findChainID returns the chain_id of the object that d reads next, which must
// stand in it once.
func findChainID(d *json.Decoder) (id string, err error) {
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return "", errors.New("it is not a JSON object")
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return "", err
		}
		name, _ := key.(string)
		switch {
		case !strings.EqualFold(name, "chain_id"):
			err = skipValue(d)
		case id != "":
			return "", errors.New("it has two chain_ids")
		default:
			if err = d.Decode(&id); err != nil || id == "" {
				return "", errors.New("its chain_id is not a string")
			}
		}
		if err != nil {
			return "", err
		}
	}
	if id == "" {
		return "", errors.New("it has no chain_id")
	}
	return id, nil
}

// skipValue reads past one value without keeping it.
func skipValue(d *json.Decoder) error {
	for depth := 0; ; {
		t, err := d.Token()
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}

// lockHolder returns the process that holds the lock of one of the databases
// in dir, as a running node does. It asks Linux; elsewhere nobody holds any.
// Taking the lock ourselves could make a starting node fail.
func lockHolder(dir string) (pid int, held bool) {
	files, err := filepath.Glob(filepath.Join(dir, "*.db", "LOCK"))
	if err != nil {
		return 0, false
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return 0, false
	}
	ids := map[string]bool{}
	for _, name := range files {
		if info, err := os.Stat(name); err == nil {
			ids[lockID(info)] = true
		}
	}
	// 1: FLOCK  ADVISORY  WRITE 1234 08:01:131077 0 EOF
	for line := range bytes.Lines(locks) {
		fields := strings.Fields(string(line))
		if len(fields) >= 6 && ids[fields[5]] {
			pid, _ = strconv.Atoi(fields[4])
			return pid, true
		}
	}
	return 0, false
}

// lockID names a file as /proc/locks does: device and inode.
func lockID(info os.FileInfo) string {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	dev := uint64(stat.Dev)
	major := dev>>8&0xfff | dev>>32&^0xfff
	minor := dev&0xff | dev>>12&^0xff
	return fmt.Sprintf("%02x:%02x:%d", major, minor, stat.Ino)
}
