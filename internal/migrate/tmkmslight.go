package migrate

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"privyseal/internal/cure"
	"privyseal/internal/migrate/lightsgx"
	"privyseal/internal/pubkey"
	"privyseal/internal/regular"
)

// lightConfig is the tmkms.toml of tmkms-light: the one of its software signer
// (providers/softsign/src/config.rs), and of its enclaves as much as shows
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

	// Nitro (providers/nitro/nitro-helper/src/config.rs).
	SealedIDKeyFile string `toml:"sealed_id_key_path"`
	Region          string `toml:"aws_region"`
	CID             uint32 `toml:"enclave_config_cid"`
	ConfigPort      uint32 `toml:"enclave_config_port"`
	StatePort       uint32 `toml:"enclave_state_port"`
	NodePort        uint32 `toml:"enclave_tendermint_conn"`
	Credentials     any    `toml:"credentials"`
}

// readTMKMSLight reads the tmkms.toml of tmkms-light.
func readTMKMSLight(path string, backup lightsgx.Files) (*Installation, error) {
	path = fileIn(path, "tmkms.toml")
	in := &Installation{before: []string{stopFor("tmkms-light (tmkms-softsign)")}}
	var cfg lightConfig
	if err := in.decodeTOML(path, &cfg, ""); err != nil {
		return nil, err
	}
	if err := cfg.check(path); err != nil {
		return nil, err
	}
	switch {
	case cfg.EnclavePath != "":
		return in.readSGX(&cfg, filepath.Dir(path), backup)
	case backup != (lightsgx.Files{}):
		return nil, errors.New("its key is not in an SGX enclave, so that no backup of one is needed")
	case cfg.SealedKeyFile != "":
		return in.readNitro(&cfg, filepath.Dir(path))
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

// check distinguishes the software signer from the enclaves and looks for what is
// needed.
func (cfg *lightConfig) check(path string) error {
	switch {
	case cfg.Address == "" && cfg.ChainID == "" && cfg.KeyFile == "":
		return cure.Add(fmt.Errorf("%s is not a config of tmkms-light", path), "if it has [[chain]], it is one of tmkms: %s", cure.Command("privyseal", "migrate", "tmkms", path))
	}
	key := [2]string{"consensus_key_path", cfg.KeyFile}
	switch {
	case cfg.EnclavePath != "":
		key = [2]string{"sealed_consensus_key_path", cfg.SealedKeyFile}
	case cfg.SealedKeyFile != "":
		key = [2]string{"aws_region", cfg.Region}
	}
	for _, needed := range [][2]string{
		{"address", cfg.Address},
		{"chain_id", cfg.ChainID},
		key,
		{"state_file_path", cfg.StateFile},
	} {
		if needed[1] == "" {
			return fmt.Errorf("%s has no %s", path, needed[0])
		}
	}
	if cfg.IDKeyFile == "" && cfg.SealedKeyFile == "" && !strings.HasPrefix(cfg.Address, "unix://") {
		return fmt.Errorf("%s has a tcp address, and no id_key_path", path)
	}
	return nil
}

// maxCiphertext bounds a CiphertextBlob of KMS in bytes.
const maxCiphertext = 6144

// readNitro reads what the host of tmkms-light's enclave has. The key is a
// ciphertext of KMS without an encryption context, and its public half stands
// nowhere.
func (in *Installation) readNitro(cfg *lightConfig, dir string) (*Installation, error) {
	in.before = []string{
		"Stop tmkms-light on every host that has it, and keep it from starting again (systemctl disable): its helper (tmkms-nitro-helper), its vsock-proxy, and the enclave, which still holds the key: `nitro-cli terminate-enclave --enclave-id ID`. It and privyseal must never run at the same time.",
	}
	c := Chain{
		ID:         cfg.ChainID,
		KeyFile:    resolve(dir, cfg.SealedKeyFile),
		StateFile:  resolve(dir, cfg.StateFile),
		Region:     cfg.Region,
		parseState: parseTMKMSState,
	}
	var err error
	if c.KMS, _, err = regular.Read(c.KeyFile, maxCiphertext); err != nil {
		return nil, fmt.Errorf("the wrapped key of chain %s: %w", c.ID, err)
	}
	if len(c.KMS) == 0 {
		return nil, fmt.Errorf("the wrapped key of chain %s, %s, is empty", c.ID, c.KeyFile)
	}
	maxHeight, err := parseMaxHeight(cfg.MaxHeight)
	if err != nil {
		return nil, err
	}
	if err := c.connect(connection{addr: tmkmsAddr(cfg.Address)}); err != nil {
		return nil, err
	}
	if maxHeight != 0 {
		c.warn("max_height %d belongs in the measured policy now: `privyseal nitro image-policy --max-height %d`", maxHeight, maxHeight)
	}
	if !strings.HasPrefix(cfg.Address, "unix://") {
		c.warn("tmkms-light did not dial %s, a vsock-proxy did; make sure that it is the node's address", c.Nodes[0].Addr)
		c.warn("the enclave makes a new identity; a node that pins the signer's id needs the new one")
	}
	if cfg.Credentials != nil {
		in.warn("its AWS credentials were not taken over: give the instance a role, or write them into [enclave.NAME.credentials]")
	}
	in.warn("not taken over, because privyseal has no such settings: enclave_config_port, enclave_state_port, enclave_tendermint_conn; eif_path, log_server_port and [vsock_proxy] of enclave.toml")
	in.readEnclaveBeside(cfg, filepath.Join(dir, "enclave.toml"))
	in.Chains = []Chain{c}
	return in, nil
}

// readEnclaveBeside reads the enclave.toml that `tmkms-nitro-helper init` puts
// beside tmkms.toml. Without it the installation is whole all the same.
func (in *Installation) readEnclaveBeside(cfg *lightConfig, path string) {
	in.Enclave = &Enclave{configCID: cfg.CID, region: cfg.Region}
	err := in.ReadEnclave(path)
	if err == nil {
		return
	}
	in.Enclave.takeCID(0)
	if !errors.Is(err, fs.ErrNotExist) {
		in.Enclave.warn("%v", err)
	}
}

// readSGX reads what the runner of tmkms-light's SGX enclave has
// (providers/sgx/sgx-runner/src/config.rs). The key comes out of its backup, if there is one
// and somebody has the key of that: what the enclave sealed is of no use to others.
func (in *Installation) readSGX(cfg *lightConfig, dir string, backup lightsgx.Files) (*Installation, error) {
	in.before = []string{
		"Stop tmkms-light (tmkms-light-sgx-runner) on every host that has it, and keep it from starting again (systemctl disable). It and privyseal must never run at the same time.",
	}
	c := Chain{
		ID: cfg.ChainID, KeyFile: backup.Backup, StateFile: resolve(dir, cfg.StateFile), parseState: parseTMKMSState,
	}
	n := connection{addr: tmkmsAddr(cfg.Address)}
	var err error
	if n.maxHeight, err = parseMaxHeight(cfg.MaxHeight); err != nil {
		return nil, err
	}
	if c.Key, err = backup.Open(); err != nil {
		return nil, err
	}
	if err := c.connect(n); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(cfg.Address, "unix://") {
		c.warn("a new identity is made, since only the enclave can read the old one; a node that pins the signer's id needs the new one")
	}
	c.warn("whoever has had the key of the backup, or ran tmkms-light's init, may have the validator's key")
	in.warn("the sealed files stay as they are: %s; they open in that enclave as long as its CPU is as it was, so delete them when privyseal signs", filepath.Join(dir, cfg.SealedKeyFile))
	in.Chains = []Chain{c}
	return in, nil
}
