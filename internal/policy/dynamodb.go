package policy

import (
	"fmt"
	"net"
	"strings"
)

// Named reports whether the policy has the marks in DynamoDB.
func (d *DynamoDB) Named() bool { return d.Table != "" }

// Shared reports whether the policy has the marks in a database, where several enclaves can
// have the same.
func (p *Policy) Shared() bool { return p.Etcd.Named() || p.DynamoDB.Named() }

// String names the table for people.
func (d *DynamoDB) String() string { return "table " + d.Table + " of " + d.TableRegion }

// ServerName is the name that DynamoDB's certificate has to have.
func (d *DynamoDB) ServerName() string {
	host, _, _ := net.SplitHostPort(d.TableEndpoint) // check has split it
	return host
}

// CheckTable says why the DynamoDB that the policy believes may be somebody else's than AWS's.
// Whoever answers as DynamoDB can answer with an old mark.
//
// Names: public, FIPS, dual-stack, of an account, and private (VPC) endpoints of the region,
// https://docs.aws.amazon.com/general/latest/gr/ddb.html.
func (p *Policy) CheckTable() error {
	name := strings.ToLower(p.DynamoDB.ServerName())
	if account, rest, _ := strings.Cut(name, ".ddb."); len(account) == 12 && strings.Trim(account, digits) == "" {
		name = "dynamodb." + rest
	}
	known, err := p.isAWS(name, p.TableRegion, "dynamodb", "dynamodb-fips")
	switch {
	case err != nil:
		return err
	case !known:
		return fmt.Errorf("%s is not a name of DynamoDB in %s", p.DynamoDB.ServerName(), p.TableRegion)
	}
	return p.checkRoots()
}

// TableAt returns the public endpoint of DynamoDB in a region of the policy's partition,
// host:port.
func (p *Policy) TableAt(region string) (string, error) {
	domain, err := p.domain(region)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort("dynamodb."+region+"."+domain, "443"), nil
}
