package yubihsm

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/provider"
)

// place is where a command works: devices with the same keys, and who we are there.
type place struct {
	table   string // NAME of [yubihsm.NAME], "" for devices that were given
	devices []string
	login   login
	chains  []config.Chain // that have their keys there
	config  *config.Config // of the chains
}

// places are the flags that say where a command works: on devices that are given, or else
// on those of the config.
type places struct {
	given Set
	name  string
	set   func(flag string) bool
}

func (p *places) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	p.set = fl.Changed
	cli.AddOptions(fl, "", options, &p.given)
	fl.StringVar(&p.name, "yubihsm", "", "only the [yubihsm.NAME] of the config; without it all of them")
}

// find returns the places. Given devices need no home folder.
func (p *places) find(a *provider.House) ([]place, error) {
	given, missing := "", ""
	for _, op := range options {
		flag := cli.OptionFlag("", op.Name)
		if p.set(flag) {
			given = cmp.Or(given, flag)
		} else {
			missing = cmp.Or(missing, flag)
		}
	}
	switch {
	case given == "":
		return p.ofConfig(a)
	case p.name != "":
		return nil, cli.Usagef("--yubihsm is for devices of the config, and --%s for others", given)
	case missing != "":
		return nil, cli.Usagef("--%s is missing: --device, --auth-key and --password-file go together", missing)
	}
	var err error
	p.given.check(func(key, wrong string) {
		err = cmp.Or(err, cli.Usagef("--%s %s", cli.OptionFlag("", key), strings.ReplaceAll(wrong, "_", "-")))
	})
	return []place{{devices: p.given.Device, login: login{id: uint16(p.given.AuthKey), file: p.given.PasswordFile}}}, err
}

// ofConfig returns those of the config, in the order of their names.
func (p *places) ofConfig(a *provider.House) (list []place, err error) {
	if !a.HomeNamed() {
		return nil, cure.Add(cli.Usagef("no home folder, and no devices"), "add --home DIR, or --device, --auth-key and --password-file")
	}
	c, err := a.Config()
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(c.Tables[table])) {
		if p.name != "" && name != p.name {
			continue
		}
		set := c.Tables[table][name].(*Set)
		list = append(list, place{name, set.Device, set.login(c.Path), chainsOf(c, name), c})
	}
	switch {
	case len(list) == 0 && p.name != "":
		return nil, cli.Usagef("there is no [%s.%s] in %s", table, p.name, config.FileName)
	case len(list) == 0:
		return nil, cure.Add(cli.Usagef("there is no [%s.NAME] in %s", table, config.FileName), "name devices with --device, --auth-key and --password-file")
	}
	return list, nil
}

// chainsOf returns the chains whose keys are on the devices of a table.
func chainsOf(c *config.Config, name string) (list []config.Chain) {
	for _, ch := range c.Chains {
		if ch.Provider == table && ch.Table == name {
			list = append(list, ch)
		}
	}
	return list
}
