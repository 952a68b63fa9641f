package vault

import (
	"context"
	"fmt"
	"time"

	"privyseal/internal/config"
	"privyseal/internal/key/vault"
	"privyseal/internal/oplog"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
)

// Holder is the provider. A chain's key is a file that names the key on the server and
// has its public half; identities are key files.
type Holder struct{ provider.Files }

// Public implements [provider.Holder].
func (Holder) Public(c *config.Config, ch config.Chain) (pubkey.Key, error) {
	r, err := vault.ReadReference(c.Path(ch.Key))
	return r.Public, err
}

// Open implements [provider.Local]. The server need not be there, nor unsealed.
func (Holder) Open(ctx context.Context, c *config.Config, ch config.Chain) (provider.Key, error) {
	server, err := serverOf(c, ch)
	if err != nil {
		return nil, err
	}
	r, err := vault.ReadReference(c.Path(ch.Key))
	if err != nil {
		return nil, err
	}
	client := server.client(c.Path)
	client.Log = oplog.Of(ctx).With("chain", ch.Name)
	key, err := vault.Open(client, r)
	if err != nil {
		return nil, err
	}
	return watched{key}, nil
}

// watched is a key whose server is the one device that signs with it.
type watched struct{ *vault.Key }

// Devices implements [provider.Watched].
func (k watched) Devices() []provider.Device {
	s := k.Status()
	d := provider.Device{Address: s.Address, Since: s.Since, Signatures: s.Signatures, Took: s.Took.Seconds(), LastTook: s.LastTook.Seconds()}
	if s.Failed != nil {
		d.Failed = s.Failed.Error()
	}
	return []provider.Device{d}
}

// Check implements [provider.Checker]: for each chain it asks the server what it says of
// the key, has it sign what is not a message of any chain, and names what the token may do
// beside that.
func (Holder) Check(ctx context.Context, r *provider.Report) {
	for i, ch := range r.Config.Chains {
		if ch.Provider != table {
			continue
		}
		r.Chain = ch.Name
		checkChain(ctx, r, i)
		r.Chain = ""
	}
}

// slowSignature is above what a fast chain should wait for, besides the disk.
const slowSignature = 100 * time.Millisecond

func checkChain(ctx context.Context, r *provider.Report, i int) {
	ch := r.Config.Chains[i]
	line := r.Config.Line(table, ch.Table)
	server, err := serverOf(r.Config, ch)
	if err != nil {
		return // config has refused it
	}
	reference, err := vault.ReadReference(r.Config.Path(ch.Key))
	if err != nil {
		return // the row of the key says so
	}
	client, err := vault.New(server.client(r.Config.Path))
	if err != nil {
		r.Add(provider.Bad, line, "vault", err.Error(), "")
		return
	}
	defer client.Close()
	in, err := client.Inspect(ctx, reference.Name, reference.Version, reference.Public)
	if err != nil {
		r.Add(provider.Bad, line, "vault", err.Error(), "")
		return
	}
	verdict, slow := provider.Good, ""
	if in.Latency > slowSignature {
		verdict, slow = provider.Unsure, ", which is slow: a server nearby is faster"
	}
	r.Add(verdict, line, "vault", fmt.Sprintf("%s signs with version %d of key %s/%s, in %v%s",
		server.Address, reference.Version, server.Mount, reference.Name, in.Latency.Round(10*time.Microsecond), slow), "")
	for _, f := range in.Findings {
		verdict := provider.Unsure
		if f.Bad {
			verdict = provider.Bad
		}
		r.Add(verdict, line, "vault", f.What, f.Next)
	}
}
