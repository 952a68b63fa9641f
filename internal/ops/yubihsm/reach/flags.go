package reach

import (
	"cmp"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	hsm "privyseal/yubihsm"
)

// Place is where a command works: devices, and who it is there.
type Place struct {
	Table   string         // NAME of the [yubihsm.NAME] that has the devices, "" if a flag has them
	Devices []string       // addresses, at least one
	Login   Login          // the signer's own, or what the flags have
	Config  *config.Config // that has the table; nil if a flag has the devices
}

// Chains returns the chains that have their keys there.
func (p Place) Chains() (list []config.Chain) {
	if p.Config == nil {
		return nil
	}
	for _, ch := range p.Config.Chains {
		if ch.Provider == Table && ch.Table == p.Table {
			list = append(list, ch)
		}
	}
	return list
}

// Set returns the table of the config that has the devices, if one has.
func (p Place) Set() (s *Set, ok bool) {
	if p.Config == nil {
		return nil, false
	}
	s, ok = p.Config.Tables[Table][p.Table].(*Set)
	return s, ok
}

// flags are those by which a command says which devices are meant, and who it is there.
type flags struct {
	given Set
	table string // NAME of a [yubihsm.NAME]
	has   func(flag string) bool
}

const (
	deviceFlag   = "device"
	authKeyFlag  = "auth-key"
	passwordFlag = "password-file"
)

func (f *flags) add(cmd *cobra.Command, role, table string) {
	fl := cmd.Flags()
	f.has = fl.Changed
	fl.StringArrayVar(&f.given.Device, deviceFlag, nil, "http://HOST:PORT of a yubihsm-connector, or usb://SERIAL; may be repeated (default: the devices of [yubihsm.NAME])")
	fl.IntVar(&f.given.AuthKey, authKeyFlag, 0, "object id of "+role)
	fl.StringVar(&f.given.PasswordFile, passwordFlag, "", "file with its password, mode 0600")
	fl.StringVar(&f.table, "yubihsm", "", table)
}

// login returns the one that the flags have.
func (f *flags) login() Login {
	return Login{ID: uint16(f.given.AuthKey), File: f.given.PasswordFile}
}

// check finds what is wrong with the values of the flags.
func (f *flags) check() (err error) {
	f.given.check(func(key, wrong string) {
		err = cmp.Or(err, cli.Usagef("--%s %s", cli.OptionFlag("", key), wrong))
	})
	return err
}

// tables returns the tables of a config, in the order of their names.
func tables(c *config.Config) (list []Place) {
	for _, name := range slices.Sorted(maps.Keys(c.Tables[Table])) {
		set := c.Tables[Table][name].(*Set)
		list = append(list, Place{name, set.Device, set.Login(c.Path), c})
	}
	return list
}

// Signer are the flags of a command that does on devices what the signer may do there. It
// works on all devices of the config with the signer's own authentication key, or on those
// that the flags have.
type Signer struct{ flags }

// Add adds the flags.
func (f *Signer) Add(cmd *cobra.Command) {
	f.add(cmd, "our authentication key on the devices of --device", "only the [yubihsm.NAME] of the config; without it all of them")
}

// Places returns where the command works, at least one place. Devices that the flags have
// need no home folder.
func (f *Signer) Places(a *cli.App) ([]Place, error) {
	given, missing := "", ""
	for _, flag := range []string{deviceFlag, authKeyFlag, passwordFlag} {
		if f.has(flag) {
			given = cmp.Or(given, flag)
		} else {
			missing = cmp.Or(missing, flag)
		}
	}
	switch {
	case given == "":
		return f.ofConfig(a)
	case f.table != "":
		return nil, cli.Usagef("--yubihsm is for devices of the config, and --%s for others", given)
	case missing != "":
		return nil, cli.Usagef("--%s is missing: --device, --auth-key and --password-file go together", missing)
	}
	return []Place{{Devices: f.given.Device, Login: f.login()}}, f.check()
}

