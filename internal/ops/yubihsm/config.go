// Package yubihsm is the provider whose keys YubiHSM 2 devices sign with: what the operator
// has of it.
package yubihsm

import (
	"fmt"
	"math"
	"net"
	"net/url"
	"slices"

	"privyseal/internal/config"
	hsm "privyseal/yubihsm"
)

// table is the first name of [yubihsm.NAME], and the key by which a chain names one.
const table = "yubihsm"

// Set is one device, or several that hold the same keys, and who we are there.
type Set struct {
	Device       []string // addresses
	AuthKey      int      // object id of our authentication key
	PasswordFile string   // path relative to the folder of the config file
}

// options are the keys of [yubihsm.NAME].
var options = config.Options[Set]{
	{Name: "device", Of: func(s *Set) any { return &s.Device }, Required: true, Comment: "http://HOST:PORT of a yubihsm-connector, or usb://SERIAL; several that hold the same keys stand in for each other"},
	{Name: "auth_key", Of: func(s *Set) any { return &s.AuthKey }, Required: true, Comment: "object id of our authentication key, the same on all devices"},
	{Name: "password_file", Of: func(s *Set) any { return &s.PasswordFile }, Required: true, Path: true, Comment: "file with its password, mode 0600"},
}

// Kind is what a config has of YubiHSMs.
func Kind() config.Kind {
	return config.Kind{Table: table, Noun: "a set of YubiHSMs", Keys: options.Keys(), Decode: decode}
}

func decode(values map[string]any, fail func(key, wrong string)) config.Section {
	s := &Set{}
	options.Decode(s, values, fail)
	return s
}

// Fill implements [config.Section].
func (s *Set) Fill(written func(key string) bool) { options.Fill(s, written) }

// Check implements [config.Section].
func (s *Set) Check(written func(key string) bool, fail func(key, wrong string)) {
	if options.Check(s, written, fail) {
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
func (s *Set) Secret() (key string, secret bool) { return options.Secret(s) }

// Render implements [config.Section].
func (s *Set) Render(w *config.Lines) { options.Render(s, w) }

// setOf returns the devices of a chain. The config was checked, so that there are some.
func setOf(c *config.Config, ch config.Chain) (*Set, error) {
	if s, ok := c.Tables[table][ch.Table].(*Set); ok {
		return s, nil
	}
	return nil, fmt.Errorf("there is no [%s.%s]", table, ch.Table)
}

// login returns who we are on the devices. path returns where a path of the config lies.
func (s *Set) login(path func(string) string) login {
	return login{id: uint16(s.AuthKey), file: path(s.PasswordFile)}
}

// isOpen reports whether others than this host reach the device at an address.
func isOpen(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Scheme == "usb" || u.Hostname() == "localhost" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return ip == nil || !ip.IsLoopback()
}
