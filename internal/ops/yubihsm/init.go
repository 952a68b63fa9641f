package yubihsm

import (
	"cmp"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"privyseal/internal/cli"
	"privyseal/internal/cure"
	"privyseal/internal/home"
	"privyseal/internal/key/soft/keyfile"
	"privyseal/internal/ops/yubihsm/keys"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	hsm "privyseal/yubihsm"
)

// Init is what `privyseal init` is given about a key on devices. It is a [home.Maker].
type Init struct {
	devices    cli.TableFlags[reach.Set, *reach.Set]
	id         uint16
	take       bool
	exportable bool
	admin      reach.Login
}

// Add implements [home.Maker].
func (f *Init) Add(cmd *cobra.Command) { f.flags(cmd.Flags()) }

// flags adds the flags: a new [yubihsm.NAME] has one for each of its keys.
func (f *Init) flags(fl *pflag.FlagSet) {
	f.devices.Add(fl, reach.Table, reach.Options)
	fl.Uint16Var(&f.id, "yubihsm-key-id", 0, "object id of the key on the device, as in 0x0001")
	fl.BoolVar(&f.take, "yubihsm-take", false, "take a key that is on the device; without it one is made there, or imported with --import-key")
	fl.BoolVar(&f.exportable, "yubihsm-exportable", false, "let the key that is made or imported leave the device under its wrap keys, as for a backup")
	fl.Uint16Var(&f.admin.ID, "yubihsm-admin-auth-key", 0, "object id of an authentication key that may make or import the key, used only now (default: the signer's own)")
	fl.StringVar(&f.admin.File, "yubihsm-admin-password-file", "", "file with the password of --yubihsm-admin-auth-key, mode 0600")
}

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
	key := ""
	err := o.Install(cmd, a, func(in *home.Installer, ch *home.Chain) error {
		set, tables, err := f.devices.In(in.Config)
		if err != nil {
			return err
		}
		ch.Table, ch.Key, ch.Tables = f.devices.Name, "keys/"+ch.Name+".yubihsm", tables
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
			m.key = r
			ch.Public, ch.Files = r.Public, []home.File{{Path: ch.Key, Data: r.Encode()}}
			if key = in.Abs(ch.Key); m.attestation != nil {
				ch.Files = append(ch.Files, home.File{Path: attestationOf(ch.Key), Data: m.attestation})
			}
			return err
		}
		if f.take {
			return hold()
		}
		ch.Make = hold
		return nil
	})
	if err == nil {
		m.note(cmd.ErrOrStderr(), attestationOf(key))
	}
	return err
}

// prepare finds out what is to be made, and reads the key to import.
func (m *making) prepare(o *home.Order, ch *home.Chain) error {
	m.as = cmp.Or(o.KeyType, pubkey.Ed25519)
	switch {
	case o.ImportKey != "":
		return m.read(o.ImportKey, o.KeyType, ch)
	case !m.take && len(m.devices) > 1:
		return m.onOne(ch.Table)
	}
	return keys.Key{Type: m.as}.Check()
}

// onOne refuses to make a key on several devices, and says how it comes to be there.
func (m *making) onOne(table string) error {
	id, admin := fmt.Sprintf("0x%04x", m.id), []string{"--auth-key", "ID", "--password-file", "FILE"}
	if m.admin.ID != m.own.ID {
		admin = []string{"--auth-key", fmt.Sprint(m.admin.ID), "--password-file", m.admin.File}
	}
	made := append([]string{"privyseal", "yubihsm", "generate", "--exportable", "--key-id", id, "--device", m.devices[0]}, admin...)
	if m.as != pubkey.Ed25519 {
		made = append(made, "--key-type", string(m.as))
	}
	cloned := append([]string{"privyseal", "yubihsm", "clone", "--key-id", id, "--device", m.devices[0]}, admin...)
	for _, address := range m.devices[1:] {
		cloned = append(cloned, "--to", address)
	}
	cloned = append(cloned, "--sign-auth-key", fmt.Sprint(m.own.ID), "--sign-password-file", m.own.File)
	return cure.Add(cli.Usagef("a key is made on one device, and [%s.%s] has %d", reach.Table, table, len(m.devices)),
		"make it on the first with %s, copy it under a wrap key that all have with %s, and type this command again with --yubihsm-take --fresh-state", cure.Command(made...), cure.Command(cloned...))
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
	if err := (keys.Key{Type: m.secret.Type(), Secret: m.secret}).Check(); err != nil {
		return fmt.Errorf("cannot import %s: %w", path, err)
	}
	ch.ImportedFrom, ch.Public = []string{source}, m.secret.PublicKey()
	return nil
}
