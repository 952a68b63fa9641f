package session

import (
	"strings"
	"testing"
)

const (
	nodeID = "21fe31dfa154a261626bf854046fd2271b7bed4b"
	peerID = "12D3KooWQ5aaPLn1rhtELyw2ewXJ1V3uTmwqPuHWtZTzVsbXRhYK"
)

func TestParseAddr(t *testing.T) {
	for in, want := range map[string]Addr{
		"unix:///run/node/privval.sock":              {"unix", "/run/node/privval.sock", ""},
		"unix:///tmp/with space%20.sock":             {"unix", "/tmp/with space%20.sock", ""},
		"tcp://127.0.0.1:26659":                      {"tcp", "127.0.0.1:26659", ""},
		"127.0.0.1:26659":                            {"tcp", "127.0.0.1:26659", ""},
		"Node.Example:026659":                        {"tcp", "node.example:26659", ""},
		"tcp://[2001:DB8::0:1]:26659":                {"tcp", "[2001:db8::1]:26659", ""},
		"tcp://[fe80::1%eth0]:26659":                 {"tcp", "[fe80::1%eth0]:26659", ""},
		"tcp://" + nodeID + "@node:26659":            {"tcp", "node:26659", nodeID},
		strings.ToUpper(nodeID) + "@10.0.0.1:1":      {"tcp", "10.0.0.1:1", nodeID},
		"noise://" + peerID + "@10.0.0.1:26659":      {"noise", "10.0.0.1:26659", peerID},
		"noise://" + peerID + "@[::1]:65535":         {"noise", "[::1]:65535", peerID},
		"unix:///" + strings.Repeat("x", 102):        {"unix", "/" + strings.Repeat("x", 102), ""},
		"tcp://" + strings.Repeat("a", 253) + ":123": {"tcp", strings.Repeat("a", 253) + ":123", ""},
	} {
		got, err := ParseAddr(in)
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", in, got, err, want)
		}
	}
}

func TestParseAddrRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"":                                      "want host:port",
		"unix://run/node.sock":                  "three slashes",
		"unix:/run/node.sock":                   "is not a number",
		"unix:///run/../node.sock":              "did you mean unix:///node.sock",
		"unix:///run/":                          "did you mean unix:///run",
		"unix:///":                              "not the plain path",
		"unix:///" + strings.Repeat("x", 103):   "104 bytes",
		"unix:///a\x00b":                        "control characters",
		"http://node:80":                        "the schemes are",
		"TCP://node:80":                         "the schemes are",
		"node":                                  "want host:port",
		"node:http":                             "port",
		"node:0":                                "port",
		"node:65536":                            "port",
		"node:-1":                               "port",
		":26659":                                "no host name",
		"tcp://0.0.0.0:26659":                   "where a node listens",
		"tcp://[::]:26659":                      "where a node listens",
		"2001:db8::1:26659":                     "in brackets",
		"tcp://a b:1":                           "no host name",
		"tcp://abc@node:26659":                  "40 hex digits",
		"tcp://@node:26659":                     "40 hex digits",
		"tcp://" + nodeID + "@" + "x@node:1":    "no host name",
		"tcp://" + nodeID[:39] + "g@node:26659": "40 hex digits",
		"noise://node:26659":                    "show-node-id --libp2p",
		"noise://" + nodeID + "@node:26659":     "12D3Koo",
		"noise://" + peerID + "1@node:26659":    "52 characters",
		"noise://" + peerID + "@node":           "want host:port",
		"tcp://[fe80::1%et h0]:26659":           "not an IP address",
		"tcp://" + strings.Repeat("a", 254) + ":1": "no host name",
	} {
		got, err := ParseAddr(in)
		if err == nil {
			t.Errorf("%q was read as %+v", in, got)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %q does not say %q", in, err, want)
		}
	}
}

// What is accepted is written in one way, and reads back as the same address.
func FuzzParseAddr(f *testing.F) {
	for _, s := range []string{
		"unix:///run/node/privval.sock", "127.0.0.1:26659", "tcp://[::1]:1", "tcp://[fe80::1%eth0]:26659",
		"tcp://" + strings.ToUpper(nodeID) + "@Node:026659", "noise://" + peerID + "@10.0.0.1:26659",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddr(s)
		if err != nil {
			if a != (Addr{}) {
				t.Fatalf("an error and an address: %+v", a)
			}
			return
		}
		b, err := ParseAddr(a.String())
		if err != nil || a != b {
			t.Fatalf("%q is %+v, but %q is %+v, %v", s, a, a.String(), b, err)
		}
	})
}
