package home

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/pubkey"
	"privyseal/internal/session"
)

// reportNode prints the line for a node's config.toml. own begins with what the node
// listens on already, "" if that is not known; it is empty for a node that does not
// listen yet.
func reportNode(w io.Writer, n config.Node, own []string, identity pubkey.Key) error {
	addr, err := session.ParseAddr(n.Addr)
	if err != nil {
		return err
	}
	line := listenAddr(addr, identity)
	switch {
	case len(own) > 0 && own[0] == "":
		_, err = fmt.Fprintf(w, "node %s is already configured to wait for its signer: its priv_validator_laddr stays as it is\n", n.Name)
		return err
	case len(own) > 0:
		line = own[0]
	}
	fmt.Fprintf(w, "in config.toml of node %s:\n  priv_validator_laddr = %q\n", n.Name, line)
	if exposed(line) {
		fmt.Fprintf(w, "  # whoever reaches this port first is the node's signer: let a firewall admit only this\n  # host, or use unix:// or noise://\n")
	}
	return nil
}

// listenAddr returns what a node has to listen on to be dialled at addr.
func listenAddr(addr session.Addr, identity pubkey.Key) string {
	if addr.Network == "unix" {
		return addr.String()
	}
	host, port, err := net.SplitHostPort(addr.Address)
	if err != nil {
		return addr.String() // cannot be: ParseAddr has split it
	}
	// A name means whatever it resolves to; a node listens on addresses.
	if ip, known := loopbackName(host); known {
		host = ip
	} else if _, err := netip.ParseAddr(host); err != nil {
		host = "0.0.0.0"
	}
	listen := session.Addr{Network: addr.Network, Address: net.JoinHostPort(host, port)}
	if addr.Network == "noise" {
		listen.Peer = cli.PeerID(identity)
	}
	return listen.String()
}

// loopbackName returns the loopback address for a host name that means one on every
// system: RFC 6761, section 6.3, and Debian's names for ::1.
func loopbackName(host string) (ip string, known bool) {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	switch {
	case host == "localhost" || host == "localhost.localdomain" || strings.HasSuffix(host, ".localhost"):
		return "127.0.0.1", true
	case slices.Contains([]string{"ip6-localhost", "ip6-loopback", "localhost6", "localhost6.localdomain6"}, host):
		return "::1", true
	}
	return "", false
}

// exposed reports whether others than this host's users can be the signer of a node
// with that priv_validator_laddr: over tcp nobody authenticates anybody.
func exposed(laddr string) bool {
	scheme, rest, found := strings.Cut(laddr, "://")
	if !found {
		scheme, rest = "tcp", laddr
	}
	host, _, err := net.SplitHostPort(rest)
	if scheme != "tcp" || err != nil {
		return false
	}
	_, loopback := loopbackName(host)
	ip, err := netip.ParseAddr(host)
	return !loopback && (err != nil || !ip.Unmap().IsLoopback())
}
