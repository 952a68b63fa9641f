package image

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/policy"
	"privyseal/internal/pubkey/keytext"
)

// imagePolicyFlags are the flags of `privyseal nitro image-policy`.
type imagePolicyFlags struct {
	kmsKey, endpoint, serverName string
	tlsRoots, attestationRoot    string
	fips                         bool
	chains, publicKeys, floors   []string
	maxHeight                    int64
	signBytes, rawBytes          bool
	etcdCA                       string
	etcd                         policy.Etcd
	table                        policy.DynamoDB
}

func NewImagePolicy() *cobra.Command {
	f := &imagePolicyFlags{}
	cmd := &cobra.Command{
		Use:   "image-policy --kms-key ARN",
		Short: "Print the policy that goes into an enclave image",
		Long: `Print the policy file for "privyseal nitro build": what decides the enclave's
security, and is measured with it. Redirect it to a file, and keep that file: with
it anybody can compute PCR2.

The endpoint is AWS's public one in the key's region, or the FIPS one with --fips.
For a private (VPC) endpoint name it with --endpoint; the name in its certificate
stays that of the public one unless --server-name says otherwise. The roots are
Amazon Trust Services' unless --tls-roots names others.

With --etcd-ca the marks of all chains are in an etcd cluster, in place of the states that
the host keeps, and an enclave of this image asks no other one: whatever its host shows
it, it signs nothing again that another enclave has signed. Then --etcd-server-name and
--etcd-cluster-id are needed, too.

With --dynamodb-table they are in a table of Amazon DynamoDB; --dynamodb-table-id is needed,
too. The host gives the credentials for it, so that whoever has those can put an old mark
back into the table. Against a host that somebody else has taken over, take etcd.

What could never work is refused: an endpoint that is not host[:port], a name that no
certificate has, an invalid chain id or public key, a --state-floor of a chain
that --chain leaves out, or not below --max-height.`,
		Example: "  privyseal nitro image-policy --kms-key arn:aws:kms:eu-central-1:111122223333:key/… > policy.json",
		Args:    cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := f.policy()
			if err != nil {
				return err
			}
			data, err := p.Encode()
			if err != nil {
				return cli.Usage(byFlag(err))
			}
			WarnForTests(cmd.ErrOrStderr(), p)
			if strings.Contains(p.KMSKey, ":key/mrk-") {
				fmt.Fprintln(cmd.ErrOrStderr(), "WARNING: this is a multi-Region KMS key: its replicas have their own key policies, and whatever those admit gets the validator's key; create a single-Region key instead")
			}
			_, err = cmd.OutOrStdout().Write(data)
			return err
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.kmsKey, "kms-key", "", "ARN of the KMS key that wraps the enclave's keys")
	fl.StringVar(&f.endpoint, "endpoint", "", "host[:port] of KMS, if not AWS's public one")
	fl.StringVar(&f.serverName, "server-name", "", "name in the certificate of the endpoint")
	fl.BoolVar(&f.fips, "fips", false, "the FIPS endpoint of the region")
	fl.StringVar(&f.tlsRoots, "tls-roots", "", "PEM file of the roots above that certificate (default: Amazon Trust Services)")
	fl.StringVar(&f.attestationRoot, "attestation-root", "", "PEM file of another root of attestation documents; for tests only")
	fl.StringArrayVar(&f.chains, "chain", nil, "chain that the enclave may sign for (default: the one that a wrapped key names); may be repeated")
	fl.StringArrayVar(&f.publicKeys, "public-key", nil, "public key of a key that may sign, as init printed it (default: any); may be repeated")
	fl.Int64Var(&f.maxHeight, "max-height", 0, "highest height that is ever signed; 0 is no limit")
	fl.StringArrayVar(&f.floors, "state-floor", nil, "CHAIN=HEIGHT: nothing at or below it is signed, and a lost state may be replaced by a new one above it; may be repeated")
	fl.BoolVar(&f.signBytes, "allow-sign-bytes", false, "let nodes have bytes of their choice signed (CometBFT v1, v2)")
	fl.BoolVar(&f.rawBytes, "allow-raw-bytes", false, "the same for Celestia")
	f.addDatabases(fl)
	return cmd
}

// addDatabases adds the flags that say where the marks are.
func (f *imagePolicyFlags) addDatabases(fl *pflag.FlagSet) {
	fl.StringVar(&f.etcdCA, "etcd-ca", "", "PEM file of the roots above the certificates of etcd's members")
	fl.StringArrayVar(&f.etcd.ServerNames, "etcd-server-name", nil, "name or IP address that the certificate of a member has; one for all, or repeated")
	fl.StringVar(&f.etcd.ClusterID, "etcd-cluster-id", "", "id of the cluster, in hex: cluster_id of \"etcdctl member list --write-out=json --hex\"")
	fl.StringVar(&f.etcd.Prefix, "etcd-prefix", "", "what the names of our keys in etcd begin with (default "+defaultPrefix+")")
	fl.StringVar(&f.table.Table, "dynamodb-table", "", "name of the table of DynamoDB")
	fl.StringVar(&f.table.TableID, "dynamodb-table-id", "", "its TableId, as \"aws dynamodb describe-table\" prints it")
	fl.StringVar(&f.table.TableRegion, "dynamodb-region", "", "region that it is in (default: that of the KMS key)")
	fl.StringVar(&f.table.TableEndpoint, "dynamodb-endpoint", "", "host[:port] of DynamoDB, if not AWS's public one")
}

