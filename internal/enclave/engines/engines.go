// Package engines is how an enclave reaches a mark in a database, in every kind of enclave:
// the engines of shared marks on etcd and DynamoDB, over connections that the host carries.
//
// It decides nothing: the policy says which database it is, and package enclave what its TLS
// has to prove. The host is not trusted, nor is the database before that.
package engines

import (
	"context"
	"net"

	"privyseal/internal/dynamostore"
	"privyseal/internal/enclave"
	"privyseal/internal/etcd"
	"privyseal/internal/etcdstore"
	"privyseal/internal/sharedmark"
)

// DynamoDB returns how a mark in DynamoDB is reached.
func DynamoDB(t enclave.Table) (sharedmark.Engine, error) {
	p := t.Policy
	return dynamostore.New(dynamostore.Config{
		Table: p.Table, Region: p.TableRegion, TableID: p.TableID, Endpoint: "https://" + p.TableEndpoint, ID: t.ID, Try: t.Try, Roots: p.Roots(),
		Credentials: t.Role, Dial: func(ctx context.Context, _ string) (net.Conn, error) { return t.Dial(ctx) },
	})
}

// Etcd returns how a mark in etcd is reached.
func Etcd(m enclave.Members) sharedmark.Engine {
	return etcdstore.New(etcdstore.Config{
		Dialer: etcd.Dialer{Net: m.Dial, TLS: m.TLS}, Endpoints: m.Endpoints, Try: m.Try, Key: etcdstore.Key(m.Prefix, m.ID),
	})
}
