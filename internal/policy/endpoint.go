package policy

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Endpoint is where a policy has a service of AWS. The host connects the enclave to it, so
// whoever writes the policy of an image that somebody else runs would else have a way
// into that host: to its metadata service, which hands out credentials, or to what
// listens on its loopback.
type Endpoint struct {
	// Service is its name, for people: KMS, DynamoDB.
	Service string
	// Address is host:port; IPv6 is in brackets.
	Address string
	// Test says that the policy is one for tests, which names an attestation root of
	// its own: its services may be on this host, at any port.
	Test bool
}

// awsPort is the port of all endpoints of AWS, private ones too.
const awsPort = 443

// Allows says why an address, to which the endpoint's name may have resolved just
// now, is not connected to; nil if it is. Private addresses are fine: that is where
// VPC endpoints are.
func (e Endpoint) Allows(a netip.AddrPort) error {
	if a.Port() != awsPort && !e.Test {
		return fmt.Errorf("its port is %d, and that of %s %d: only a policy for tests, with an attestation_root, names another", a.Port(), e.Service, awsPort)
	}
	return e.allowsIP(a.Addr())
}

func (e Endpoint) allowsIP(ip netip.Addr) error {
	ip = embedded(ip.WithZone("").Unmap())
	switch {
	case ip.IsLoopback() && e.Test:
		return nil
	case ip.IsLoopback() || ip.IsUnspecified() || thisNetwork.Contains(ip):
		return fmt.Errorf("%s is this host: only a policy for tests, with an attestation_root, has its %s there", ip, e.Service)
	case ip.IsLinkLocalUnicast() || amazonLocal.Contains(ip):
		return fmt.Errorf("%s is where the instance's metadata service is, and not a %s", ip, e.Service)
	case !ip.IsValid() || ip.IsMulticast() || reserved.Contains(ip) || compatible.Contains(ip):
		return fmt.Errorf("%s is not an address of a server", ip)
	}
	return nil
}

var (
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")     // RFC 1122; Linux connects 0.0.0.0 to loopback
	amazonLocal = netip.MustParsePrefix("fd00:ec2::/32") // metadata, DNS and time of an EC2 instance
	reserved    = netip.MustParsePrefix("240.0.0.0/4")   // RFC 1112, and broadcast
	compatible  = netip.MustParsePrefix("::/96")         // RFC 4291, 2.5.5.1, deprecated
	nat64       = netip.MustParsePrefix("64:ff9b::/96")  // RFC 6052
	sixToFour   = netip.MustParsePrefix("2002::/16")     // RFC 3056
)

// embedded returns the IPv4 address that a translator would take an IPv6 address for,
// and any other as it is.
func embedded(ip netip.Addr) netip.Addr {
	if !ip.Is6() {
		return ip
	}
	b := ip.As16()
	switch {
	case nat64.Contains(ip):
		return netip.AddrFrom4([4]byte(b[12:]))
	case sixToFour.Contains(ip):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return ip
}

// check says why the endpoint cannot be one of AWS, as far as its text shows: what a
// name resolves to, Allows sees.
func (e Endpoint) check() error {
	host, port, err := net.SplitHostPort(e.Address)
	if err != nil {
		return fmt.Errorf("%q is not host:port, as in %s.eu-central-1.amazonaws.com:443", e.Address, strings.ToLower(e.Service))
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("%q is not host:port, without a scheme and a path: the port is not a number from 1 to 65535", e.Address)
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case err == nil && ip.Zone() == "":
		err = e.Allows(netip.AddrPortFrom(ip, uint16(n)))
	case err != nil && isDNSName(host):
		err = e.allowsName(host, n)
	default:
		err = fmt.Errorf("%q is neither a DNS name nor an IP address", host)
	}
	if err != nil {
		return fmt.Errorf("%q is not host:port of a %s: %w", e.Address, e.Service, err)
	}
	return nil
}

// allowsName asks what Allows does of a name. Those of RFC 6761, 6.3, are loopback.
func (e Endpoint) allowsName(name string, port uint64) error {
	last := strings.ToLower(name[strings.LastIndexByte(name, '.')+1:])
	switch {
	case e.Test:
		return nil
	case port != awsPort:
		return fmt.Errorf("its port is %d, and that of %s %d: only a policy for tests, with an attestation_root, names another", port, e.Service, awsPort)
	case last == "localhost" || last == "localdomain":
		return fmt.Errorf("it is this host: only a policy for tests, with an attestation_root, has its %s there", e.Service)
	}
	return nil
}

// isDNSName reports whether s is a host name of RFC 1123, without a dot at its
// end. A last label of digits alone is that of an IP address.
func isDNSName(s string) bool {
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' || strings.Trim(l, letters+digits+"-") != "" {
			return false
		}
	}
	return len(s) <= 253 && strings.Trim(labels[len(labels)-1], digits) != ""
}

const (
	letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	digits  = "0123456789"
)
