package vault

import (
	"cmp"
	"context"

	"github.com/spf13/pflag"

	"privyseal/internal/cli"
	"privyseal/internal/cure"
	"privyseal/internal/key/soft"
	"privyseal/internal/key/vault"
)

// Init is what `privyseal init` is given about a key on a server. It is a [home.Maker].
type Init struct {
	server  cli.TableFlags[Server, *Server]
	key     string
	version int
	take    bool
	admin   string // token file
}

// flags adds the flags: a new [vault.NAME] has one for each of its keys.
func (f *Init) flags(fl *pflag.FlagSet) {
	f.server.Add(fl, table, options)
	fl.StringVar(&f.key, "vault-key", "", "name of the key on the server (default: the name of the chain)")
	fl.BoolVar(&f.take, "vault-take", false, "take a key that is on the server; without it one is made there, or imported with --import-key")
	fl.IntVar(&f.version, "vault-key-version", 0, "version of the key that --vault-take takes (default: the latest)")
	fl.StringVar(&f.admin, "vault-admin-token-file", "", "file with a token that may make or import the key, used only now; the signer's own need only sign and read")
}

// check finds what is wrong with the flags alone.
func (f *Init) check(importKey string) error {
	switch {
	case f.take && importKey != "":
		return cli.Usagef("--vault-take is for a key that is on the server, and --import-key for one that is not")
	case f.version != 0 && !f.take:
		return cli.Usagef("--vault-key-version goes with --vault-take: a key that is made or imported has version 1")
	case f.version < 0:
		return cli.Usagef("--vault-key-version %d: the first version is 1", f.version)
	}
	return nil
}

// hold makes the key of a chain on the server, hands it the secret that is imported (nil
// for none), or looks at the one that is there. Whatever it was, the chain's own token has
// to sign with it at last. It returns what the chain's key file holds.
func (f *Init) hold(ctx context.Context, v vault.Config, chain string, secret *soft.Key) (vault.Reference, []vault.Finding, error) {
	r := vault.Reference{Name: cmp.Or(f.key, chain), Version: cmp.Or(f.version, 1)}
	own, err := vault.New(v)
	if err != nil {
		return r, nil, err
	}
	defer own.Close()
	// What is wrong with our own token shows before anything is made.
	if !f.take {
		if err := own.Absent(ctx, r.Name); err != nil {
			return r, nil, err
		}
	}
	if err := f.ready(ctx, v, &r, secret); err != nil {
		return r, nil, err
	}
	in, err := own.Inspect(ctx, r.Name, r.Version, r.Public)
	if err != nil && !f.take {
		instead := "--vault-take in place of --import-key"
		if secret == nil {
			instead = "--vault-take --fresh-state"
		}
		failed, next := cure.Split(err.Error())
		err = cure.Add(cli.Actf("the key is on the server now, and our token cannot use it: %s", failed), "%s; then type the same command with %s", cmp.Or(next, "fix that"), instead)
	}
	return r, in.Findings, err
}

// ready makes, imports or looks at the key, with the token that may.
func (f *Init) ready(ctx context.Context, v vault.Config, r *vault.Reference, secret *soft.Key) error {
	if f.admin != "" {
		v.TokenFile, v.AppRole = f.admin, vault.AppRole{}
	}
	client, err := vault.New(v)
	if err != nil {
		return err
	}
	defer client.Close()
	switch {
	case f.take:
		return f.look(ctx, client, r)
	case secret != nil:
		return hand(ctx, client, r, secret)
	}
	r.Public, err = client.Generate(ctx, r.Name)
	return err
}

// look finds the version and the public key of a key that is there.
func (f *Init) look(ctx context.Context, client *vault.Client, r *vault.Reference) error {
	if f.version == 0 {
		info, err := client.Read(ctx, r.Name)
		if err != nil {
			return err
		}
		r.Version = info.LatestVersion
	}
	var err error
	r.Public, err = client.Public(ctx, r.Name, r.Version)
	return err
}

// hand imports a key.
func hand(ctx context.Context, client *vault.Client, r *vault.Reference, secret *soft.Key) error {
	private, ok := secret.Ed25519()
	if !ok {
		return cli.Usagef("the key of type %s cannot be imported: a Vault server takes ed25519 keys that have their seed", secret.Type())
	}
	defer clear(private)
	r.Public = secret.PublicKey()
	return client.Import(ctx, r.Name, private)
}
