package home

import (
	"strings"
	"testing"

	"privyseal/internal/config"
	"privyseal/internal/key/soft"
	"privyseal/internal/pubkey"
	"privyseal/internal/pubkey/keytext"
)

// What the operator of a node has to write into its config.toml.
func TestNodeLine(t *testing.T) {
	key, err := soft.Generate(pubkey.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	const peer = "12D3KooWQ5aaPLn1rhtELyw2ewXJ1V3uTmwqPuHWtZTzVsbXRhYK"
	us := keytext.PeerID(key.PublicKey())
	for _, c := range []struct {
		addr string
		own  []string // as of migrate
		want string   // the line; "" if the node's own stays
		warn bool
	}{
		{"unix:///run/x.sock", nil, "unix:///run/x.sock", false},
		{"tcp://localhost:26658", nil, "tcp://127.0.0.1:26658", false},
		{"tcp://LocalHost:26658", nil, "tcp://127.0.0.1:26658", false},
		{"tcp://localhost.:26658", nil, "tcp://127.0.0.1:26658", false},
		{"tcp://node.localhost:1", nil, "tcp://127.0.0.1:1", false},
		{"tcp://localhost.localdomain:1", nil, "tcp://127.0.0.1:1", false},
		{"tcp://ip6-localhost:1", nil, "tcp://[::1]:1", false},
		{"tcp://ip6-loopback:1", nil, "tcp://[::1]:1", false},
		{"tcp://127.0.0.2:1", nil, "tcp://127.0.0.2:1", false},
		{"tcp://[::1]:1", nil, "tcp://[::1]:1", false},
		{"tcp://[::ffff:127.0.0.1]:1", nil, "tcp://[::ffff:127.0.0.1]:1", false},
		{"tcp://localhost.example:1", nil, "tcp://0.0.0.0:1", true},
		{"tcp://notlocalhost:1", nil, "tcp://0.0.0.0:1", true},
		{"tcp://node.example:1", nil, "tcp://0.0.0.0:1", true},
		{"tcp://10.0.0.2:1", nil, "tcp://10.0.0.2:1", true},
		{"noise://" + peer + "@localhost:1", nil, "noise://" + us + "@127.0.0.1:1", false},
		{"noise://" + peer + "@node.example:1", nil, "noise://" + us + "@0.0.0.0:1", false},
		{"tcp://localhost:1", []string{"tcp://localhost:1"}, "tcp://localhost:1", false},
		{"tcp://127.0.0.1:1", []string{"localhost:1"}, "localhost:1", false},
		{"tcp://127.0.0.1:1", []string{"tcp://0.0.0.0:1"}, "tcp://0.0.0.0:1", true},
		{"tcp://127.0.0.1:1", []string{"tcp://:1"}, "tcp://:1", true},
		{"tcp://node.example:1", []string{""}, "", false},
	} {
		var out strings.Builder
		if err := reportNode(&out, config.Node{Name: "n", Addr: c.addr}, c.own, key.PublicKey()); err != nil {
			t.Errorf("%s: %v", c.addr, err)
		}
		want := "in config.toml of node n:\n  priv_validator_laddr = \"" + c.want + "\"\n"
		if c.want == "" {
			want = "node n is already configured to wait for its signer: its priv_validator_laddr stays as it is\n"
		}
		got, warning, _ := strings.Cut(out.String(), "  # whoever reaches this port first is the node's signer")
		if got != want || (warning != "") != c.warn {
			t.Errorf("%s, own %q:\n%swant\n%s and a warning: %t", c.addr, c.own, out.String(), want, c.warn)
		}
	}
}
