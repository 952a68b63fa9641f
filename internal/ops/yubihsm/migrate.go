package yubihsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"unicode"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/home"
	"privyseal/internal/key/yubihsm"
	"privyseal/internal/migrate"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/regular"
)

// Taker are those of `privyseal migrate` for keys that a YubiHSM of the old signer has. It
// is a [home.KeyTaker].
type Taker struct {
	name  string // of [yubihsm.NAME]
	given func() bool

	set    *reach.Set                           // the old signer's device, nil until it is known
	tables map[string]map[string]config.Section // that are new
}

// Add implements [home.Taker].
func (f *Taker) Add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.name, "yubihsm", "main", "name of the [yubihsm.NAME] in the config, where a YubiHSM holds the key; it is made if there is none")
	f.given = func() bool { return cmd.Flags().Changed("yubihsm") }
}

// Takes implements [home.Taker].
func (f *Taker) Takes(c migrate.Chain) bool { return c.Device != nil }

// Idle implements [home.Taker].
func (f *Taker) Idle() error {
	if f.given() {
		return cli.Usagef("--yubihsm is for a key that a YubiHSM holds, and the old signer has none in one")
	}
	return nil
}

// TakeKey implements [home.KeyTaker]. Of the device it reads the public key of the object,
// and the rights of the authentication key.
func (f *Taker) TakeKey(ctx context.Context, in *home.Installer, c migrate.Chain, ch *home.Chain) (words []string, err error) {
	old := c.Device
	own := reach.Login{ID: old.AuthKey, File: old.PasswordFile, Text: old.Password}
	if err := checkOld(own); err != nil {
		return nil, err
	}
	if f.set == nil {
		if err := f.choose(in, own, old.Address); err != nil {
			return nil, err
		}
		if f.tables != nil && old.Password.Reveal() != "" {
			if ch.Make, err = f.keep(in, own); err != nil {
				return nil, err
			}
			if ch.Make != nil {
				ch.Makes = []string{f.set.PasswordFile}
			}
		}
	}
	m := &making{take: true, id: old.ID, devices: f.set.Device, own: own}
	r, _, err := m.inspect(ctx)
	if err != nil {
		return nil, err
	}
	if r.Public.Type() != old.Type {
		return nil, cli.Actf("%v is of type %s, and the old signer uses it as %s for chain %s", old, r.Public.Type(), old.Type, c.ID)
	}
	ch.Provider, ch.Table, ch.Tables = reach.Table, f.name, f.tables
	ch.Key, ch.Public = "keys/"+ch.Name+".yubihsm", r.Public
	ch.Files = []home.File{{Path: ch.Key, Data: r.Encode()}}
	return f.words(r, own), nil
}

// choose takes the devices of the config that are the old signer's, or makes a table.
func (f *Taker) choose(in *home.Installer, own reach.Login, address string) error {
	if !config.ValidName(f.name) {
		return cli.Usagef("--yubihsm %.80q is not a name: %s", f.name, config.NameRule)
	}
	if in.Config != nil {
		if set, ok := in.Config.Tables[reach.Table][f.name].(*reach.Set); ok {
			if set.AuthKey != int(own.ID) || !slices.Contains(set.Device, address) {
				return cli.Usagef("[%s.%s] in %s has not the device %s with authentication key %d; give what the old signer has another name, --yubihsm NAME", reach.Table, f.name, in.Path, address, own.ID)
			}
			f.set = set
			return nil
		}
	}
	set := &reach.Set{Device: []string{address}, AuthKey: int(own.ID), PasswordFile: own.File}
	if own.Text.Reveal() != "" {
		set.PasswordFile = "keys/" + f.name + ".password"
	}
	var err error
	set.Check(func(key string) bool { return key != reach.AuditKey }, func(key, wrong string) {
		if err == nil {
			err = cli.Actf("the old signer's %s %s", key, wrong)
		}
	})
	f.set, f.tables = set, map[string]map[string]config.Section{reach.Table: {f.name: set}}
	return err
}

// keep returns what writes the password of the old config to a file of its own. One that
// an interrupted command has left there is as good.
func (f *Taker) keep(in *home.Installer, own reach.Login) (func() error, error) {
	text := []byte(own.Text.Reveal() + "\n")
	path := in.Abs(f.set.PasswordFile)
	there, err := regular.ReadPrivate("password file", path, reach.MaxPassword+2)
	defer clear(there)
	switch {
	case err == nil && bytes.Equal(there, text):
		return nil, nil
	case err == nil:
		return nil, cli.Actf("%s is there already, with another password", path)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return func() error {
		defer clear(text)
		return in.AddFiles(home.File{Path: f.set.PasswordFile, Data: text})
	}, nil
}

// words are those of `privyseal init` that take the key.
func (f *Taker) words(r yubihsm.Reference, own reach.Login) []string {
	words := []string{"--provider", reach.Table, "--yubihsm-take", "--" + flagOf("key_id"), fmt.Sprintf("0x%04x", r.ID)}
	if f.name != "main" {
		words = append(words, "--yubihsm", f.name)
	}
	if f.tables == nil {
		return words
	}
	file := own.File
	if own.Text.Reveal() != "" {
		file = "FILE"
	}
	return append(words, "--"+flagOf("device"), f.set.Device[0], "--"+flagOf("auth_key"), strconv.Itoa(f.set.AuthKey), "--"+flagOf("password_file"), file)
}

func flagOf(key string) string { return cli.OptionFlag(reach.Table+"-", key) }

// checkOld refuses a password that tmkms reads in another way than we do: it leaves out
// all white space at the end of a file.
func checkOld(l reach.Login) error {
	password, err := l.Password()
	if err != nil {
		return err
	}
	defer clear(password)
	if l.Text.Reveal() == "" && len(bytes.TrimRightFunc(password, unicode.IsSpace)) != len(password) {
		return cli.Actf("the password in %s ends in white space, which the old signer leaves out; remove it from the file", l.File)
	}
	return nil
}
