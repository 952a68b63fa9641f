package session

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"privyseal/internal/noiseconn"
)

// Addr says where a node waits for its signer, and who it has to be.
type Addr struct {
	Network string // "unix", "tcp" (SecretConnection) or "noise"
	Address string // an absolute path, or host:port with IPv6 in brackets

	// Peer is whom to expect at the address: the node id of tcp (40 lower
	// case hex digits, or empty: anybody), the libp2p peer id of noise (never
	// empty). It is empty for unix.
	Peer string
}

// Socket returns the network of package net that the address is dialled on.
func (a Addr) Socket() string {
	if a.Network == "unix" {
		return "unix"
	}
	return "tcp"
}

// maxUnixPath is the longest path that a socket address holds on every system
// we run on: sun_path has 104 bytes on darwin, 108 on Linux, one of them a NUL.
const maxUnixPath = 103

// ParseAddr reads unix:///path, [tcp://][node-id@]host:port and
// noise://peer-id@host:port. Without a scheme it is tcp, as in CometBFT and
// tmkms. Nothing is looked up or dialled. An error says how the address is written
// that was probably meant.
func ParseAddr(s string) (Addr, error) {
	a, err := parseAddr(s)
	if err != nil {
		return Addr{}, fmt.Errorf("address %.200q: %w", s, err)
	}
	return a, nil
}

func parseAddr(s string) (Addr, error) {
	scheme, rest, found := strings.Cut(s, "://")
	switch {
	case !found:
		if err := misspelled(s); err != nil {
			return Addr{}, err
		}
		return parseTCP(s)
	case scheme == "unix":
		return parseUnix(rest)
	case scheme == "tcp":
		return parseTCP(rest)
	case scheme == "noise":
		return parseNoise(rest)
	case slices.Contains(schemes, strings.ToLower(scheme)):
		return Addr{}, written("a scheme", strings.ToLower(scheme)+"://"+rest)
	}
	return Addr{}, errors.New("the schemes are unix://, tcp:// and noise://")
}

var schemes = []string{"unix", "tcp", "noise"}

// misspelled says how s is written, which has no scheme, if it is meant to have one
// or to be a socket; otherwise nil.
func misspelled(s string) error {
	if s == "" {
		return errors.New("it is empty; " + forms)
	}
	if strings.ContainsRune("/.~", rune(s[0])) {
		return writtenSocket(s)
	}
	scheme, rest, _ := strings.Cut(s, ":")
	scheme = strings.ToLower(scheme)
	if !slices.Contains(schemes, scheme) || rest != "" && strings.Trim(rest, "0123456789") == "" { // a host of that name
		return nil
	}
	if scheme == "unix" {
		return writtenSocket(rest)
	}
	return written("it", scheme+"://"+strings.TrimLeft(rest, "/"))
}

// forms names what an address can be.
const forms = "an address is written unix:///run/node/privval.sock, tcp://HOST:PORT or noise://PEER-ID@HOST:PORT"

// written returns the error that names the right spelling of what, if that is one.
func written(what, right string) error {
	if a, err := parseAddr(right); err == nil {
		return fmt.Errorf("%s is written %s", what, a)
	}
	return errors.New(forms)
}

// writtenSocket does that for a socket whose path was written as p.
func writtenSocket(p string) error {
	if strings.HasPrefix(p, "~") || strings.HasPrefix(p, ".") {
		return errors.New("a socket is written with its absolute path, as in unix:///run/node/privval.sock")
	}
	return written("a socket", "unix://"+path.Clean("/"+p))
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
	case p == "" || path.Clean(p) == "/":
		return Addr{}, errors.New("it has no path; a socket is written unix:///run/node/privval.sock")
	case len(p) > maxUnixPath:
		return Addr{}, fmt.Errorf("the path has %d bytes, a socket's may have %d", len(p), maxUnixPath)
	case strings.IndexFunc(p, isControl) >= 0:
		return Addr{}, errors.New("control characters in the path")
	case !strings.HasPrefix(p, "/") || path.Clean(p) != p:
		return Addr{}, writtenSocket(p)
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
	if strings.Trim(s, hostChars+":[]%/?#") != "" {
		return "", fmt.Errorf("%.100q is not HOST:PORT", s)
	}
	end := strings.IndexAny(s+"/", "/?#")
	host, port, err := net.SplitHostPort(s[:end])
	if err != nil {
		return "", badHostPort(s[:end])
	}
	if end < len(s) {
		return "", fmt.Errorf("nothing follows the port; write %s", s[:end])
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
	case host == "":
		return "", errors.New("it has no host; write the node's own address, as in tcp://127.0.0.1:" + port)
	case len(host) > 253 || strings.Trim(host, hostChars) != "":
		return "", fmt.Errorf("%q is not a host name or IP address", host)
	default:
		host = strings.ToLower(host)
	}
	return net.JoinHostPort(host, strconv.FormatUint(n, 10)), nil
}

// badHostPort says what is wrong with s, which is not HOST:PORT.
func badHostPort(s string) error {
	front, port := s[:max(0, strings.LastIndexByte(s, ':'))], s[strings.LastIndexByte(s, ':')+1:]
	bare := strings.Trim(s, "[]")
	switch ip, err := netip.ParseAddr(front); {
	case err == nil && ip.Is6():
		return fmt.Errorf("an IPv6 address goes in brackets, as in [%s]:%s", front, port)
	case strings.Count(bare, ":") > 1:
		return fmt.Errorf("an IPv6 address goes in brackets and has a port, as in [%s]:26659", bare)
	}
	return fmt.Errorf("it has no port; write HOST:PORT, as in %s:26659", cmp.Or(bare, "127.0.0.1"))
}

const hostChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

func isControl(r rune) bool { return r < ' ' || r == 0x7f }
