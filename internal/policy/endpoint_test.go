package policy

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// Where KMS may be, in a policy of production and in one for tests: what the text of
// the policy says, and what a name has resolved to.
func TestEndpoint(t *testing.T) {
	const never, tests, always = "never", "tests", "always"
	for address, where := range map[string]string{
		"kms.eu-central-1.amazonaws.com:443":                always,
		"vpce-1a2b.kms.eu-central-1.vpce.amazonaws.com:443": always,
		"3com.example:443":                                  always,
		"10.0.0.1:443":                                      always, // VPC
		"172.16.0.1:443":                                    always,
		"192.168.1.1:443":                                   always,
		"100.64.0.1:443":                                    always, // a VPC's second range
		"[fd00::1]:443":                                     always,
		"52.94.0.1:443":                                     always,
		"[2600:1f00::1]:443":                                always,
		"[64:ff9b::345e:1]:443":                             always, // NAT64 of 52.94.0.1

		"kms.eu-central-1.amazonaws.com:80":   tests,
		"kms.eu-central-1.amazonaws.com:8443": tests,
		"10.0.0.1:22":                         tests,
		"127.0.0.1:443":                       tests,
		"127.0.0.1:40001":                     tests,
		"127.255.0.1:443":                     tests,
		"[::1]:443":                           tests,
		"[::1]:65535":                         tests,
		"[::ffff:127.0.0.1]:443":              tests,
		"[64:ff9b::7f00:1]:443":               tests,
		"localhost:443":                       tests,
		"LOCALHOST:443":                       tests,
		"kms.localhost:443":                   tests,
		"localhost.localdomain:443":           tests,
		"localhost:1":                         tests,

		"169.254.169.254:80":          never,
		"169.254.169.254:443":         never,
		"169.254.0.1:443":             never,
		"169.254.170.2:443":           never, // credentials of containers
		"[fd00:ec2::254]:443":         never,
		"[fd00:ec2::254]:80":          never,
		"[fe80::1]:443":               never,
		"[fe80::a9fe:a9fe]:80":        never,
		"[::ffff:169.254.169.254]:80": never,
		"[::ffff:a9fe:a9fe]:443":      never,
		"[::169.254.169.254]:443":     never,
		"[64:ff9b::a9fe:a9fe]:443":    never,
		"[2002:a9fe:a9fe::1]:443":     never,
		"0.0.0.0:443":                 never,
		"0.1.2.3:443":                 never,
		"[::]:443":                    never,
		"[::ffff:0.0.0.0]:443":        never,
		"224.0.0.1:443":               never,
		"[ff02::1]:443":               never,
		"240.0.0.1:443":               never,
		"255.255.255.255:443":         never,
	} {
		for _, test := range []bool{false, true} {
			want := where == always || where == tests && test
			p := full(t)
			p.KMSEndpoint = address
			if !test {
				p.AttestationRoot = ""
			}
			_, err := p.Encode()
			if (err == nil) != want {
				t.Errorf("%s, for tests %v: %v", address, test, err)
			}
			var k *KeyError
			if err != nil && (!errors.As(err, &k) || k.Key != "kms_endpoint") {
				t.Errorf("%s, for tests %v: %v", address, test, err)
			}
			a, err := netip.ParseAddrPort(address)
			if err != nil {
				continue // a name
			}
			if err := p.Endpoint().Allows(a); (err == nil) != want {
				t.Errorf("%s, for tests %v, resolved: %v", address, test, err)
			}
		}
	}
	if err := (Endpoint{Test: true}).Allows(netip.AddrPort{}); err == nil {
		t.Error("no address is allowed")
	}
	if err := (Endpoint{}).Allows(netip.MustParseAddrPort("[fe80::1%eth0]:443")); err == nil || !strings.Contains(err.Error(), "metadata") {
		t.Errorf("link-local with a zone: %v", err)
	}
}