// defaultPrefix is where the marks are in an etcd that others use, too.
const defaultPrefix = "/privyseal"

// byFlag names the flag of `privyseal nitro image-policy` in place of the key of
// the file.
func byFlag(err error) error {
	var k *policy.KeyError
	if !errors.As(err, &k) {
		return err
	}
	flags := map[string]string{"kms_endpoint": "endpoint", "kms_server_name": "server-name", "chains": "chain", "public_keys": "public-key", "etcd_server_names": "etcd-server-name"}
	return fmt.Errorf("--%s: %w", cmp.Or(flags[k.Key], strings.ReplaceAll(k.Key, "_", "-")), k.Err)
}

func (f *imagePolicyFlags) policy() (*policy.Policy, error) {
	if f.kmsKey == "" {
		return nil, cli.Usagef("--kms-key ARN is missing, as in --kms-key arn:aws:kms:eu-central-1:111122223333:key/…")
	}
	p, err := policy.ForAWS(f.kmsKey, f.fips)
	if err != nil {
		if f.endpoint == "" || f.fips {
			return nil, cli.Usage(byFlag(err))
		}
		p = &policy.Policy{KMSKey: f.kmsKey, TLSRoots: policy.AWSRoots()}
	}
	if f.endpoint != "" {
		var host string
		if p.KMSEndpoint, host, err = withPort(f.endpoint); err != nil {
			return nil, cli.Usagef("--endpoint: %w", err)
		}
		if p.KMSServerName == "" && f.serverName == "" && net.ParseIP(host) != nil {
			return nil, cli.Usagef("--server-name NAME is missing: the name in the certificate of %s", f.endpoint)
		}
		p.KMSServerName = cmp.Or(p.KMSServerName, host)
	}
	p.KMSServerName = cmp.Or(f.serverName, p.KMSServerName)
	p.Chains, p.MaxHeight = f.chains, f.maxHeight
	p.AllowSignBytes, p.AllowRawBytes = f.signBytes, f.rawBytes
	if err := f.inEtcd(p); err != nil {
		return nil, err
	}
	if err := f.inTable(p); err != nil {
		return nil, err
	}
	if err := f.readRoots(p); err != nil {
		return nil, err
	}
	for _, text := range f.publicKeys {
		key, err := keytext.Parse(text)
		if err != nil {
			return nil, cli.Usagef("--public-key %.80s: %w", text, err)
		}
		p.PublicKeys = append(p.PublicKeys, key.Base64())
	}
	p.StateFloor, err = parseFloors(f.floors)
	return p, err
}

// inEtcd takes over what says where the marks are.
func (f *imagePolicyFlags) inEtcd(p *policy.Policy) error {
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
func (f *imagePolicyFlags) inTable(p *policy.Policy) error {
	t := f.table
	switch {
	case t == policy.DynamoDB{}:
		return nil
	case t.Table == "":
		return cli.Usagef("--dynamodb-table TABLE is missing: the name of the table that has the marks")
	case t.TableID == "":
		return cli.Usagef("--dynamodb-table-id ID is missing: `aws dynamodb describe-table --table-name %s` prints it, as TableId", t.Table)
	}
	t.TableRegion = cmp.Or(t.TableRegion, p.Region())
	var err error
	if t.TableEndpoint == "" {
		if t.TableEndpoint, err = p.TableAt(t.TableRegion); err != nil {
			return cli.Usagef("%w; name the endpoint with --dynamodb-endpoint", err)
		}
	} else if t.TableEndpoint, _, err = withPort(t.TableEndpoint); err != nil {
		return cli.Usagef("--dynamodb-endpoint: %w", err)
	}
	p.DynamoDB = t
	return nil
}

// readRoots reads the files of roots, of which several may be one.
func (f *imagePolicyFlags) readRoots(p *policy.Policy) error {
	for _, root := range []struct {
		flag, path string
		to         *string
	}{{"tls-roots", f.tlsRoots, &p.TLSRoots}, {"attestation-root", f.attestationRoot, &p.AttestationRoot}, {"etcd-ca", f.etcdCA, &p.Etcd.CA}} {
		if root.path == "" {
			continue
		}
		data, err := cli.ReadBounded(root.path, policy.MaxSize)
		if err != nil {
			return cli.OfFlag(root.flag, err)
		}
		*root.to = string(data)
	}
	return nil
}

// withPort reads host[:port], where IPv6 may stand in brackets, and returns it with
// the port of HTTPS if it has none.
func withPort(endpoint string) (full, host string, err error) {
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
