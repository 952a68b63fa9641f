// Package policyflags is what commands that write a policy have in common, whatever enclaves
// it is for: the flags of what may be signed, and of the database that has the marks.
//
// It knows no kind of enclave: what keeps the secrets outside is the caller's to say, and
// whether a policy is whole, package policy's.
package policyflags

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/policy"
	"privyseal/internal/pubkey/keytext"
)

// Flags are the values of the flags.
type Flags struct {
	attestationRoot            string
	chains, publicKeys, floors []string
	maxHeight                  int64
	signBytes, rawBytes        bool
	etcdCA                     string
	etcd                       policy.Etcd
	table                      policy.DynamoDB
}

// Texts are what the help of a command says of flags that mean something else in each.
type Texts struct {
	AttestationRoot string // what stands below the other root
	Chain           string // which chains are signed for without --chain
	Region          string // of the table
}

// Add adds the flags, in the order of the help.
func (f *Flags) Add(fl *pflag.FlagSet, t Texts) {
	fl.StringVar(&f.attestationRoot, "attestation-root", "", "PEM file of another root of "+t.AttestationRoot+"; for tests only")
	fl.StringArrayVar(&f.chains, "chain", nil, "chain that the enclave may sign for (default: the one that "+t.Chain+" names); may be repeated")
	fl.StringArrayVar(&f.publicKeys, "public-key", nil, "public key of a key that may sign, as init printed it (default: any); may be repeated")
	fl.Int64Var(&f.maxHeight, "max-height", 0, "highest height that is ever signed; 0 is no limit")
	fl.StringArrayVar(&f.floors, "state-floor", nil, "CHAIN=HEIGHT: nothing at or below it is signed, and a lost state may be replaced by a new one above it; may be repeated")
	fl.BoolVar(&f.signBytes, "allow-sign-bytes", false, "let nodes have bytes of their choice signed (CometBFT v1, v2)")
	fl.BoolVar(&f.rawBytes, "allow-raw-bytes", false, "the same for Celestia")
	fl.StringVar(&f.etcdCA, "etcd-ca", "", "PEM file of the roots above the certificates of etcd's members")
	fl.StringArrayVar(&f.etcd.ServerNames, "etcd-server-name", nil, "name or IP address that the certificate of a member has; one for all, or repeated")
	fl.StringVar(&f.etcd.ClusterID, "etcd-cluster-id", "", "id of the cluster, in hex: cluster_id of \"etcdctl member list --write-out=json --hex\"")
	fl.StringVar(&f.etcd.Prefix, "etcd-prefix", "", "what the names of our keys in etcd begin with (default "+defaultPrefix+")")
	fl.StringVar(&f.table.Table, "dynamodb-table", "", "name of the table of DynamoDB")
	fl.StringVar(&f.table.TableID, "dynamodb-table-id", "", "its TableId, as \"aws dynamodb describe-table\" prints it")
	fl.StringVar(&f.table.TableRegion, "dynamodb-region", "", "region that it is in"+t.Region)
	fl.StringVar(&f.table.TableEndpoint, "dynamodb-endpoint", "", "host[:port] of DynamoDB, if not AWS's public one")
}

// defaultPrefix is where the marks are in an etcd that others use, too.
const defaultPrefix = "/privyseal"

// Fill takes over into a policy what the flags say. Region is that of a table whose region no
// flag names, "" if there is none.
func (f *Flags) Fill(p *policy.Policy, region string) error {
	p.Chains, p.MaxHeight = f.chains, f.maxHeight
	p.AllowSignBytes, p.AllowRawBytes = f.signBytes, f.rawBytes
	if err := f.inEtcd(p); err != nil {
		return err
	}
	if err := f.inTable(p, region); err != nil {
		return err
	}
	if err := ReadRoots("attestation-root", f.attestationRoot, &p.AttestationRoot); err != nil {
		return err
	}
	if err := ReadRoots("etcd-ca", f.etcdCA, &p.Etcd.CA); err != nil {
		return err
	}
	for _, text := range f.publicKeys {
		key, err := keytext.Parse(text)
		if err != nil {
			return cli.Usagef("--public-key %.80s: %w", text, err)
		}
		p.PublicKeys = append(p.PublicKeys, key.Base64())
	}
	var err error
	p.StateFloor, err = parseFloors(f.floors)
	return err
}

