package yubihsm

import (
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	hsm "privyseal/yubihsm"
)

// reach are the flags by which a command of `privyseal yubihsm` gets to devices: which ones,
// and who it is there.
type reach struct {
	app     *cli.App
	section string // the NAME of a [yubihsm.NAME]
	device  string
	login
}

// add adds the flags. role is an authentication key that can do what the command does.
func (r *reach) add(app *cli.App, cmd *cobra.Command, role string) {
	r.app = app
	fl := cmd.Flags()
	fl.StringVar(&r.section, "yubihsm", "", "name of the [yubihsm.NAME] in the config whose devices are meant (default: the only one)")
	fl.StringVar(&r.device, "device", "", "http://HOST:PORT of a yubihsm-connector, or usb://SERIAL (default: the devices of [yubihsm.NAME])")
	fl.Uint16Var(&r.id, "auth-key", 0, "object id of "+role)
	fl.StringVar(&r.file, "password-file", "", "file with its password, mode 0600")
}

// logged refuses flags without an authentication key: that of the signer may only sign.
func (r *reach) logged() error {
	switch {
	case r.id == 0:
		return cli.Usagef("--auth-key is missing: the object id of an authentication key that may do this, 2 on a device that tmkms has set up")
	case r.file == "":
		return cli.Usagef("--password-file is missing: a file with the password of authentication key 0x%04x", r.id)
	}
	return nil
}

// set returns the config's [yubihsm.NAME], nil if there is none, and the signer's own
// authentication key.
func (r *reach) set() (s *Set, own login, err error) {
	c, err := r.app.ExistingConfig()
	if err != nil {
		return nil, own, err
	}
	sections := map[string]config.Section{}
	if c != nil {
		sections = c.Tables[table]
	}
	name := r.section
	switch names := slices.Sorted(maps.Keys(sections)); {
	case name != "" && sections[name] == nil:
		return nil, own, cli.Usagef("--yubihsm: there is no [%s.%s] in a config of this home", table, name)
	case name == "" && len(names) > 1:
		return nil, own, cli.Usagef("--yubihsm is missing: the config has [%s.NAME] for %q", table, names)
	case len(names) == 0:
		return nil, own, nil
	case name == "":
		name = names[0]
	}
	s = sections[name].(*Set)
	return s, s.login(c.Path), nil
}

// devices returns the addresses of the devices that are meant.
func (r *reach) devices() ([]string, error) {
	if r.device != "" {
		return []string{r.device}, isAddress("device", r.device)
	}
	s, _, err := r.set()
	if err == nil && s == nil {
		err = cli.Usagef("--device is missing: there is no [%s.NAME] in a config of this home that has one", table)
	}
	if err != nil {
		return nil, err
	}
	return s.Device, nil
}

// isAddress refuses what a flag has that is no address of a device.
func isAddress(flag, address string) error {
	transport, err := hsm.Open(address)
	if err != nil {
		return cli.Usagef("--%s is wrong: %w", flag, err)
	}
	return transport.Close()
}
