package enclavecommand

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/enclavekey"
	"privyseal/internal/home"
	"privyseal/internal/hostlink"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey/keytext"
)

// NewIdentity returns the command that has an enclave make an identity.
func (k Kind) NewIdentity(a *provider.House) *cobra.Command {
	f := k.Flags()
	cmd := &cobra.Command{
		Use:   "identity",
		Short: "Have the enclave make the identity that tcp and noise nodes see",
		Long: `Have the enclave make the identity that nodes on tcp:// and noise:// see, for chains
that have only had unix:// nodes so far ("privyseal init" makes it by itself for a new
chain with such a node). The chains of a home share it. Then add the identity to the
chain in the config, and the node too.` + k.Before,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return k.makeIdentity(cmd.Context(), a, f, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f.Add(cmd)
	return cmd
}

func (k Kind) makeIdentity(ctx context.Context, a *provider.House, f Flags, stdout, stderr io.Writer) error {
	in, err := home.NewInstaller(a)
	if err != nil {
		return err
	}
	if len(enclavekey.Chains(in, k.Provider)) == 0 {
		return cli.Usagef("no chain of %s is in an enclave; %s makes one, with an identity where its nodes need it", in.Dir, a.Command("init --provider %s --chain-id ID --node tcp://HOST:PORT", k.Provider))
	}
	file := enclavekey.IdentityOf(in, k.Provider, k.Identity)
	line := fmt.Sprintf("identity = %q", file)
	var e *Session
	var identity enclavekey.Key
	err = in.Noted(func(note *home.Note) error {
		switch there, err := k.Read(in.Abs(file), ""); {
		case err == nil:
			return cli.Usagef("%s already exists, node id %s; add %s to the chain in %s", in.Abs(file), there.NodeID(), line, in.Path)
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		if e, err = f.Open(ctx, a, in.Config); err != nil {
			return err
		}
		if identity, err = enclavekey.MakeIdentity(ctx, e, e.Credentials); err != nil {
			return err
		}
		return addIdentity(in, note, file, identity)
	})
	if e != nil {
		defer e.Close()
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "our node id %s\nour peer id %s\nback up, on another machine:\n  %s\n", identity.Public.NodeID(), keytext.PeerID(identity.Public), in.Abs(file))
	if identity.Backup != nil {
		fmt.Fprintf(stdout, "  %s    opens with the recovery key\n", in.Abs(enclavekey.BackupPath(file)))
	}
	if e.Told != nil {
		if err := e.Told(stdout, identity.Public); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(stderr, "next: add %s to the chain in %s, and the node; then %s, and restart the signer\n", line, in.Path, a.Command("check"))
	return err
}

// addIdentity writes an identity that no chain of the config names yet. It is
// printed, and so becomes precious, after the note of it is gone.
func addIdentity(in *home.Installer, note *home.Note, file string, identity enclavekey.Key) error {
	list := home.Making{Files: identity.Files(file), PublicKey: json.RawMessage(identity.Public.JSON())}
	if err := note.Write(list); err != nil {
		return err
	}
	return in.AddFiles(identity.Files(file)...)
}

// NewClient returns the command that has an enclave make its client key of etcd.
func (k Kind) NewClient(a *provider.House) *cobra.Command {
	f := k.Flags()
	var user, out string
	cmd := &cobra.Command{
		Use:   "etcd-client --user NAME --out FILE",
		Short: "Have the enclave make its client key of etcd, and a certificate request of it",
		Long: `Have the enclave make the key by which etcd knows it, and print the certificate request
of it, for the CA of etcd's clients to sign; NAME is the user in etcd. The key is written
to a file, ` + k.Sealed + `. With that file
there already, only the request is made again, as for a certificate that is to be renewed.

Then name both in the config: the key as key_file and the certificate as certificate_file
of [etcd.NAME]. A renewed certificate needs no restart.`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if user == "" || out == "" {
				return cli.Usagef("--user NAME and --out FILE are needed: the user in etcd, and where its encrypted key goes")
			}
			request, err := k.request(cmd.Context(), a, f, user, out)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(request)
			return err
		},
	}
	f.Add(cmd)
	cmd.Flags().StringVar(&user, "user", "", "user in etcd, the common name of the certificate")
	cmd.Flags().StringVar(&out, "out", "", "file of the encrypted key; made if it is not there")
	return cmd
}

// request returns a certificate request for the client key at a path, which is made if it is
// not there.
func (k Kind) request(ctx context.Context, a *provider.House, f Flags, user, path string) ([]byte, error) {
	in, err := home.NewInstaller(a)
	if err != nil {
		return nil, err
	}
	_, err = k.Read(path, "")
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return nil, err
	}
	e, err := f.Open(ctx, a, in.Config)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	var key []byte
	if missing {
		made, err := enclavekey.MakeIdentity(ctx, e, e.Credentials)
		if err == nil {
			err = cli.WriteNew(path, made.Wrapped, 0o600)
		}
		if err != nil {
			return nil, err
		}
		key = made.Wrapped
	} else if key, err = cli.ReadBounded(path, maxKey); err != nil {
		return nil, err
	}
	reply, err := e.Call(ctx, hostlink.Request{Certify: &hostlink.Certify{Key: key, Name: user, Credentials: e.Credentials}})
	return reply.Request, err
}

// maxKey bounds the file of a key in bytes.
const maxKey = 64 << 10
