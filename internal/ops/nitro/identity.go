package nitro

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/home"
	"privyseal/internal/ops/nitro/wrapped"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey/keytext"
)

func newNitroIdentityCommand(a *provider.House) *cobra.Command {
	f := &enclaveFlags{}
	cmd := &cobra.Command{
		Use:   "identity",
		Short: "Have the enclave make the identity that tcp and noise nodes see",
		Long: `Have the enclave make the identity that nodes on tcp:// and noise:// see, for chains
that have only had unix:// nodes so far ("privyseal init" makes it by itself for a new
chain with such a node). The chains of a home share it. Then add the identity to the
chain in the config, and the node too.

If the KMS key is pinned, take the pin out of its policy first, and put it back
afterwards with the flags that this prints.`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.runIdentity(cmd.Context(), a, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f.add(cmd)
	return cmd
}

func (f *enclaveFlags) runIdentity(ctx context.Context, a *provider.House, stdout, stderr io.Writer) error {
	in, err := home.NewInstaller(a)
	if err != nil {
		return err
	}
	if len(enclaveChains(in)) == 0 {
		return cli.Usagef("no chain of %s is in an enclave; %s makes one, with an identity where its nodes need it", in.Dir, a.Command("init --provider nitro --chain-id ID --node tcp://HOST:PORT"))
	}
	file := wrappedIdentity(in)
	line := fmt.Sprintf("identity = %q", file)
	var e *enclaveLink
	var identity wrappedKey
	err = in.Noted(func(note *home.Note) error {
		switch there, err := wrapped.Read(in.Abs(file), ""); {
		case err == nil:
			return cli.Usagef("%s already exists, node id %s; add %s to the chain in %s", in.Abs(file), there.PublicKey.NodeID(), line, in.Path)
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		if e, err = f.open(ctx, a, in.Config, true); err != nil {
			return err
		}
		if identity, err = e.makeIdentity(ctx); err != nil {
			return err
		}
		return addIdentityAlone(in, note, file, identity)
	})
	if e != nil {
		defer e.close()
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "our node id %s\nour peer id %s\nback up, on another machine:\n  %s\n", identity.public.NodeID(), keytext.PeerID(identity.public), in.Abs(file))
	if err := tellPins(in, stdout, e, "", identity.public); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stderr, "next: add %s to the chain in %s, and the node; then %s, and restart the signer\n", line, in.Path, a.Command("check"))
	return err
}

// addIdentityAlone writes an identity that no chain of the config names yet. It is
// printed, and so becomes precious, after the note of it is gone.
func addIdentityAlone(in *home.Installer, note *home.Note, file string, identity wrappedKey) error {
	list := home.Making{Files: identity.files(file), PublicKey: json.RawMessage(identity.public.JSON())}
	if err := note.Write(list); err != nil {
		return err
	}
	return in.AddFiles(identity.files(file)...)
}
