package sgx

import (
	"context"
	"fmt"

	"privyseal/internal/cli"
	"privyseal/internal/enclavechain/sharing"
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

// openAt opens the enclave of a chain, connected to a database.
func openAt(ctx context.Context, at provider.Place, members provider.Members) (sharing.Enclave, error) {
	s, ok := at.Tables[table][at.Chain.Table].(*Enclave)
	if !ok {
		return nil, fmt.Errorf("there is no [%s.%s]", table, at.Chain.Table)
	}
	e := &enclaveLink{name: at.Chain.Table, config: *s}
	err := options.Paths(&e.config, func(path string) (string, error) { return at.Path(path), nil })
	if err == nil {
		e.folder, err = readFolder(e.config.Folder)
	}
	if err != nil {
		return nil, err
	}
	if why, cure := says.Misplaced(e.policy, at.Chain, &members); why != "" {
		return nil, cli.Actf("%s; %s", why, cure)
	}
	db, err := sharing.Of(members)
	if err != nil {
		return nil, err
	}
	if err := e.begin(ctx, db); err != nil {
		return nil, err
	}
	return sharing.Asking{Conversation: e, Policy: e.policy}, nil
}
