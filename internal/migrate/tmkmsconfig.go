package migrate

import (
	"slices"

	"privyseal/internal/secret"
)

// tmkmsConfig is the tmkms.toml of tmkms (src/config/, v0.15).
type tmkmsConfig struct {
	Chain     []tmkmsChain     `toml:"chain"`
	Validator []tmkmsValidator `toml:"validator"`
	Providers struct {
		Softsign    []tmkmsSoftsign `toml:"softsign"`
		YubiHSM     []tmkmsYubiHSM  `toml:"yubihsm"`
		LedgerTM    []tmkmsLedger   `toml:"ledgertm"`
		FortanixDSM []tmkmsFortanix `toml:"fortanixdsm"`
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

// tmkmsYubiHSM is [[providers.yubihsm]] of tmkms (src/config/provider/yubihsm.rs).
type tmkmsYubiHSM struct {
	Adapter         *tmkmsAdapter         `toml:"adapter"`
	Auth            *tmkmsAuth            `toml:"auth"`
	Keys            []tmkmsDeviceKey      `toml:"keys"`
	SerialNumber    string                `toml:"serial_number"`
	ConnectorServer *tmkmsConnectorServer `toml:"connector_server"`
}

type tmkmsAdapter struct {
	Type      string `toml:"type"`
	Addr      string `toml:"addr"`
	TimeoutMS uint64 `toml:"timeout_ms"` // of USB
}

type tmkmsAuth struct {
	Key          uint16      `toml:"key"`
	Password     secret.Text `toml:"password"`
	PasswordFile string      `toml:"password_file"`
}

type tmkmsDeviceKey struct {
	ChainIDs []string `toml:"chain_ids"`
	Key      uint16   `toml:"key"`
	Type     string   `toml:"type"`
}

type tmkmsConnectorServer struct {
	Laddr string `toml:"laddr"`
	CLI   struct {
		AuthKey uint16 `toml:"auth_key"`
	} `toml:"cli"`
}

type tmkmsLedger struct {
	ChainIDs []string `toml:"chain_ids"`
}

type tmkmsFortanix struct {
	Endpoint    string      `toml:"api_endpoint"`
	APIKey      secret.Text `toml:"api_key"`
	SigningKeys []struct {
		ChainIDs []string `toml:"chain_ids"`
		KeyID    string   `toml:"key_id"`
		KeyName  string   `toml:"key_name"`
		Type     string   `toml:"type"`
	} `toml:"signing_keys"`
}

// has reports whether there is a [[chain]] with an id.
func (cfg *tmkmsConfig) has(chainID string) bool {
	return slices.ContainsFunc(cfg.Chain, func(c tmkmsChain) bool { return c.ID == chainID })
}

// tmkmsKey is a key that may be the one of a chain.
type tmkmsKey struct {
	name      string // in messages
	isAccount bool
	path      string // of its file; "" for a key in the YubiHSM
	id        uint16 // there
}
