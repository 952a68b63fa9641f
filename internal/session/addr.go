package session

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"strconv"
	"strings"

	"privyseal/internal/noiseconn"
)

// Addr says where a node waits for its signer, and who it has to be.
type Addr struct {
	Network string // "unix", "tcp" (SecretConnection) or "noise"
	Address string // an absolute path, or host:port with IPv6 in brackets

	// Peer is whom to expect behind the address: the node id of tcp (40 lower
	// case hex digits, or empty: anybody), the libp2p peer id of noise (never
	// empty). It is empty for unix.
	Peer string
}

// maxUnixPath is the longest path that a socket address holds on every system
// we run on: sun_path has 104 bytes on darwin, 108 on Linux, one of them a NUL.
const maxUnixPath = 103

// ParseAddr reads unix:///path, [tcp://][node-id@]host:port and
// noise://peer-id@host:port. Without a scheme it is tcp, as in CometBFT and
// tmkms. Nothing is looked up or dialled.
func ParseAddr(s string) (Addr, error) {
	scheme, rest, found := strings.Cut(s, "://")
	if !found {
		scheme, rest = "tcp", s
	}
	var a Addr
	var err error
	switch scheme {
	case "unix":
		a, err = parseUnix(rest)
	case "tcp":
		a, err = parseTCP(rest)
	case "noise":
		a, err = parseNoise(rest)
	default:
		err = errors.New("the schemes are unix://, tcp:// and noise://")
	}
	if err != nil {
		return Addr{}, fmt.Errorf("address %q: %w", s, err)
	}
	return a, nil
}

// String returns the address in the form that [ParseAddr] reads.
func (a Addr) String() string {
	if a.Peer == "" {
		return a.Network + "://" + a.Address
	}
	return a.Network + "://" + a.Peer + "@" + a.Address
}

func parseUnix(p string) (Addr, error) {
	switch {
	case !strings.HasPrefix(p, "/"):
		return Addr{}, errors.New("the path of a socket is absolute, with three slashes: unix:///run/node/privval.sock")
	case path.Clean(p) != p || p == "/":
		return Addr{}, fmt.Errorf("not the plain path of a file; did you mean unix://%s", path.Clean(p))
	case len(p) > maxUnixPath:
		return Addr{}, fmt.Errorf("the path has %d bytes, a socket's may have %d", len(p), maxUnixPath)
	case strings.IndexFunc(p, isControl) >= 0:
		return Addr{}, errors.New("control characters in the path")
	}
	return Addr{Network: "unix", Address: p}, nil
}

func parseTCP(s string) (Addr, error) {
	id, hostport, found := strings.Cut(s, "@")
	if !found {
		id, hostport = "", s
	} else if len(id) != 40 || strings.Trim(id, "0123456789abcdefABCDEF") != "" {
		return Addr{}, errors.New("a node id has 40 hex digits: tcp://NODE-ID@host:port")
	}
	address, err := parseHostPort(hostport)
	return Addr{Network: "tcp", Address: address, Peer: strings.ToLower(id)}, err
}

func parseNoise(s string) (Addr, error) {
	id, hostport, found := strings.Cut(s, "@")
	if !found {
		return Addr{}, errors.New("noise needs the node's peer id, noise://PEER-ID@host:port; on the node type `cometbft show-node-id --libp2p`")
	}
	if _, err := noiseconn.ParsePeerID(id); err != nil {
		return Addr{}, err
	}
	address, err := parseHostPort(hostport)
	return Addr{Network: "noise", Address: address, Peer: id}, err
}

// parseHostPort returns s in one spelling: a host name in lower case, an IP
// address in its shortest form, a port without leading zeros.
func parseHostPort(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", errors.New("want host:port, an IPv6 address in brackets")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", fmt.Errorf("port %q is not a number from 1 to 65535", port)
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case err == nil && ip.IsUnspecified():
		return "", fmt.Errorf("%s is where a node listens, not where it is dialled; write the node's own address", host)
	case err == nil && strings.Trim(ip.Zone(), hostChars) != "":
		return "", fmt.Errorf("%q is not an IP address", host)
	case err == nil:
		host = ip.String()
	case host == "" || len(host) > 253 || strings.Trim(host, hostChars) != "":
		return "", fmt.Errorf("%q is no host name or IP address", host)
	default:
		host = strings.ToLower(host)
	}
	return net.JoinHostPort(host, strconv.FormatUint(n, 10)), nil
}

const hostChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

func isControl(r rune) bool { return r < ' ' || r == 0x7f }
