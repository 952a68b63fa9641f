// Package reach is how the operator's commands get to YubiHSM 2 devices: the tables of the
// config that name them, the flags by which a command says which ones it means and who it
// is there, sessions, what a device's refusal means, and signatures that are no votes.
//
// It makes and changes nothing on a device. It trusts a device with nothing but that it is
// there: keys are compared, and signatures verified, by those who use it.
package reach

import (
	"fmt"
	"math"
	"net/url"
	"slices"

	"privyseal/internal/config"
	"privyseal/internal/dial"
	hsm "privyseal/yubihsm"
)

// Table is the first name of [yubihsm.NAME], and the key by which a chain names one. The
// provider has the same name.
const Table = "yubihsm"

// Set is one device, or several that hold the same keys, and who the signer is there. It
// is a [config.Section].
type Set struct {
	Device       []string // addresses
	AuthKey      int      // object id of the signer's authentication key
	PasswordFile string   // path relative to the folder of the config file
	AuditDir     string   // likewise; "" leaves the logs of the devices alone
}

// AuditKey is the only key that may be absent.
const AuditKey = "audit_dir"

// Options are the keys of [yubihsm.NAME].
var Options = config.Options[Set]{
	{Name: "device", Of: func(s *Set) any { return &s.Device }, Required: true, Comment: "http://HOST:PORT of a yubihsm-connector, or usb://SERIAL; several that hold the same keys stand in for each other"},
	{Name: "auth_key", Of: func(s *Set) any { return &s.AuthKey }, Required: true, Comment: "object id of our authentication key, the same on all devices"},
	{Name: "password_file", Of: func(s *Set) any { return &s.PasswordFile }, Required: true, Path: true, Comment: "file with its password, mode 0600"},
	{Name: AuditKey, Of: func(s *Set) any { return &s.AuditDir }, Path: true, Comment: "folder that the signer drains the devices' logs into, and checks them; without it they are left alone",
		More: "It takes an authentication key with the capability `get-log-entries`. `privyseal yubihsm audit` reads the folder."},
}

// Kind is what a config has of YubiHSMs.
func Kind() config.Kind {
	return config.Kind{Table: Table, Noun: "a set of YubiHSMs", Keys: Options.Keys(), Decode: decode}
}

func decode(values map[string]any, fail func(key, wrong string)) config.Section {
	s := &Set{}
	Options.Decode(s, values, fail)
	return s
}

// Fill implements [config.Section].
func (s *Set) Fill(written func(key string) bool) { Options.Fill(s, written) }

// Check implements [config.Section].
func (s *Set) Check(written func(key string) bool, fail func(key, wrong string)) {
	if Options.Check(s, written, fail) {
		s.check(fail)
	}
}

// check finds what is wrong with values that are there.
func (s *Set) check(fail func(key, wrong string)) {
	if s.AuthKey < 1 || s.AuthKey > math.MaxUint16 {
		fail("auth_key", fmt.Sprintf("is not from 1 to %d", math.MaxUint16))
	}
	for i, address := range s.Device {
		transport, err := hsm.Open(address)
		switch {
		case err != nil:
			fail("device", "is wrong: "+err.Error())
			continue
		case slices.Contains(s.Device[:i], address):
			fail("device", fmt.Sprintf("has %q twice", address))
		}
		transport.Close()
	}
}

// Secret implements [config.Section]: the password is in a file of its own.
func (s *Set) Secret() (key string, secret bool) { return Options.Secret(s) }

// Render implements [config.Section].
func (s *Set) Render(w *config.Lines) { Options.Render(s, w) }

// SetOf returns the devices of a chain. The config was checked, so that there are some.
func SetOf(c *config.Config, ch config.Chain) (*Set, error) {
	if s, ok := c.Tables[Table][ch.Table].(*Set); ok {
		return s, nil
	}
	return nil, fmt.Errorf("there is no [%s.%s]", Table, ch.Table)
}

// Audit returns the folder that the logs of the devices are drained into, "" if they are
// left alone. path returns where a path of the config lies.
func (s *Set) Audit(path func(string) string) string {
	if s.AuditDir == "" {
		return ""
	}
	return path(s.AuditDir)
}

// Login returns who the signer is on the devices. path returns where a path of the config
// lies.
func (s *Set) Login(path func(string) string) Login {
	return Login{ID: uint16(s.AuthKey), File: path(s.PasswordFile)}
}

// IsOpen reports whether others than this host reach the device at an address.
func IsOpen(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Scheme != "usb" && !dial.IsLoopback(u.Hostname())
}
