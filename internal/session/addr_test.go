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
		"":                                      "it is empty; an address is written unix:///run/node/privval.sock, tcp://HOST:PORT or noise://PEER-ID@HOST:PORT",
		"unix://run/node.sock":                  "a socket is written unix:///run/node.sock",
		"unix:/run/x.sock":                      "a socket is written unix:///run/x.sock",
		"unix:///run//x.sock":                   "a socket is written unix:///run/x.sock",
		"unix:////run/x.sock":                   "a socket is written unix:///run/x.sock",
		"unix:run/x.sock":                       "a socket is written unix:///run/x.sock",
		"/run/x.sock":                           "a socket is written unix:///run/x.sock",
		"/run/x.sock/":                          "a socket is written unix:///run/x.sock",
		"UNIX:/run/x.sock":                      "a socket is written unix:///run/x.sock",
		"Unix:///run/x.sock":                    "a scheme is written unix:///run/x.sock",
		"./x.sock":                              "with its absolute path, as in unix:///run/node/privval.sock",
		"~/x.sock":                              "with its absolute path",
		"unix://./x.sock":                       "with its absolute path",
		"unix://":                               "it has no path; a socket is written unix:///run/node/privval.sock",
		"unix:":                                 "an address is written unix:///",
		"unix:///run/../node.sock":              "a socket is written unix:///node.sock",
		"unix:///run/":                          "a socket is written unix:///run",
		"unix:///":                              "it has no path",
		"unix:///" + strings.Repeat("x", 103):   "104 bytes",
		"unix:///a\x00b":                        "control characters",
		"http://node:80":                        "the schemes are",
		"TCP://node:80":                         "a scheme is written tcp://node:80",
		"TCP://node":                            "an address is written unix:///",
		"Noise://" + peerID + "@node:1":         "a scheme is written noise://" + peerID + "@node:1",
		"tcp:node:80":                           "it is written tcp://node:80",
		"tcp:/node:80":                          "it is written tcp://node:80",
		"tcp://h:1/":                            "nothing follows the port; write h:1",
		"tcp://h:1/x?y#z":                       "nothing follows the port; write h:1",
		"tcp://h/":                              "it has no port; write HOST:PORT, as in h:26659",
		"tcp:///run/x.sock":                     "it has no port",
		"tcp://":                                "it has no port; write HOST:PORT, as in 127.0.0.1:26659",
		"node":                                  "it has no port; write HOST:PORT, as in node:26659",
		"node:":                                 `port "" is not a number from 1 to 65535`,
		"node:http":                             `port "http" is not a number`,
		"node:0":                                "port",
		"node:65536":                            "port",
		"node:-1":                               "port",
		" node:1":                               `" node:1" is not HOST:PORT`,
		"node:1\n":                              `"node:1\n" is not HOST:PORT`,
		":26659":                                "it has no host; write the node's own address, as in tcp://127.0.0.1:26659",
		"tcp://0.0.0.0:26659":                   "where a node listens",
		"tcp://[::]:26659":                      "where a node listens",
		"2001:db8::1:26659":                     "goes in brackets, as in [2001:db8::1]:26659",
		"tcp://::1":                             "goes in brackets and has a port, as in [::1]:26659",
		"tcp://[::1]":                           "as in [::1]:26659",
		"tcp://a b:1":                           "is not HOST:PORT",
		"tcp://\x1b[31m:1":                      `"\x1b[31m:1" is not HOST:PORT`,
		"tcp://abc@node:26659":                  "40 hex digits",
		"tcp://@node:26659":                     "40 hex digits",
		"tcp://" + nodeID + "@" + "x@node:1":    "is not HOST:PORT",
		"tcp://" + nodeID[:39] + "g@node:26659": "40 hex digits",
		"noise://node:26659":                    "show-node-id --libp2p",
		"noise://" + nodeID + "@node:26659":     "12D3Koo",
		"noise://" + peerID + "1@node:26659":    "52 characters",
		"noise://" + peerID + "@node":           "it has no port",
		"tcp://[fe80::1%et h0]:26659":           "is not HOST:PORT",
		"tcp://" + strings.Repeat("a", 254) + ":1": "is not a host name",
	} {
		got, err := ParseAddr(in)
		if err == nil {
			t.Errorf("%q was read as %+v", in, got)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %q does not say %q", in, err, want)
		} else if strings.ContainsFunc(err.Error(), isControl) {
			t.Errorf("%q: control characters in %q", in, err)
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
			// What it says how to write is right.
			if _, right, found := strings.Cut(err.Error(), " is written "); found && !strings.Contains(right, " ") {
				if _, err := ParseAddr(right); err != nil {
					t.Fatalf("%q: asked to write %q, which is refused: %v", s, right, err)
				}
			}
			return
		}
		b, err := ParseAddr(a.String())
		if err != nil || a != b {
			t.Fatalf("%q is %+v, but %q is %+v, %v", s, a, a.String(), b, err)
		}
	})
}
