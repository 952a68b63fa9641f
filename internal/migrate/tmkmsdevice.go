package migrate

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"privyseal/internal/cure"
	"privyseal/internal/shell"
)

// readDevice reads the one device that tmkms has, nil for none.
func (in *Installation) readDevice(path string, cfg *tmkmsConfig) (*Device, error) {
	list := cfg.Providers.YubiHSM
	switch {
	case len(list) == 0:
		return nil, nil
	case len(list) > 1:
		return nil, fmt.Errorf("%s has %d [[providers.yubihsm]], and tmkms allows one", path, len(list))
	}
	hsm := list[0]
	d := &Device{}
	var err error
	if d.Address, err = hsm.address(); err == nil {
		err = hsm.login(filepath.Dir(path), d)
	}
	if err == nil {
		err = hsm.checkKeys(cfg)
	}
	if err != nil {
		return nil, fmt.Errorf("[[providers.yubihsm]] in %s: %w", path, err)
	}
	if d.PasswordFile == "" {
		in.warn("the password of the YubiHSM is still in %s, in plain text", path)
		d.PasswordFile = path
	}
	if s := hsm.ConnectorServer; s != nil {
		in.warn("connector_server is not taken over: privyseal does not share its device with other programs; if others use it on %s, run yubihsm-connector for them and for privyseal", s.Laddr)
	}
	return d, nil
}

// address returns where the device is.
func (hsm *tmkmsYubiHSM) address() (string, error) {
	switch a := hsm.Adapter; {
	case a == nil:
		return "", errors.New(`it has no adapter, which is { type = "usb" } or { type = "http", addr = "tcp://HOST:PORT" }`)
	case a.Type == "usb" && a.Addr == "":
		return hsm.usbAddress()
	case a.Type == "http" && a.TimeoutMS == 0:
		return connectorAddress(a.Addr)
	case a.Type == "usb":
		return "", errors.New("its adapter is of the type usb, and has an addr")
	case a.Type == "http":
		return "", errors.New("its adapter is of the type http, and has a timeout_ms")
	default:
		return "", fmt.Errorf("its adapter is of the unknown type %.40q", a.Type)
	}
}

// serialDigits is how long a serial number is that tmkms has written out.
const serialDigits = 10

// usbAddress returns the address of a device by its serial number; without one tmkms
// takes the only device.
func (hsm *tmkmsYubiHSM) usbAddress() (string, error) {
	s := hsm.SerialNumber
	if s == "" {
		return "usb://", nil
	}
	if n, err := strconv.ParseUint(s, 10, 32); err == nil && len(s) <= serialDigits {
		return fmt.Sprintf("usb://%0*d", serialDigits, n), nil
	}
	return "", fmt.Errorf("its serial_number %.40q is not a serial number: one has %d digits", s, serialDigits)
}

// connectorAddress returns the address of a yubihsm-connector, which tmkms writes as
// one of tcp, and reaches by HTTP.
func connectorAddress(addr string) (string, error) {
	hostPort := strings.TrimPrefix(addr, "tcp://")
	if i := strings.LastIndexByte(hostPort, '@'); i >= 0 { // a node id, which tmkms ignores
		hostPort = hostPort[i+1:]
	}
	u, err := url.Parse("http://" + hostPort)
	if err == nil && u.Host == hostPort && u.Hostname() != "" { // and nothing else
		if port, err := strconv.ParseUint(u.Port(), 10, 16); err == nil && port != 0 {
			return u.String(), nil
		}
	}
	return "", fmt.Errorf("the addr %.80q of its adapter is not tcp://HOST:PORT, where yubihsm-connector listens", addr)
}

// login reads who tmkms is on the device.
func (hsm *tmkmsYubiHSM) login(dir string, d *Device) error {
	a := hsm.Auth
	switch {
	case a == nil || a.Key == 0:
		return errors.New("it has no auth with a key: which authentication key, and its password")
	case a.PasswordFile == "" && a.Password.Reveal() == "":
		return errors.New("its auth has neither password_file nor password")
	case a.PasswordFile != "" && a.Password.Reveal() != "":
		return errors.New("its auth has both password_file and password, and tmkms allows one")
	}
	d.AuthKey, d.Password, d.PasswordFile = a.Key, a.Password, resolve(dir, a.PasswordFile)
	return nil
}

// checkKeys finds what is wrong with the list of keys alone.
func (hsm *tmkmsYubiHSM) checkKeys(cfg *tmkmsConfig) error {
	for _, k := range hsm.Keys {
		name := objectName(k.Key)
		switch {
		case k.Key == 0:
			return errors.New("one of its keys has no key, which is its object id")
		case len(k.ChainIDs) == 0:
			return fmt.Errorf("its key %s has no chain_ids", name)
		case !slices.Contains([]string{"", "account", "consensus"}, k.Type):
			return fmt.Errorf("its key %s is of the unknown type %.40q", name, k.Type)
		}
		for i, id := range k.ChainIDs {
			switch {
			case slices.Contains(k.ChainIDs[:i], id):
				return fmt.Errorf("its key %s names the chain %q twice", name, id)
			case !cfg.has(id):
				return fmt.Errorf("its key %s names the chain %q, and there is no such [[chain]]", name, id)
			}
		}
	}
	return nil
}

// deviceKeys returns the keys of a chain in the YubiHSM.
func (cfg *tmkmsConfig) deviceKeys(chainID string) (list []tmkmsKey) {
	for _, hsm := range cfg.Providers.YubiHSM {
		for _, k := range hsm.Keys {
			if slices.Contains(k.ChainIDs, chainID) {
				list = append(list, tmkmsKey{isAccount: k.Type == "account", id: k.Key, name: objectName(k.Key) + " in the YubiHSM"})
			}
		}
	}
	return list
}

// elsewhere says what becomes of a chain whose key is where privyseal cannot have it, or
// nil.
func (cfg *tmkmsConfig) elsewhere(chainID string) error {
	for _, l := range cfg.Providers.LedgerTM {
		if slices.Contains(l.ChainIDs, chainID) {
			return cure.Add(fmt.Errorf("the key of chain %s is in a Ledger, which cannot export it, and whose validator app is no longer maintained", chainID),
				"make a new key, and register it with the chain in place of the old one, before you switch the Ledger off: %s",
				cure.Command("privyseal", "init", "--chain-id", chainID, "--node", "ADDR"))
		}
	}
	for _, f := range cfg.Providers.FortanixDSM {
		for _, k := range f.SigningKeys {
			if slices.Contains(k.ChainIDs, chainID) {
				return cure.Add(fmt.Errorf("the key %s of chain %s is in Fortanix DSM at %s, which privyseal does not sign with", shell.Line(cmp.Or(k.KeyName, k.KeyID)), chainID, shell.Line(f.Endpoint)),
					"if Fortanix lets the key be exported, import it, with the state of tmkms; if not, make a new key without --import-key, and register it with the chain: %s",
					cure.Command("privyseal", "init", "--chain-id", chainID, "--node", "ADDR", "--import-key", "FILE", "--import-state", "STATE"))
			}
		}
	}
	return nil
}
