package policy

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/pem"
	"fmt"
	"net"
	"slices"
	"strings"
)

// awsRoots are the roots above the endpoints of AWS: Amazon Root CA 1 to 4 and
// Starfield Services Root Certificate Authority - G2, as Mozilla has them. A
// test holds their fingerprints, which stand on https://www.amazontrust.com/repository/.
//
//go:embed aws-tls-roots.pem
var awsRoots string

// domains are those of AWS's endpoints, by partition.
var domains = map[string]string{"aws": "amazonaws.com", "aws-us-gov": "amazonaws.com", "aws-cn": "amazonaws.com.cn"}

// CheckKMS says why the KMS that the policy believes may be somebody else's than
// AWS's: by a root that is not AWS's, or by the name of another service, for
// AWS's roots stand above the certificates of its customers as well. Whoever
// answers as KMS chooses the data keys, and so knows all that is wrapped under
// them, whatever the enclave attests.
//
// Names: public, FIPS, dual-stack and private (VPC) endpoints of the key's region,
// https://docs.aws.amazon.com/general/latest/gr/kms.html.
func (p *Policy) CheckKMS() error {
	name := strings.ToLower(p.KMSServerName)
	known, err := p.isAWS(name, p.Region(), "kms", "kms-fips")
	switch {
	case err != nil:
		return err
	case !known:
		return fmt.Errorf("%s is not a name of KMS in %s", p.KMSServerName, p.Region())
	}
	return p.checkRoots()
}

// domain is that of the endpoints of AWS in a region: in the KMS key's partition, or, where
// no key says so, in the one that the region is named after.
func (p *Policy) domain(region string) (string, error) {
	partition := partitionOf(region)
	if p.KMSKey != "" {
		partition = strings.Split(p.KMSKey, ":")[1]
	}
	domain, known := domains[partition]
	if !known {
		return "", fmt.Errorf("the endpoints of the partition %s are not known here", partition)
	}
	return domain, nil
}

// partitionOf returns the partition of AWS that a region is in, by its name.
func partitionOf(region string) string {
	for _, p := range []struct{ prefix, partition string }{
		{"us-gov-", "aws-us-gov"}, {"cn-", "aws-cn"}, {"us-iso", "aws-iso"}, {"eu-iso", "aws-iso"}, {"eusc-", "aws-eusc"},
	} {
		if strings.HasPrefix(region, p.prefix) {
			return p.partition
		}
	}
	return "aws"
}

// isAWS reports whether a name, in lower case, is one of a service of AWS in a region of the
// policy's partition.
func (p *Policy) isAWS(name, region string, services ...string) (bool, error) {
	domain, err := p.domain(region)
	if err != nil {
		return false, err
	}
	dualStack := "api.aws"
	if domain == domains["aws-cn"] {
		dualStack = "api.amazonwebservices.com.cn"
	}
	if first, rest, _ := strings.Cut(name, "."); strings.HasPrefix(first, "vpce-") {
		name = strings.Replace(rest, ".vpce.", ".", 1)
		if name == rest {
			name = ""
		}
	}
	service, rest, _ := strings.Cut(name, ".")
	return slices.Contains(services, service) && (rest == region+"."+domain || rest == region+"."+dualStack), nil
}

// checkRoots says which of the roots is not one of AWS's.
func (p *Policy) checkRoots() error {
	ours := certificates(awsRoots)
	for _, der := range certificates(p.TLSRoots) {
		if !slices.ContainsFunc(ours, func(aws []byte) bool { return bytes.Equal(aws, der) }) {
			return fmt.Errorf("the TLS root with SHA-256 %x is not one of Amazon Trust Services'", sha256.Sum256(der))
		}
	}
	return nil
}

// certificates returns the blocks of a PEM file.
func certificates(text string) (list [][]byte) {
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return list
		}
		list = append(list, block.Bytes)
	}
}

// ForAWS returns the policy of a KMS key with AWS's public endpoint of the key's
// region, or the FIPS one, and AWS's roots. It is the start of a policy file:
// all that it leaves open is at its strictest.
func ForAWS(keyARN string, fips bool) (*Policy, error) {
	if err := checkKeyARN(keyARN); err != nil {
		return nil, &KeyError{"kms_key", err}
	}
	parts := strings.Split(keyARN, ":")
	domain, known := domains[parts[1]]
	if !known {
		return nil, fmt.Errorf("the endpoints of the partition %s are not known here; name the endpoint", parts[1])
	}
	service := "kms"
	if fips {
		service = "kms-fips"
	}
	host := strings.Join([]string{service, parts[3], domain}, ".")
	p := &Policy{KMSKey: keyARN, KMSEndpoint: net.JoinHostPort(host, "443"), KMSServerName: host, TLSRoots: awsRoots}
	return p, p.check()
}

// AWSRoots returns the roots above the endpoints of AWS, PEM.
func AWSRoots() string { return awsRoots }
