package nitro

import (
	"errors"
	"io/fs"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/home"
	"privyseal/internal/hostlink"
	"privyseal/internal/ops/nitro/wrapped"
	"privyseal/internal/provider"
)

func newNitroClientCommand(a *provider.House) *cobra.Command {
	f := &enclaveFlags{}
	var user, out string
	cmd := &cobra.Command{
		Use:   "etcd-client --user NAME --out FILE",
		Short: "Have the enclave make its client key of etcd, and a certificate request of it",
		Long: `Have the enclave make the key by which etcd knows it, and print the certificate request
of it, for the CA of etcd's clients to sign; NAME is the user in etcd. The key is written
to a file, wrapped as the validator's is: it opens in this image only. With that file
there already, only the request is made again, as for a certificate that is to be renewed.

Then name both in the config: the key as key_file and the certificate as certificate_file
of [etcd.NAME]. A renewed certificate needs no restart.`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if user == "" || out == "" {
				return cli.Usagef("--user NAME and --out FILE are needed: the user in etcd, and where the wrapped key goes")
			}
			in, err := home.NewInstaller(a)
			if err != nil {
				return err
			}
			key, err := wrapped.Read(out, "")
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			e, err := f.open(cmd.Context(), a, in.Config, true)
			if err != nil {
				return err
			}
			defer e.close()
			if key == nil {
				made, err := e.makeIdentity(cmd.Context())
				if err == nil {
					err = cli.WriteNew(out, made.Wrapped, 0o600)
				}
				if err != nil {
					return err
				}
				key = &wrapped.Key{Data: made.Wrapped}
			}
			reply, err := e.call(cmd.Context(), hostlink.Request{Certify: &hostlink.Certify{Key: key.Data, Name: user, Credentials: hostlink.Credentials(e.credentials)}})
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(reply.Request)
			return err
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&user, "user", "", "user in etcd, the common name of the certificate")
	cmd.Flags().StringVar(&out, "out", "", "file of the wrapped key; made if it is not there")
	return cmd
}