// inEtcd takes over what says where the marks are.
func (f *Flags) inEtcd(p *policy.Policy) error {
	e := &f.etcd
	switch named := e.ServerNames != nil || e.ClusterID != "" || e.Prefix != ""; {
	case f.etcdCA == "" && named:
		return cli.Usagef("--etcd-ca FILE is missing: whose certificates the members of etcd have")
	case f.etcdCA == "":
		return nil
	case e.ServerNames == nil:
		return cli.Usagef("--etcd-server-name NAME is missing: what the certificates of etcd's members have in them, a DNS name or an IP address")
	case e.ClusterID == "":
		return cli.Usagef("--etcd-cluster-id ID is missing: `etcdctl member list --write-out=json --hex` has it, as cluster_id")
	}
	p.Etcd = *e
	p.Etcd.Prefix = cmp.Or(e.Prefix, defaultPrefix)
	// etcd leaves out the zeros before it.
	p.Etcd.ClusterID = strings.Repeat("0", max(0, 16-len(e.ClusterID))) + e.ClusterID
	return nil
}

// inTable takes over what says which table has the marks.
func (f *Flags) inTable(p *policy.Policy, region string) error {
	t := f.table
	t.TableRegion = cmp.Or(t.TableRegion, region)
	switch {
	case f.table == policy.DynamoDB{}:
		return nil
	case t.Table == "":
		return cli.Usagef("--dynamodb-table TABLE is missing: the name of the table that has the marks")
	case t.TableID == "":
		return cli.Usagef("--dynamodb-table-id ID is missing: `aws dynamodb describe-table --table-name %s` prints it, as TableId", t.Table)
	case t.TableRegion == "":
		return cli.Usagef("--dynamodb-region REGION is missing: the region that the table is in, as in eu-central-1")
	}
	var err error
	if t.TableEndpoint == "" {
		if t.TableEndpoint, err = p.TableAt(t.TableRegion); err != nil {
			return cli.Usagef("%w; name the endpoint with --dynamodb-endpoint", err)
		}
	} else if t.TableEndpoint, _, err = WithPort(t.TableEndpoint); err != nil {
		return cli.Usagef("--dynamodb-endpoint: %w", err)
	}
	p.DynamoDB = t
	return nil
}

// ReadRoots reads the file of a flag, if there is one. Several flags may name the same.
func ReadRoots(flag, path string, to *string) error {
	if path == "" {
		return nil
	}
	data, err := cli.ReadBounded(path, policy.MaxSize)
	if err != nil {
		return cli.OfFlag(flag, err)
	}
	*to = string(data)
	return nil
}

// WithPort reads host[:port], where IPv6 may stand in brackets, and returns it with
// the port of HTTPS if it has none.
func WithPort(endpoint string) (full, host string, err error) {
	host, _, err = net.SplitHostPort(endpoint)
	if err == nil {
		return endpoint, host, nil
	}
	host = strings.TrimSuffix(strings.TrimPrefix(endpoint, "["), "]")
	if full = net.JoinHostPort(host, "443"); strings.ContainsAny(host, "/[]@") {
		return "", "", fmt.Errorf("%q is not host[:port], as in kms.eu-central-1.amazonaws.com", endpoint)
	}
	return full, host, nil
}

// parseFloors reads CHAIN=HEIGHT.
func parseFloors(texts []string) (map[string]int64, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	floors := map[string]int64{}
	for _, text := range texts {
		id, number, _ := strings.Cut(text, "=")
		height, err := strconv.ParseInt(number, 10, 64)
		if err != nil || height < 1 || config.CheckChainID(id) != nil {
			return nil, cli.Usagef("--state-floor %s is not CHAIN=HEIGHT", text)
		}
		if first, twice := floors[id]; twice {
			return nil, cli.Usagef("--state-floor gives chain %s two floors, %d and %d; give it one", id, first, height)
		}
		floors[id] = height
	}
	return floors, nil
}

// Encode returns the policy as its file has it. Where a key of the file is wrong, the error
// names the flag: that of the same name, or the one in names.
func Encode(p *policy.Policy, names map[string]string) ([]byte, error) {
	data, err := p.Encode()
	if err != nil {
		return nil, cli.Usage(ByFlag(err, names))
	}
	return data, nil
}

// ByFlag names the flag in place of the key of the file.
func ByFlag(err error, names map[string]string) error {
	var k *policy.KeyError
	if !errors.As(err, &k) {
		return err
	}
	common := map[string]string{"chains": "chain", "public_keys": "public-key", "etcd_server_names": "etcd-server-name"}
	return fmt.Errorf("--%s: %w", cmp.Or(names[k.Key], common[k.Key], strings.ReplaceAll(k.Key, "_", "-")), k.Err)
}
