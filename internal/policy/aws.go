package policy

import (
	_ "embed"
	"fmt"
	"net"
	"strings"
)

// awsRoots are the roots above the endpoints of AWS: Amazon Root CA 1 to 4 and
// Starfield Services Root Certificate Authority - G2, as Mozilla has them. A
// test holds their fingerprints, which stand on https://www.amazontrust.com/repository/.
//
//go:embed aws-tls-roots.pem
var awsRoots string

// ForAWS returns the policy of a KMS key with AWS's public endpoint of the key's
// region, or the FIPS one, and AWS's roots. It is the start of a policy file:
// all that it leaves open is at its strictest.
func ForAWS(keyARN string, fips bool) (*Policy, error) {
	if err := checkKeyARN(keyARN); err != nil {
		return nil, &KeyError{"kms_key", err}
	}
	parts := strings.Split(keyARN, ":")
	domain, known := map[string]string{"aws": "amazonaws.com", "aws-us-gov": "amazonaws.com", "aws-cn": "amazonaws.com.cn"}[parts[1]]
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
