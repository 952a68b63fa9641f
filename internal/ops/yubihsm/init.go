package yubihsm

import (
	"cmp"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/home"
	"privyseal/internal/key/soft/keyfile"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	hsm "privyseal/yubihsm"
)

// Init is what `privyseal init` is given about a key on devices. It is a [home.Maker].
type Init struct {
	given      reach.Set
	name       string // of [yubihsm.NAME]
	id         uint16
	take       bool
	exportable bool
	admin      reach.Login

	set func(flag string) bool
}

// Add implements [home.Maker].
func (f *Init) Add(cmd *cobra.Command) { f.flags(cmd.Flags()) }

// flags adds the flags: a new [yubihsm.NAME] has one for each of its keys.
func (f *Init) flags(fl *pflag.FlagSet) {
	f.set = fl.Changed
	fl.StringVar(&f.name, "yubihsm", "main", "name of the [yubihsm.NAME] in the config; --yubihsm-device makes a new one")
	cli.AddOptions(fl, "yubihsm-", reach.Options, &f.given)
	fl.Uint16Var(&f.id, "yubihsm-key-id", 0, "object id of the key on the device, as in 0x0001")
	fl.BoolVar(&f.take, "yubihsm-take", false, "take a key that is on the device; without it one is made there, or imported with --import-key")
	fl.BoolVar(&f.exportable, "yubihsm-exportable", false, "let the key that is made or imported leave the device under its wrap keys, as for a backup")
	fl.Uint16Var(&f.admin.ID, "yubihsm-admin-auth-key", 0, "object id of an authentication key that may make or import the key, used only now (default: the signer's own)")
	fl.StringVar(&f.admin.File, "yubihsm-admin-password-file", "", "file with the password of --yubihsm-admin-auth-key, mode 0600")
}

func flagOf(key string) string { return cli.OptionFlag("yubihsm-", key) }

// Check implements [home.Maker].
func (f *Init) Check(o *home.Order) error {
	switch {
	case f.id == 0:
		return cli.Usagef("--yubihsm-key-id is missing: the object id of the key, 1 to 65535")
	case f.take && o.ImportKey != "":
		return cli.Usagef("--yubihsm-take is for a key that is on the device, and --import-key for one that is not")
	case f.take && f.exportable:
		return cli.Usagef("--yubihsm-exportable is for a key that is made or imported, and --yubihsm-take for one that is there")
	case (f.admin.ID == 0) != (f.admin.File == ""):
		return cli.Usagef("--yubihsm-admin-auth-key and --yubihsm-admin-password-file go together")
	}
	o.Taken = f.take
	return o.CheckState()
}

// Make implements [home.Maker]. A key is made or imported at last, when nothing here
// refuses it any more; one that is taken is looked at first, and only looked at.
func (f *Init) Make(cmd *cobra.Command, a *provider.House, o *home.Order) error {
	m := &making{id: f.id, take: f.take, exportable: f.exportable}
	defer func() {
		if m.secret != nil {
			m.secret.Wipe()
		}
	}()
	return o.Install(cmd, a, func(in *home.Installer, ch *home.Chain) error {
		set, tables, err := f.setIn(in.Config)
		if err != nil {
			return err
		}
		ch.Table, ch.Key, ch.Tables = f.name, "keys/"+ch.Name+".yubihsm", tables
		m.devices, m.own, m.label = set.Device, set.Login(in.Abs), ch.Name[:min(len(ch.Name), hsm.MaxLabel)]
		m.admin = m.own
		if f.admin.ID != 0 {
			m.admin = f.admin
		}
		if err := m.prepare(o, ch); err != nil {
			return err
		}
		hold := func() error {
			r, err := m.hold(cmd.Context())
			ch.Public, ch.Files = r.Public, []home.File{{Path: ch.Key, Data: r.Encode()}}
			return err
		}
		if f.take {
			return hold()
		}
		ch.Make = hold
		return nil
	})
}

// prepare finds out what is to be made, and reads the key to import.
func (m *making) prepare(o *home.Order, ch *home.Chain) error {
	want, err := o.KeyType.Parse()
	if err != nil {
		return err
	}
	m.as = cmp.Or(want, pubkey.Ed25519)
	switch {
	case o.ImportKey != "":
		return m.read(o.ImportKey, want, ch)
	case reach.Algorithm(m.as) == 0:
		return cli.Usagef("--key-type %s: a YubiHSM signs with ed25519 and secp256k1", m.as)
	case !m.take && len(m.devices) > 1:
		return cli.Usagef("a key is made on one device, and [%s.%s] has %d: make it on one, bring it to the others under wrap, and take it with --yubihsm-take", reach.Table, ch.Table, len(m.devices))
	}
	return nil
}

// read reads the key to import.
func (m *making) read(path string, want pubkey.Type, ch *home.Chain) error {
	source, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if m.secret, err = keyfile.ReadForeign(path, want); err != nil {
		return err
	}
	if _, hasSeed := m.secret.Ed25519(); m.secret.Type() == pubkey.Ed25519 && !hasSeed {
		return cli.Usagef("the key in %s cannot be imported: a YubiHSM takes ed25519 keys that have their seed", path)
	}
	ch.ImportedFrom, ch.Public = []string{source}, m.secret.PublicKey()
	return nil
}

// setIn returns the devices that a new chain in a config names, nil for no config yet, and
// what has to be added to the config for them.
func (f *Init) setIn(c *config.Config) (s *reach.Set, added map[string]map[string]config.Section, err error) {
	there := false
	if c != nil {
		s, there = c.Tables[reach.Table][f.name].(*reach.Set)
	}
	var given string
	for _, op := range reach.Options {
		if f.set(flagOf(op.Name)) {
			given = cmp.Or(given, flagOf(op.Name))
		}
	}
	switch {
	case there && given != "":
		return nil, nil, cli.Usagef("--%s: there is a [%s.%s] in %s already; change it there, or give the new one another name, --yubihsm NAME", given, reach.Table, f.name, config.FileName)
	case there:
		return s, nil, nil
	}
	for _, op := range reach.Options {
		if !f.set(flagOf(op.Name)) {
			return nil, nil, cli.Usagef("--%s is missing: there is no [%s.%s] in %s yet", flagOf(op.Name), reach.Table, f.name, config.FileName)
		}
	}
	s = &f.given
	if err := reach.Options.Paths(s, filepath.Abs); err != nil {
		return nil, nil, err
	}
	s.Check(func(string) bool { return true }, func(key, wrong string) {
		err = cmp.Or(err, cli.Usagef("--%s %s", flagOf(key), wrong))
	})
	return s, map[string]map[string]config.Section{reach.Table: {f.name: s}}, err
}
