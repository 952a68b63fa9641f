package nitro

import (
	"context"
	"errors"
	"fmt"

	"privyseal/internal/cli"
	"privyseal/internal/hostlink"
	"privyseal/internal/ops/nitro/sharing"
	"privyseal/internal/provider"
	"privyseal/internal/sharedstate"
	"privyseal/internal/watermark"
)

// Reach implements [provider.Reacher]: a mark that hosts share in a database is read and
// written by the enclave.
func (Holder) Reach(at provider.Place, id watermark.ID, kept provider.Kept) provider.Kept {
	members := at.Section.(provider.Carried).Members(at.Path)
	return sharedstate.Elsewhere{
		Shared: sharedstate.Shared{At: at, ID: id, Where: kept.Where},
		Signer: sharing.Signer{ChainID: at.Chain.ID, Key: at.Path(at.Chain.Key), Members: members, Open: func(ctx context.Context) (sharing.Enclave, error) {
			return openAt(ctx, at, members)
		}},
	}.Kept()
}

// asking is an enclave that is asked for something with a mark.
type asking struct{ *enclaveLink }

// openAt opens the enclave of a chain, connected to KMS and a database.
func openAt(ctx context.Context, at provider.Place, members provider.Members) (sharing.Enclave, error) {
	e := newEnclaveLink()
	s, ok := at.Tables[table][at.Chain.Table].(*Enclave)
	if !ok {
		return nil, fmt.Errorf("there is no [%s.%s]", table, at.Chain.Table)
	}
	e.name, e.config = at.Chain.Table, *s
	err := options.Paths(&e.config, func(path string) (string, error) { return at.Path(path), nil })
	if err == nil {
		e.image, e.policy, err = (&enclaveFlags{}).readImage(e.config.EIF)
	}
	if err != nil {
		return nil, err
	}
	l, err := e.launcher()
	if err != nil {
		return nil, err
	}
	if why, cure := sharing.Misplaced(e.policy, at.Chain, &members); why != "" {
		return nil, cli.Actf("%s; %s", why, cure)
	}
	db, err := sharing.Of(members)
	if err != nil {
		return nil, err
	}
	return asking{e}, e.begin(ctx, l, at.Path("."), true, db)
}

// Ask implements [sharing.Enclave].
func (a asking) Ask(ctx context.Context, share *hostlink.Share) (*hostlink.Shared, error) {
	share.Credentials = hostlink.Credentials(a.credentials)
	reply, err := a.call(ctx, hostlink.Request{Share: share})
	if err == nil && reply.Shared == nil {
		err = errors.New("the enclave does not say what it has done")
	}
	return reply.Shared, err
}

// Floor implements [sharing.Enclave].
func (a asking) Floor(chainID string) int64 { return a.policy.StateFloor[chainID] }

// Close implements [sharing.Enclave].
func (a asking) Close() { a.close() }
