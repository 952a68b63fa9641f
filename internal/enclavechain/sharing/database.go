package sharing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"privyseal/internal/config"
	"privyseal/internal/enclavehost"
	"privyseal/internal/hostlink"
	"privyseal/internal/policy"
	"privyseal/internal/provider"
	"privyseal/internal/regular"
	"privyseal/internal/vsock"
)

// Database is what an enclave needs to reach the database of a mark: members of etcd, or else
// the role that may use a table.
type Database struct {
	etcd *enclavehost.Etcd
	role provider.Role
	try  time.Duration // for the table
}

// Of returns what an enclave needs to reach a database.
func Of(m provider.Members) (*Database, error) {
	if m.Role != nil {
		return &Database{role: m.Role, try: m.Try}, nil
	}
	key, err := read(m.Key)
	if err != nil {
		return nil, err
	}
	return &Database{etcd: &enclavehost.Etcd{
		Endpoints: m.Endpoints, Try: m.Try, Key: key, Certificate: func() ([]byte, error) { return certificate(m.Certificate) },
	}}, nil
}

// Reached returns how the database of a chain is reached, nil where its mark is on this host.
func Reached(c *config.Config, ch config.Chain) *provider.Members {
	for table, name := range c.Named(ch) {
		if section, ok := c.Tables[table][name].(provider.Carried); ok {
			m := section.Members(c.Path)
			return &m
		}
	}
	return nil
}

// Into has the host of an enclave with a policy serve it: the policy names one for all chains.
func (d *Database) Into(c *enclavehost.Config, p *policy.Policy) {
	switch {
	case d == nil:
	case d.etcd != nil && c.Etcd == nil:
		c.Etcd = d.etcd
	case d.role != nil && c.DynamoDB == nil:
		c.DynamoDB = &enclavehost.DynamoDB{Endpoint: p.OfTable(), Try: d.try, Role: d.role}
	}
}

// Port is one that an enclave dials to reach the database.
type Port struct {
	Number uint32
	What   string // for people
	Handle func(context.Context, vsock.Conn) error
}

// Ports returns those that serve an enclave with a policy.
func (d *Database) Ports(p *policy.Policy) []Port {
	if d.role == nil {
		return []Port{{hostlink.EtcdPort, "etcd", func(ctx context.Context, c vsock.Conn) error {
			return enclavehost.ProxyEtcd(ctx, c, d.etcd.Endpoints)
		}}}
	}
	return []Port{
		{hostlink.TablePort, "DynamoDB", func(ctx context.Context, c vsock.Conn) error {
			return enclavehost.ProxyAWS(ctx, c, p.OfTable(), 0)
		}},
		{hostlink.RolePort, "the credentials of AWS", func(ctx context.Context, c vsock.Conn) error {
			return enclavehost.AnswerRole(ctx, c, d.role)
		}},
	}
}

// boot returns what a request to the enclave says of it.
func (d *Database) boot() (*hostlink.BootEtcd, *hostlink.BootDynamoDB, error) {
	if d.role != nil {
		return nil, &hostlink.BootDynamoDB{Try: d.try}, nil
	}
	certificate, err := d.etcd.Certificate()
	return &hostlink.BootEtcd{Endpoints: d.etcd.Endpoints, Try: d.etcd.Try, Key: d.etcd.Key, Certificate: certificate}, nil, err
}

func certificate(path string) ([]byte, error) {
	text, _, err := regular.ReadOurs(path, hostlink.MaxCertificate)
	if err == nil && len(text) == 0 {
		err = errors.New("it is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot use the certificate %s of the enclave's client: %w", path, err)
	}
	return text, nil
}

func read(path string) ([]byte, error) {
	data, _, err := regular.ReadOurs(path, 64<<10)
	if err != nil {
		return nil, fmt.Errorf("cannot use the enclave's key %s: %w", path, err)
	}
	return data, nil
}
