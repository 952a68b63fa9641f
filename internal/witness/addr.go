package witness

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Nodes are the tcp listeners that signers dial, by host and port.
type Nodes map[string]string

// Add notes the address of a node, in the form of session.ParseAddr. A unix socket
// is no place for a witness anyway.
func (n Nodes) Add(node string) {
	_, rest, found := strings.Cut(node, "://")
	if !found || strings.HasPrefix(node, "unix:") {
		return
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		rest = rest[at+1:]
	}
	if host, port, err := net.SplitHostPort(rest); err == nil {
		n[place(host, port)] = node
	}
}

// CheckAddr judges the address of a witness: http:// or https://, a host, a port
// where it is not the scheme's own, and perhaps the path of a proxy. A node takes
// whoever dials its privval listener for its signer, and can end by it: the
// addresses of nodes are refused.
func CheckAddr(addr string, nodes Nodes) error {
	u, err := parse(addr)
	if err != nil {
		return err
	}
	if n, taken := nodes[place(u.Hostname(), portOf(u))]; taken {
		return fmt.Errorf("%q is the node's privval address, %s; a witness is the RPC address, `laddr` in [rpc] of its config.toml", addr, n)
	}
	return nil
}

// CheckAddrs judges addresses, where nothing is known of nodes.
func CheckAddrs(addrs []string) error {
	for _, addr := range addrs {
		if err := CheckAddr(addr, nil); err != nil {
			return err
		}
	}
	return nil
}

func parse(addr string) (*url.URL, error) {
	for _, scheme := range []string{"unix:", "tcp://", "noise://", "/"} {
		if strings.HasPrefix(addr, scheme) {
			return nil, fmt.Errorf("%q is written like the address of a privval listener; a witness is the RPC address of a node, as in \"http://127.0.0.1:26657\"", addr)
		}
	}
	u, err := url.Parse(addr)
	if err != nil {
		// The error of package url repeats the text, which may hold a password.
		return nil, errors.New("not a URL, as in \"http://127.0.0.1:26657\"")
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https" || u.Opaque != "":
		return nil, fmt.Errorf("%q is not an http:// or https:// address, as in \"http://127.0.0.1:26657\"", u.Redacted())
	case u.Hostname() == "":
		return nil, fmt.Errorf("%q names no host", u.Redacted())
	case strings.HasSuffix(u.Host, ":") || u.Port() != "" && !validPort(u.Port()):
		return nil, fmt.Errorf("%q has no port from 1 to 65535 after its colon", u.Redacted())
	case u.User != nil:
		return nil, fmt.Errorf("%q holds a user name; privyseal sends no credentials to a witness", u.Redacted())
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, fmt.Errorf("%q has a query or fragment after its path", u.Redacted())
	}
	return u, nil
}

// place is one text for all names of this machine, and for all ways to write an address.
func place(host, port string) string {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if ip := net.ParseIP(host); ip != nil {
		host = ip.String()
		if ip.IsLoopback() || ip.IsUnspecified() {
			host = "localhost"
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err == nil {
		port = strconv.FormatUint(n, 10) // who dials ignores zeros before it
	}
	return net.JoinHostPort(host, port)
}

func validPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

func portOf(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return map[string]string{"http": "80", "https": "443"}[u.Scheme]
}
