package enclavekey

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"

	"privyseal/internal/claims"
	"privyseal/internal/config"
	"privyseal/internal/home"
	"privyseal/internal/hostlink"
	"privyseal/internal/pubkey"
	"privyseal/internal/watermark"
)

// Chain is a chain whose key an enclave has made or taken in.
type Chain struct {
	config.Chain
	Own            []string // what its nodes listen on already, see migrate.Node
	Made           Key      // its key
	NodesSee       Key      // its identity; without Created where that was there already
	SharedIdentity string   // path of the identity that the chains of a home share
}

// Order is what is asked for.
type Order struct {
	Type   pubkey.Type      // of a new key; "" is ed25519
	Import *hostlink.Import // nil for a new key
	Nonce  []byte           // that the document of a new key has to contain; may be nil
	// Recover is for a key that comes out of a backup, and At the state that it goes on with.
	Recover     *hostlink.Recover
	At          watermark.Mark
	Credentials hostlink.Credentials
}

// Chains are the chains of a home whose provider is this.
func Chains(in *home.Installer, provider string) (list []config.Chain) {
	if in.Config != nil {
		list = slices.DeleteFunc(slices.Clone(in.Config.Chains), func(ch config.Chain) bool { return ch.Provider != provider })
	}
	return list
}

// IdentityOf returns the identity that the chains of a provider share in this home: the one
// that is there, or else where it would go.
func IdentityOf(in *home.Installer, provider, other string) string {
	for _, ch := range Chains(in, provider) {
		if ch.Identity != "" {
			return ch.Identity
		}
	}
	return other
}

// Make has the enclave make or import the key, and make an identity if the nodes need one
// that is not there yet.
func (ch *Chain) Make(ctx context.Context, in *home.Installer, e Enclave, o Order) (err error) {
	req := hostlink.Request{Create: &hostlink.Create{ChainID: ch.ID, KeyType: string(cmp.Or(o.Type, pubkey.Ed25519)), Nonce: o.Nonce, Credentials: o.Credentials}}
	if o.Import != nil {
		o.Import.Credentials = o.Credentials
		req = hostlink.Request{Import: o.Import}
	}
	if o.Recover != nil {
		req = hostlink.Request{Recover: o.Recover}
	}
	needs := home.NeedsIdentity(ch.Nodes)
	if needs {
		ch.Identity = ch.SharedIdentity
		if ch.NodesSee.Public, err = e.Identity(in.Abs(ch.Identity)); err != nil {
			return err
		}
	}
	if ch.Made, err = Make(ctx, e, ch.ID, req); err == nil && o.Recover != nil {
		err = ch.keepBackup(in, o.Recover.Backup)
	}
	if err != nil || !needs || !ch.NodesSee.Public.IsZero() {
		return err
	}
	ch.NodesSee, err = MakeIdentity(ctx, e, o.Credentials)
	return err
}

// keepBackup has the backup that a key came out of kept beside the key: the enclave makes no
// second one. It may be there already, where files of the old home were brought.
func (ch *Chain) keepBackup(in *home.Installer, backup []byte) error {
	there, err := os.ReadFile(in.Abs(BackupPath(ch.Key)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !bytes.Equal(there, backup) {
		ch.Made.Backup = backup
	}
	return nil
}

// MakeIdentity has an enclave make an identity.
func MakeIdentity(ctx context.Context, e Enclave, c hostlink.Credentials) (Key, error) {
	return Make(ctx, e, "", hostlink.Request{Create: &hostlink.Create{KeyType: string(pubkey.Ed25519), Credentials: c}})
}

// Install has the enclave make or import the key of a chain, and installs it, with the tables
// of the config that are new: everything or nothing, as all that init makes.
func (ch *Chain) Install(ctx context.Context, in *home.Installer, e Enclave, o Order, tables map[string]map[string]config.Section) error {
	return in.Noted(func(note *home.Note) error {
		if err := ch.Make(ctx, in, e, o); err != nil {
			return err
		}
		mark, err := ch.begin(o)
		if err != nil {
			return err
		}
		if err := note.Write(ch.unfinished(mark)); err != nil {
			return err
		}
		if err := in.CheckKey(ch.ID, ch.Made.Public); err != nil {
			return err
		}
		for _, step := range ch.steps(in, mark) {
			if err := step(); err != nil {
				return err
			}
		}
		if err := note.Named(); err != nil {
			return err
		}
		return in.AddToConfig(tables, ch.Chain)
	})
}

// begin returns the state that a chain begins with, as a host keeps it.
func (ch *Chain) begin(o Order) (watermark.Mark, error) {
	if o.Recover != nil {
		return o.At, nil
	}
	return hostlink.HostMark(ch.Made.Record)
}

// steps make the files of a chain, before the config names them.
func (ch *Chain) steps(in *home.Installer, mark watermark.Mark) []func() error {
	return []func() error{
		func() error { return in.AddFiles(ch.Made.Files(ch.Key)...) },
		func() error {
			if ch.NodesSee.Created == nil {
				return nil
			}
			return in.AddFiles(ch.NodesSee.Files(ch.Identity)...)
		},
		func() error {
			return in.MakeState(ch.Chain, ch.Made.Public, watermark.Saved{Mark: mark}, ch.Made.Claims.Origin != claims.Generated)
		},
	}
}

// unfinished returns what is noted of a chain while it is made.
func (ch *Chain) unfinished(mark watermark.Mark) home.Making {
	u := home.Making{Name: ch.Name, ChainID: ch.ID, State: ch.State, Files: ch.Made.Files(ch.Key), PublicKey: json.RawMessage(ch.Made.Public.JSON())}
	if ch.NodesSee.Created != nil {
		u.Files = append(u.Files, ch.NodesSee.Files(ch.Identity)...)
	}
	u.Begin(mark)
	return u
}