// ofConfig returns the places of the config.
func (f *Signer) ofConfig(a *cli.App) ([]Place, error) {
	if !a.HomeNamed() {
		return nil, cure.Add(cli.Usagef("no home folder, and no devices"), "add --home DIR, or --device, --auth-key and --password-file")
	}
	c, err := a.Config()
	if err != nil {
		return nil, err
	}
	list := tables(c)
	switch {
	case len(list) == 0:
		return nil, cure.Add(cli.Usagef("there is no [%s.NAME] in %s", Table, config.FileName), "name devices with --device, --auth-key and --password-file")
	case f.table == "":
		return list, nil
	}
	if list = slices.DeleteFunc(list, func(p Place) bool { return p.Table != f.table }); len(list) == 0 {
		err = cli.Usagef("there is no [%s.%s] in %s", Table, f.table, config.FileName)
	}
	return list, err
}

// Administrator are the flags of a command that does on devices what the signer has no right
// to do. They name the authentication key, always; devices may be those of the config.
type Administrator struct {
	flags
	role string
}

// Add adds the flags. role says which authentication key may do it: "an authentication key
// that may …".
func (f *Administrator) Add(cmd *cobra.Command, role string) {
	f.role = role
	f.add(cmd, role, "name of the [yubihsm.NAME] in the config whose devices are meant (default: the only one)")
}

// Named returns the devices that the flags have, none if they are those of the config.
func (f *Administrator) Named() []string { return f.given.Device }

// Check finds what is missing or wrong in the flags alone.
func (f *Administrator) Check() error {
	switch {
	case f.given.AuthKey == 0:
		return cli.Usagef("--auth-key is missing: the object id of %s", f.role)
	case f.given.PasswordFile == "":
		return cli.Usagef("--password-file is missing: a file with the password of authentication key 0x%04x", f.given.AuthKey)
	}
	return f.check()
}

// Place returns where the command works. Devices that the flags have need no home folder.
func (f *Administrator) Place(a *cli.App) (p Place, err error) {
	if err := f.Check(); err != nil {
		return p, err
	}
	if len(f.given.Device) > 0 {
		return Place{Devices: f.given.Device, Login: f.login()}, nil
	}
	if p, err = f.Signer(a); err == nil && p.Config == nil {
		err = cli.Usagef("--device is missing: there is no [%s.NAME] in a config of this home", Table)
	}
	p.Login = f.login()
	return p, err
}

// Signer returns the devices of the config that are meant, with the signer's own
// authentication key, whatever devices the flags have. Without a config, or one that has
// any, it is the zero value.
func (f *Administrator) Signer(a *cli.App) (p Place, err error) {
	c, err := a.ExistingConfig()
	if err != nil {
		return p, err
	}
	var list []Place
	if c != nil {
		list = tables(c)
	}
	i := slices.IndexFunc(list, func(p Place) bool { return p.Table == f.table })
	switch {
	case i >= 0:
		return list[i], nil
	case f.table != "":
		return p, cli.Usagef("--yubihsm: there is no [%s.%s] in a config of this home", Table, f.table)
	case len(list) > 1:
		return p, cli.Usagef("--yubihsm is missing: the config has [%s.NAME] for %q", Table, slices.Sorted(maps.Keys(c.Tables[Table])))
	case len(list) == 0:
		return p, nil
	}
	return list[0], nil
}

// CheckAddress refuses what a flag has that is not an address of a device.
func CheckAddress(flag, address string) error {
	transport, err := hsm.Open(address)
	if err != nil {
		return cli.Usagef("--%s is wrong: %w", flag, err)
	}
	return transport.Close()
}

// AddKeyID adds --key-id, the object id of a key on the devices. The command refuses 0 by
// [NeedKeyID].
func AddKeyID(cmd *cobra.Command, id *uint16) {
	cmd.Flags().Uint16Var(id, "key-id", 0, "object id of the key on the device, as in 0x0001")
}

// NeedKeyID refuses a --key-id that was not given.
func NeedKeyID(id uint16) error {
	if id == 0 {
		return cli.Usagef("--key-id is missing: the object id of the key, 1 to 65535")
	}
	return nil
}
