package nitro

import (
	"context"
	"errors"
	"fmt"

	"privyseal/internal/hostlink"
	"privyseal/internal/ops/nitro/inetcd"
	"privyseal/internal/provider"
	"privyseal/internal/sharedstate"
	"privyseal/internal/watermark"
)

// Reach implements [provider.Reacher]: a mark that hosts share in etcd is read and written
// by the enclave.
func (Holder) Reach(at provider.Place, id watermark.ID, kept provider.Kept) provider.Kept {
	members := at.Section.(provider.Carried).Members(at.Path)
	return sharedstate.Elsewhere{
		Shared: sharedstate.Shared{At: at, ID: id, Where: kept.Where},
		Signer: inetcd.Signer{ChainID: at.Chain.ID, Key: at.Path(at.Chain.Key), Members: members, Open: func(ctx context.Context) (inetcd.Enclave, error) {
			return openAt(ctx, at, members.Endpoints)
		}},
	}.Kept()
}

// asking is an enclave that is asked for something with a mark.
type asking struct{ *enclaveLink }

// openAt opens the enclave of a chain, connected to KMS and these members of etcd.
func openAt(ctx context.Context, at provider.Place, endpoints []string) (inetcd.Enclave, error) {
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
	return asking{e}, e.begin(ctx, l, at.Path("."), true, endpoints)
}

// Ask implements [inetcd.Enclave].
func (a asking) Ask(ctx context.Context, share *hostlink.Share) (*hostlink.Shared, error) {
	share.Credentials = hostlink.Credentials(a.credentials)
	reply, err := a.call(ctx, hostlink.Request{Share: share})
	if err == nil && reply.Shared == nil {
		err = errors.New("the enclave does not say what it has done")
	}
	return reply.Shared, err
}

// Floor implements [inetcd.Enclave].
func (a asking) Floor(chainID string) int64 { return a.policy.StateFloor[chainID] }

// Close implements [inetcd.Enclave].
func (a asking) Close() { a.close() }
