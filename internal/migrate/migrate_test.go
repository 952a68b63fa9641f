package migrate

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"privyseal/internal/watermark"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// settle is short here, and the files of an installation are made old.
const settle = 50 * time.Millisecond

// install copies testdata/name to a folder of its own, as such installations
// lie on a host: nobody else reads them, and nothing has changed for an hour.
// (A repository keeps neither.)
func install(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", name))); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return errors.Join(os.Chmod(path, 0o600), os.Chtimes(path, old, old))
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// edit replaces old in a file of the installation, and leaves it old.
func edit(t *testing.T, path, old, new string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("%s has no %q", path, old)
	}
	write(t, path, strings.Replace(string(text), old, new, 1))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, source, path string) (*Installation, error) {
	t.Helper()
	return Read(t.Context(), Place{Source: source, Paths: []string{path}}, settle)
}

// show is all that was found, with the installation's folder as HOME.
func show(in *Installation, home string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "source %s\n", in.Source)
	for _, w := range in.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	if e := in.Enclave; e != nil {
		fmt.Fprintf(&b, "enclave %v\n  from %s\n", e, e.File)
		for _, w := range e.Warnings {
			fmt.Fprintf(&b, "  warning: %s\n", w)
		}
	}
	for _, c := range in.Chains {
		fmt.Fprintf(&b, "\nchain %s\n", c.ID)
		if c.KMS != nil {
			fmt.Fprintf(&b, "  ciphertext of %d bytes, region %s\n    from %s\n", len(c.KMS), c.Region, c.KeyFile)
		} else if d := c.Device; d != nil {
			fmt.Fprintf(&b, "  key %v, %s\n    as %d, password %v (%d bytes), from %s\n", d, d.Type, d.AuthKey, d.Password, len(d.Password.Reveal()), d.PasswordFile)
		} else {
			fmt.Fprintf(&b, "  key %v\n    from %s\n", c.Key.PublicKey(), c.KeyFile)
		}
		fmt.Fprintf(&b, "  mark %v %X\n    from %s\n", c.Mark, c.Mark.SignBytes, c.StateFile)
		for _, n := range c.Nodes {
			fmt.Fprintf(&b, "  node %s %s\n", n.Name, n.Addr)
		}
		if c.Identity != nil {
			fmt.Fprintf(&b, "  identity %s\n    from %s\n", c.Identity.PublicKey().NodeID(), c.IdentityFile)
		}
		fmt.Fprintf(&b, "  max_height %d, timeout %v\n", c.MaxHeight, c.Timeout)
		for _, w := range c.Warnings {
			fmt.Fprintf(&b, "  warning: %s\n", w)
		}
	}
	b.WriteString("\nto switch off:\n")
	for i, s := range in.SwitchOff {
		fmt.Fprintf(&b, "%d. %s\n", i+1, s)
	}
	return strings.ReplaceAll(b.String(), home, "HOME")
}

// installations are the folders of testdata; those that hold their keys in a device have
// its name at the end.
func installations() []string { return append(Sources(), "tmkms-light-nitro", "tmkms-yubihsm") }

func sourceOf(name string) string {
	return strings.TrimSuffix(strings.TrimSuffix(name, "-nitro"), "-yubihsm")
}

// Each signer's installation, whole, against a text that one can proof-read.
func TestInstallations(t *testing.T) {
	for _, name := range installations() {
		t.Run(name, func(t *testing.T) {
			source := sourceOf(name)
			home := install(t, name)
			before := tree(t, home)
			in, err := read(t, source, home)
			if err != nil {
				t.Fatal(err)
			}
			got := show(in, home)
			golden := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("the installation (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, tree(t, home)); diff != "" {
				t.Errorf("reading changed the installation:\n%s", diff)
			}
		})
	}
}

// tree returns the contents, modes and times of all files.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text := ""
		if !d.IsDir() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text = string(data)
		}
		files[path] = fmt.Sprintf("%v %v %s", info.Mode(), info.ModTime(), text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// The folder, a folder in it, or the file itself: all name the installation.
func TestPaths(t *testing.T) {
	for _, tt := range []struct{ source, tree, path string }{
		{"cometbft", "cometbft", "config"},
		{"tmkms", "tmkms", "tmkms.toml"},
		{"tmkms-light", "tmkms-light", "tmkms.toml"},
		{"cosmos-kms", "cosmos-kms", "kms.yaml"},
	} {
		home := install(t, tt.tree)
		if in, err := read(t, tt.source, filepath.Join(home, tt.path)); err != nil || len(in.Chains) == 0 {
			t.Errorf("%s: Read of %s = %v, %v", tt.source, tt.path, in, err)
		}
	}
	t.Chdir(filepath.Dir(install(t, "tmkms")))
	in, err := read(t, "tmkms", "tmkms")
	if err != nil {
		t.Fatal(err)
	}
	if path := in.Chains[0].KeyFile; !filepath.IsAbs(path) {
		t.Errorf("the key's path is %s", path)
	}
}

// What makes an installation unreadable, each with the words that say why.
func TestRefusals(t *testing.T) {
	const (
		comet      = "config/config.toml"
		cometKey   = "config/priv_validator_key.json"
		cometState = "data/priv_validator_state.json"
	)
	tests := []struct {
		source, file, old, new string
		want                   string
	}{
		{"cometbft", comet, "moniker = ", "moniker == ", comet + ": toml"},
		{"cometbft", comet, "config/genesis.json", "config/nothing.json", "the node's genesis names the chain"},
		{"cometbft", comet, "config/priv_validator_key.json", "nothing.json", "no such file"},
		{"cometbft", comet, `laddr = ""`, `laddr = "noise://12D3KooWQ5aaPLn1rhtELyw2ewXJ1V3uTmwqPuHWtZTzVsbXRhYK@0.0.0.0:26659"`, "migrate that signer instead"},
		{"cometbft", comet, `laddr = ""`, `laddr = "tcp://26659"`, "cannot read priv_validator_laddr"},
		{"cometbft", "config/genesis.json", `"chain_id"`, `"chainid"`, "it has no chain_id"},
		{"cometbft", "config/genesis.json", `"test-chain-8SAWOC"`, `7`, "its chain_id is not a string"},
		{"cometbft", "config/genesis.json", `{`, `[`, "it is not a JSON object"},
		{"cometbft", "config/genesis.json", `"test-chain-8SAWOC"`, `"test-chain-9"`, `the state of another chain: what was signed last is of "test-chain-8SAWOC"`},
		{"cometbft", cometKey, "5ABBA", "5ABBB", "its address does not belong"},
		{"cometbft", cometState, `"signature": "oHS`, `"signature": "oHT`, "the state of another key"},
		{"cometbft", cometState, `"height": "11"`, `"height": "12"`, "it contradicts itself: its mark is 12/0/precommit, and what was signed last is of 11/0/precommit"},
		{"cometbft", cometState, `"height": "11"`, `"height": "10"`, "it contradicts itself"},
		{"cometbft", cometState, `"step": 3`, `"step": 2`, "it contradicts itself"},
		{"cometbft", cometState, `"round": 0`, `"round": 1`, "it contradicts itself"},
		{"cometbft", cometState, `"step": 3`, `"step": 4`, "it has the step 4"},
		{"cometbft", cometState, `"height": "11"`, `"height": "-11"`, "it has the height -11"},
		{"cometbft", cometState, `"height": "11"`, `"height": "011"`, "not a whole number"},
		{"cometbft", cometState, `"height": "11",`, ``, "it has no height"},
		{"cometbft", cometState, `"signbytes": "76`, `"signbytes": "75`, "the length in front does not match"},
		{"cometbft", cometState, `"signbytes": "76`, `"signbytes": "x6`, "not hex digits"},
		{"cometbft", cometState, `"signbytes"`, `"sign_bytes"`, "unknown field"},
		{"cometbft", cometState, "}", "}{}", "something follows its end"},

		{"tmkms", "tmkms.toml", `id = "osmosis-1"`, `id = 1`, "tmkms.toml:13: toml"},
		{"tmkms", "tmkms.toml", `id = "osmosis-1"`, `id = "osmosis-2"`, `a [[validator]] of the chain "osmosis-1", and no such [[chain]]`},
		{"tmkms", "tmkms.toml", `id = "osmosis-1"`, `id = "cosmoshub-4"`, `and no such [[chain]]`},
		{"tmkms", "tmkms.toml", `id = "retired-1"`, `id = "osmosis-1"`, `it holds the chain osmosis-1 twice`},
		{"tmkms", "tmkms.toml", `state/sdk-secp-1.json`, `state/cosmoshub-4-consensus.json`, `share the state`},
		{"tmkms", "tmkms.toml", `["cosmoshub-4", "sdk-secp-1"]`, `["cosmoshub-4"]`, "the chain sdk-secp-1 has no key: neither [[providers.softsign]] nor [[providers.yubihsm]] names it"},
		{"tmkms", "tmkms.toml", `"account"`, `"consensus"`, "the chain cosmoshub-4 has 2 keys, and tmkms allows one: "},
		{"tmkms", "tmkms.toml", `"account"`, `"other"`, `unknown type "other"`},
		{"tmkms", "tmkms.toml", "secrets/consensus.key", "secrets/nothing.key", "write the whole path there"},
		{"tmkms", "tmkms.toml", `"30000000"`, `"0"`, `max_height "0" is not a height`},
		{"tmkms", "tmkms.toml", "secret_key = \"secrets/kms-identity.key\"\nprotocol", "protocol", "has no secret_key"},
		{"tmkms", "tmkms.toml", "10.0.0.2:26658", "10.0.0.2", "a node that cannot be dialled"},
		{"tmkms", "tmkms.toml", "10.0.0.2:26658", "http://10.0.0.2:26658", "the schemes are"},
		{"tmkms", "state/cosmoshub-4-consensus.json", `"step":2`, `"step":3`, "its signer counts steps from 0 to 2"},
		{"tmkms", "state/cosmoshub-4-consensus.json", `"round":"1"`, `"round":"2147483647"`, "it has the round 2147483647"},
		{"tmkms", "state/cosmoshub-4-consensus.json", `"height":"23456789"`, `"height":"0"`, "a step at height 0"},
		{"tmkms", "state/cosmoshub-4-consensus.json", `"step":2,`, ``, "it has no height, round or step"},

		{"tmkms-yubihsm", "tmkms.toml", `serial_number = "00`, `serial = "00`, "tmkms.toml:35: the key providers.yubihsm.serial is unknown"},
		{"tmkms-yubihsm", "tmkms.toml", `type = "usb"`, `type = "usb", bus = 1`, "tmkms.toml:28: the key providers.yubihsm.bus is unknown"},
		{"tmkms-yubihsm", "tmkms.toml", `key = 2 }`, `key = 2, label = "x" }`, "tmkms.toml:32: the key providers.yubihsm.label is unknown"},
		{"tmkms-yubihsm", "tmkms.toml", "[[providers.softsign]]", "[[providers.yubihsm]]\nadapter = { type = \"usb\" }\n[[providers.softsign]]", "has 2 [[providers.yubihsm]], and tmkms allows one"},
		{"tmkms-yubihsm", "tmkms.toml", `adapter = { type = "usb" }`, ``, "it has no adapter"},
		{"tmkms-yubihsm", "tmkms.toml", `"usb"`, `"serial"`, `its adapter is of the unknown type "serial"`},
		{"tmkms-yubihsm", "tmkms.toml", `"usb"`, `"usb", addr = "tcp://127.0.0.1:12345"`, "of the type usb, and has an addr"},
		{"tmkms-yubihsm", "tmkms.toml", `"usb"`, `"http", addr = "tcp://127.0.0.1:12345", timeout_ms = 5`, "of the type http, and has a timeout_ms"},
		{"tmkms-yubihsm", "tmkms.toml", `"0007550054"`, `"0x7334e6"`, `its serial_number "0x7334e6" is not a serial number`},
		{"tmkms-yubihsm", "tmkms.toml", `"0007550054"`, `"99999999999"`, `its serial_number "99999999999" is not a serial number`},
		{"tmkms-yubihsm", "tmkms.toml", `auth = {`, `# auth = {`, "it has no auth with a key"},
		{"tmkms-yubihsm", "tmkms.toml", `key = 4, `, ``, "it has no auth with a key"},
		{"tmkms-yubihsm", "tmkms.toml", `, password = "kms-validator-password-1k02vtxh4ggxct5tngncc33rk9yy5yjhk"`, ``, "neither password_file nor password"},
		{"tmkms-yubihsm", "tmkms.toml", `password =`, `password_file = "secrets/pw", password =`, "both password_file and password"},
		{"tmkms-yubihsm", "tmkms.toml", `password = "`, `password = [1], x = "`, "tmkms.toml:29: toml"},
		{"tmkms-yubihsm", "tmkms.toml", `key = 4`, `key = 65536`, "tmkms.toml:29: toml"},
		{"tmkms-yubihsm", "tmkms.toml", `["osmosis-1"], key = 2`, `[], key = 2`, "its key 0x0002 has no chain_ids"},
		{"tmkms-yubihsm", "tmkms.toml", `["osmosis-1"], key = 2`, `["osmosis-1"]`, "one of its keys has no key"},
		{"tmkms-yubihsm", "tmkms.toml", `["osmosis-1"], key`, `["osmosis-2"], key`, `its key 0x0002 names the chain "osmosis-2", and there is no such [[chain]]`},
		{"tmkms-yubihsm", "tmkms.toml", `["osmosis-1"], key`, `["osmosis-1", "osmosis-1"], key`, `its key 0x0002 names the chain "osmosis-1" twice`},
		{"tmkms-yubihsm", "tmkms.toml", `type = "account"`, `type = "other"`, `its key 0x0103 is of the unknown type "other"`},
		{"tmkms-yubihsm", "tmkms.toml", `["osmosis-1"], key`, `["cosmoshub-4"], key`, "the chain cosmoshub-4 has 2 keys, and tmkms allows one: 0x0001 in the YubiHSM and 0x0002 in the YubiHSM"},
		{"tmkms-yubihsm", "tmkms.toml", `chain_ids = ["testnet-1"]`, `chain_ids = ["testnet-1", "osmosis-1"]`, "the chain osmosis-1 has 2 keys"},
		{"tmkms-yubihsm", "tmkms.toml", `    { chain_ids = ["osmosis-1"], key = 2 },`, ``, "the chain osmosis-1 has no key"},
		{"tmkms-yubihsm", "tmkms.toml", `id = "osmosis-1"`, `id = "cosmoshub-4"`, "and there is no such [[chain]]"},
		{"tmkms-yubihsm", "tmkms.toml", "state/osmosis-1-consensus.json", "state/cosmoshub-4-consensus.json", "share the state"},
		{"tmkms-yubihsm", "tmkms.toml", "state/osmosis-1-consensus.json", "state/none.json", "\n`privyseal init --chain-id osmosis-1 --node ADDR --provider yubihsm --yubihsm-take --yubihsm-key-id 0x0002 --yubihsm-device usb://0007550054 --yubihsm-auth-key 4 --yubihsm-password-file FILE --after-height H`"},
		{"tmkms-yubihsm", "state/osmosis-1-consensus.json", `"height":"1234"`, `"height":"-1"`, "the state of chain osmosis-1, "},

		{"tmkms-light", "tmkms.toml", "retry = true", "retry = 1", "tmkms.toml:8: toml"},
		{"tmkms-light", "tmkms.toml", "chain_id = ", "chainid = ", "has no chain_id"},
		{"tmkms-light", "tmkms.toml", "state_file_path = ", "state = ", "has no state_file_path"},
		{"tmkms-light", "tmkms.toml", "id_key_path = ", "idkey = ", "a tcp address, and no id_key_path"},

		{"cosmos-kms", "kms.yaml", "chains:", "chains: [", "kms.yaml: yaml"},
		{"cosmos-kms", "kms.yaml", "chains:", "chains: 7\nold:", "kms.yaml: yaml"},
		{"cosmos-kms", "kms.yaml", "- id: retired-1", "- state_file: x", "a chain without id"},
		{"cosmos-kms", "kms.yaml", "- id: retired-1", "- id: evm-1", "twice"},
		{"cosmos-kms", "kms.yaml", "- id: retired-1", "- id: other-1", "the chain other-1 has 0 keys"},
		{"cosmos-kms", "kms.yaml", "- evm-1", "- test-chain-8SAWOC", "the chain test-chain-8SAWOC has 2 keys"},
		{"cosmos-kms", "kms.yaml", "backend: file", "backend: pkcs11", "is in the backend pkcs11"},
		{"cosmos-kms", "kms.yaml", "secp256k1eth", "bls", `unknown algorithm "bls"`},
		{"cosmos-kms", "kms.yaml", "10.0.0.2", "127.0.0.1", "has the node tcp://127.0.0.1:26659 twice"},
		{"cosmos-kms", "kms.yaml", "chain_id: evm-1\n    addr: noise://12D3", "chain_id: evm-1\n    addr: noise://", "cannot be dialled"},
		{"cosmos-kms", "kms.yaml", "26659\n    identity_key: identity.json\n    colour", "26659\n    identity_key: nothing.json\n    colour", "no such file"},
		{"cosmos-kms", "evm.json", `"step": 3`, `"step": 3, "signature": "AAAA"`, "but not both"},
	}
	for _, tt := range tests {
		home := install(t, tt.source)
		edit(t, filepath.Join(home, tt.file), tt.old, tt.new)
		in, err := read(t, sourceOf(tt.source), home)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "1k02vtx") {
			t.Errorf("%s with %q for %q: Read = %v, %v\nwant an error with %q", tt.source, tt.new, tt.old, in, err, tt.want)
		}
	}
}

// Where the device is, in the words of tmkms and in ours.
func TestDeviceAddresses(t *testing.T) {
	for _, tt := range []struct{ adapter, serial, want string }{
		{`type = "usb"`, `"0123456789"`, "usb://0123456789"},
		{`type = "usb", timeout_ms = 500`, `"7550054"`, "usb://0007550054"},
		{`type = "usb"`, `""`, "usb://"},
		{`type = "http", addr = "tcp://127.0.0.1:12345"`, `"0123456789"`, "http://127.0.0.1:12345"},
		{`type = "http", addr = "hsm.example.com:12345"`, `""`, "http://hsm.example.com:12345"},
		{`type = "http", addr = "tcp://[::1]:12345"`, `""`, "http://[::1]:12345"},
		{`type = "http", addr = "tcp://DEADBEEFDEADBEEFDEADBEEFDEADBEEFDEADBEEF@10.0.0.9:1"`, `""`, "http://10.0.0.9:1"},
		{`type = "http"`, `""`, ""},
		{`type = "http", addr = "unix:///run/hsm.sock"`, `""`, ""},
		{`type = "http", addr = "http://127.0.0.1:12345"`, `""`, ""},
		{`type = "http", addr = "tcp://127.0.0.1"`, `""`, ""},
		{`type = "http", addr = "tcp://127.0.0.1:0"`, `""`, ""},
		{`type = "http", addr = "tcp://127.0.0.1:99999"`, `""`, ""},
		{`type = "http", addr = "tcp://:12345"`, `""`, ""},
		{`type = "http", addr = "tcp://a/b:12345"`, `""`, ""},
		{`type = "http", addr = "tcp://127.0.0.1:12345/x"`, `""`, ""},
	} {
		home := install(t, "tmkms-yubihsm")
		edit(t, filepath.Join(home, "tmkms.toml"), `type = "usb"`, tt.adapter)
		edit(t, filepath.Join(home, "tmkms.toml"), `"0007550054"`, tt.serial)
		in, err := read(t, "tmkms", home)
		switch {
		case tt.want == "" && (err == nil || !strings.Contains(err.Error(), "is not tcp://HOST:PORT, where yubihsm-connector listens")):
			t.Errorf("{ %s }: Read = %v", tt.adapter, err)
		case tt.want != "" && (err != nil || in.Chains[0].Device.Address != tt.want):
			t.Errorf("{ %s }, serial number %s: Read = %v, %v", tt.adapter, tt.serial, in, err)
		}
	}
}

// A file with the password stays where it is, and is named by its whole path; one in the
// config is kept from everything that prints.
func TestDevicePasswords(t *testing.T) {
	home := install(t, "tmkms-yubihsm")
	in, err := read(t, "tmkms", home)
	if err != nil {
		t.Fatal(err)
	}
	d := in.Chains[0].Device
	if d.Password.Reveal() != "kms-validator-password-1k02vtxh4ggxct5tngncc33rk9yy5yjhk" || d.PasswordFile != filepath.Join(home, "tmkms.toml") {
		t.Errorf("the password was not read, or from %q", d.PasswordFile)
	}
	if text := fmt.Sprintf("%v %+v %#v", in, in.Chains, *d); strings.Contains(text, "1k02vtx") {
		t.Errorf("the password was printed: %s", text)
	}
	edit(t, filepath.Join(home, "tmkms.toml"), `password = "kms-validator-password-1k02vtxh4ggxct5tngncc33rk9yy5yjhk"`, `password_file = "secrets/password"`)
	if in, err = read(t, "tmkms", home); err != nil {
		t.Fatal(err)
	}
	d = in.Chains[0].Device
	if want := filepath.Join(home, "secrets/password"); d.PasswordFile != want || d.Password.Reveal() != "" {
		t.Errorf("the password is in %q, want %q", d.PasswordFile, want)
	}
	for _, text := range append(in.Warnings, in.SwitchOff...) {
		if strings.Contains(text, "password") {
			t.Errorf("with a password file: %s", text)
		}
	}
}

// What a chain whose key is in a Ledger, or at Fortanix, does instead.
func TestKeysThatCannotCome(t *testing.T) {
	for _, tt := range []struct{ provider, want, next string }{
		{
			`[[providers.ledgertm]]
chain_ids = ["osmosis-1"]`,
			"the key of chain osmosis-1 is in a Ledger, which cannot export it, and whose validator app is no longer maintained",
			"make a new key, and register it with the chain in place of the old one, before you switch the Ledger off: `privyseal init --chain-id osmosis-1 --node ADDR`",
		},
		{
			`[[providers.fortanixdsm]]
api_endpoint = "https://amer.smartkey.io"
api_key = "c2VjcmV0LWtleQ=="
signing_keys = [{ chain_ids = ["osmosis-1"], type = "consensus", key_id = "72e9ed9e-9eb4-46bd-a135-e78ed9bfd611" }]`,
			"the key 72e9ed9e-9eb4-46bd-a135-e78ed9bfd611 of chain osmosis-1 is in Fortanix DSM at https://amer.smartkey.io, which privyseal does not sign with",
			"if Fortanix lets the key be exported, import it, with the state of tmkms; if not, make a new key without --import-key, and register it with the chain: `privyseal init --chain-id osmosis-1 --node ADDR --import-key FILE --import-state STATE`",
		},
	} {
		home := install(t, "tmkms-yubihsm")
		edit(t, filepath.Join(home, "tmkms.toml"), `    { chain_ids = ["osmosis-1"], key = 2 },`, "")
		edit(t, filepath.Join(home, "tmkms.toml"), "[[providers.softsign]]", tt.provider+"\n\n[[providers.softsign]]")
		in, err := read(t, "tmkms", home)
		if want := "cannot migrate from tmkms: " + tt.want + "\n" + tt.next; err == nil || err.Error() != want {
			t.Errorf("Read = %v, %v\nwant %s", in, err, want)
		}
	}
}

// An SGX enclave of tmkms-light is recognised, and a Nitro one that lacks
// something.
func TestEnclavesAreRefused(t *testing.T) {
	home := install(t, "tmkms-light")
	if _, err := read(t, "tmkms-light", filepath.Join(home, "sgx.toml")); err == nil || !strings.Contains(err.Error(), "which nobody else opens\nadd --sgx-backup") {
		t.Errorf("Read of sgx.toml = %v", err)
	}
	tmkms := install(t, "tmkms")
	if _, err := read(t, "tmkms-light", tmkms); err == nil || !strings.Contains(err.Error(), "privyseal migrate tmkms") {
		t.Errorf("Read of a config of tmkms = %v", err)
	}
	for _, tt := range []struct{ old, new, want string }{
		{"aws_region", "aws_regoin", "no aws_region"},
		{"secrets/secret.key", "secrets/none.key", "the wrapped key of chain testchain-1"},
		{"secrets/secret.key", "secrets/empty.key", "is empty"},
		{"state/priv", "state/no_priv", "--provider nitro --eif IMAGE --public-key KEY --import-kms"},
		{`"5000000"`, `"many"`, "is not a height"},
		{"unix:///run", "ftp:///run", "cannot be dialled"},
	} {
		nitro := install(t, "tmkms-light-nitro")
		write(t, filepath.Join(nitro, "secrets/empty.key"), "")
		edit(t, filepath.Join(nitro, "tmkms.toml"), tt.old, tt.new)
		if _, err := read(t, "tmkms-light", nitro); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s for %s: Read = %v, want an error with %q", tt.new, tt.old, err, tt.want)
		}
	}
}

// What the old enclave was launched with is taken over as far as ours can have it,
// from the enclave.toml beside tmkms.toml or another one.
func TestEnclaveSettings(t *testing.T) {
	for _, tt := range []struct {
		name, old, new string
		want           string
		warning        string
	}{
		{"as init wrote it", "cpu_count = 2", "cpu_count = 2", "cid = 15, memory_mib = 512, cpu_count = 2", ""},
		{"with a context id", "cpu_count = 2", "cpu_count = 4\nenclave_cid = 33", "cid = 33, memory_mib = 512, cpu_count = 4", "enclave_config_cid 15; the first one"},
		{"a host's context id", "cpu_count = 2", "cpu_count = 2\nenclave_cid = 3", "cid = 15, memory_mib = 512, cpu_count = 2", "enclave_cid = 3 was left out"},
		{"too little memory", "512", "32", "cid = 15, cpu_count = 2", "memory_mib = 32 was left out: it is not from 64"},
		{"less than nothing", "cpu_count = 2", "cpu_count = -1", "cid = 15, memory_mib = 512", "cpu_count = -1 was left out"},
		{"a private endpoint", "kms.ap-southeast-1.amazonaws.com", "vpce-1.kms.ap-southeast-1.vpce.amazonaws.com", "cid = 15, memory_mib = 512, cpu_count = 2", "nitro image-policy --endpoint vpce-1.kms"},
		{"a key of its own", "cpu_count = 2", "cpu_count = 2\ncpu_ids = [1]", "cid = 15, memory_mib = 512, cpu_count = 2", "the key enclave.cpu_ids is unknown"},
		{"no TOML", "cpu_count = 2", "cpu_count =", "cid = 15", "cannot read the settings of the old enclave"},
	} {
		nitro := install(t, "tmkms-light-nitro")
		edit(t, filepath.Join(nitro, "enclave.toml"), tt.old, tt.new)
		in, err := read(t, "tmkms-light", nitro)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		warnings := strings.Join(in.Enclave.Warnings, "\n")
		if got := in.Enclave.String(); got != tt.want || !strings.Contains(warnings, tt.warning) || (warnings == "") != (tt.warning == "") {
			t.Errorf("%s: %s, and %q, want %s, and %q", tt.name, got, warnings, tt.want, tt.warning)
		}
	}

	nitro := install(t, "tmkms-light-nitro")
	elsewhere := filepath.Join(t.TempDir(), "e.toml")
	if err := os.Rename(filepath.Join(nitro, "enclave.toml"), elsewhere); err != nil {
		t.Fatal(err)
	}
	in, err := read(t, "tmkms-light", nitro)
	if err != nil {
		t.Fatal(err)
	}
	if e := in.Enclave; e.String() != "cid = 15" || e.File != "" || e.Warnings != nil {
		t.Errorf("without enclave.toml: %v from %q, %q", e, e.File, e.Warnings)
	}
	if err := in.ReadEnclave(elsewhere); err != nil || in.Enclave.String() != "cid = 15, memory_mib = 512, cpu_count = 2" || in.Enclave.File != elsewhere {
		t.Errorf("elsewhere: %v, %v", in.Enclave, err)
	}
	if err := in.ReadEnclave(elsewhere + ".none"); !errors.Is(err, fs.ErrNotExist) || in.Enclave.MemoryMiB != 512 {
		t.Errorf("nowhere: %v, %v", in.Enclave, err)
	}
	if in, err = read(t, "tmkms-light", install(t, "tmkms-light")); err != nil || in.Enclave != nil || in.ReadEnclave(elsewhere) == nil {
		t.Errorf("a software signer has the enclave %v, %v", in.Enclave, err)
	}
}

func TestUnknownSource(t *testing.T) {
	if _, err := read(t, "dirk", t.TempDir()); err == nil || !strings.Contains(err.Error(), "cometbft, tmkms, tmkms-light, cosmos-kms, horcrux") {
		t.Errorf("Read = %v", err)
	}
	for _, source := range Sources() {
		if _, err := read(t, source, t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Read of an empty folder as %s = %v", source, err)
		}
	}
}

// Without a state nobody knows what was signed: the error is typed, and names
// the way out.
func TestStateIsMandatory(t *testing.T) {
	states := map[string]string{
		"cometbft":    "data/priv_validator_state.json",
		"tmkms":       "state/cosmoshub-4-consensus.json",
		"tmkms-light": "state/priv_validator_state.json",
		"cosmos-kms":  "state/test-chain-8SAWOC.json",
		"horcrux":     "cosigner_3/state/test-chain-8SAWOC_share_sign_state.json",
	}
	for _, source := range Sources() {
		spoil := map[string]func(path string){
			"it is missing": func(path string) {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			},
			"it is empty":     func(path string) { write(t, path, "") },
			"it is empty, ":   func(path string) { write(t, path, "\n") },
			"it is truncated": func(path string) { write(t, path, `{"height":"1`) },
			"it has no":       func(path string) { write(t, path, `{}`) },
			"65536 bytes":     func(path string) { write(t, path, strings.Repeat(" ", MaxStateSize+1)) },
			"not a regular file": func(path string) {
				if err := errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)); err != nil {
					t.Fatal(err)
				}
			},
		}
		for want, f := range spoil {
			home := install(t, source)
			path := filepath.Join(home, states[source])
			f(path)
			in, err := read(t, source, home)
			var missing *StateError
			if !errors.As(err, &missing) || missing.Path != path || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: Read = %v, %v\nwant a *StateError with %q", source, in, err, want)
				continue
			}
			if source == "horcrux" { // no one file holds its key
				continue
			}
			if cure := "\n`privyseal init --chain-id " + missing.ChainID + " --node ADDR --import-key " + missing.KeyFile + " --after-height H`"; !strings.Contains(err.Error(), cure) {
				t.Errorf("%s: the error names no cure: %v", source, err)
			}
		}
	}
}

// A state that was just written may be written again.
func TestWaitsForTheStateToSettle(t *testing.T) {
	home := install(t, "cometbft")
	path := filepath.Join(home, "data/priv_validator_state.json")
	now := time.Now()
	if err := os.Chtimes(path, now, now); err != nil {
		t.Fatal(err)
	}
	const settle = 300 * time.Millisecond
	if _, err := Read(t.Context(), Place{Source: "cometbft", Paths: []string{home}}, settle); err != nil {
		t.Fatal(err)
	}
	if waited := time.Since(now); waited < settle {
		t.Errorf("Read did not wait: it took %v", waited)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	now = time.Now().Add(time.Hour) // by a clock that was ahead
	if err := os.Chtimes(path, now, now); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(ctx, Place{Source: "cometbft", Paths: []string{home}}, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("Read with an ended context = %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := Read(ctx, Place{Source: "cometbft", Paths: []string{home}}, settle); err != nil {
		t.Errorf("Read of a state from the future = %v", err)
	}
}

// A state has changed if any of its bytes, its time or the file itself has.
func TestUnchanged(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(path string, was fs.FileInfo) error
		changed bool
	}{
		"nothing": {func(string, fs.FileInfo) error { return nil }, false},
		"its bytes": {func(path string, was fs.FileInfo) error {
			return errors.Join(os.WriteFile(path, []byte("B"), 0o600), os.Chtimes(path, was.ModTime(), was.ModTime()))
		}, true},
		"its time": {func(path string, was fs.FileInfo) error {
			return os.Chtimes(path, was.ModTime(), was.ModTime().Add(time.Second))
		}, true},
		"the file": {func(path string, was fs.FileInfo) error {
			return errors.Join(replaceFile(path, []byte("A")), os.Chtimes(path, was.ModTime(), was.ModTime()))
		}, true},
		"it is gone": {func(path string, _ fs.FileInfo) error { return os.Remove(path) }, true},
	} {
		path := filepath.Join(t.TempDir(), "state")
		write(t, path, "A")
		first, err := readState(path)
		if err == nil {
			err = c.change(path, first.info)
		}
		if err != nil {
			t.Fatal(err)
		}
		var live *LiveError
		if err := unchanged([][]snapshot{{}, {first}}); errors.As(err, &live) != c.changed || (err == nil) == c.changed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A signer that still runs replaces its state while we look.
func TestRefusesAStateThatChanges(t *testing.T) {
	home := install(t, "tmkms-light")
	path := filepath.Join(home, "state", "priv_validator_state.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { // tmkms-light: a temporary file, renamed
		defer cancel()
		for range 1000 { // who has not seen it by then sees nothing
			select {
			case <-ctx.Done():
				done <- nil
				return
			case <-time.After(10 * time.Millisecond):
			}
			if err := replaceFile(path, bytes.TrimSpace(text)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	// The file of an hour ago, seen before the first write, would pass.
	now := time.Now()
	if err := os.Chtimes(path, now, now); err != nil {
		t.Fatal(err)
	}
	_, err = Read(ctx, Place{Source: "tmkms-light", Paths: []string{home}}, time.Hour)
	cancel()
	var live *LiveError
	if !errors.As(err, &live) || live.Path != path || !strings.Contains(err.Error(), "repeat this command") {
		t.Errorf("Read = %v, want a *LiveError", err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// replaceFile puts another file in the place of one.
func replaceFile(path string, data []byte) error {
	return errors.Join(os.WriteFile(path+".tmp", data, 0o600), os.Rename(path+".tmp", path))
}

// A running node holds its databases, however seldom it signs.
func TestRefusesARunningNode(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells who holds a lock: run make test there")
	}
	home := install(t, "cometbft")
	lock := filepath.Join(home, "data", "state.db", "LOCK")
	if err := os.MkdirAll(filepath.Dir(lock), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, lock, "")
	if _, err := read(t, "cometbft", home); err != nil {
		t.Fatalf("with a lock that nobody holds: %v", err)
	}
	f, err := os.Open(lock)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	_, err = read(t, "cometbft", home)
	var live *LiveError
	if !errors.As(err, &live) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("Read = %v, want a *LiveError with our process", err)
	}
	// With a remote signer the node runs on, and its own files rest.
	edit(t, filepath.Join(home, "config/config.toml"), `laddr = ""`, `laddr = "unix:///run/node/privval.sock"`)
	if _, err := read(t, "cometbft", home); err != nil {
		t.Errorf("Read beside a node that has a remote signer = %v", err)
	}
}

// Where a node listens is not always where it is dialled.
func TestListenAddresses(t *testing.T) {
	for laddr, want := range map[string]string{
		"tcp://0.0.0.0:26659":           "tcp://127.0.0.1:26659",
		"tcp://[::]:26659":              "tcp://[::1]:26659",
		":26659":                        "tcp://127.0.0.1:26659",
		"tcp://10.1.2.3:26659":          "tcp://10.1.2.3:26659",
		"node.example.com:26659":        "tcp://node.example.com:26659",
		"unix:///run/node/privval.sock": "unix:///run/node/privval.sock",
	} {
		home := install(t, "cometbft")
		edit(t, filepath.Join(home, "config/config.toml"), `laddr = ""`, fmt.Sprintf("laddr = %q", laddr))
		in, err := read(t, "cometbft", home)
		if err != nil {
			t.Errorf("%s: %v", laddr, err)
			continue
		}
		c := in.Chains[0]
		if diff := cmp.Diff([]Node{{"node1", want, laddr}}, c.Nodes); diff != "" {
			t.Errorf("%s: %s", laddr, diff)
		}
		if !strings.Contains(strings.Join(c.Warnings, "\n"), "make sure that no other signer has") {
			t.Errorf("%s: no warning that another signer may have signed: %q", laddr, c.Warnings)
		}
	}
}

// The steps of both families, and what each says was signed.
func TestMarks(t *testing.T) {
	at := func(h int64, r int32, s watermark.Step) watermark.Mark {
		return watermark.Mark{Height: h, Round: r, Step: s}
	}
	tests := []struct {
		source, state string
		want          watermark.Mark
		warning       string
	}{
		{"cometbft", `{"height":"0","round":0,"step":0}`, watermark.Mark{}, ""},
		{"cometbft", `{"height":"7","round":0,"step":0}`, at(7, 0, watermark.StepNone), "does not hold what was signed"},
		{"cometbft", `{"height":"7","round":2,"step":1}`, at(7, 2, watermark.StepProposal), "does not hold what was signed"},
		{"cometbft", `{"height":"9223372036854775807","round":0,"step":3}`, at(9223372036854775807, 0, watermark.StepPrecommit), "does not hold what was signed"},
		{"tmkms-light", `{"height":"0","round":"0","step":0,"block_id":null}`, watermark.Mark{}, ""},
		{"tmkms-light", `{"height":"7","round":"0","step":0,"block_id":null}`, at(7, 0, watermark.StepProposal), "nothing is signed again at 7/0/proposal"},
		{"tmkms-light", `{"height":"7","round":"3","step":1,"block_id":null}`, at(7, 3, watermark.StepPrevote), "nothing is signed again at 7/3/prevote"},
		{"tmkms-light", `{"height":"7","round":"0","step":2,"block_id":null}`, at(7, 0, watermark.StepPrecommit), "nothing is signed again at 7/0/precommit"},
	}
	for _, tt := range tests {
		home := install(t, tt.source)
		dir := map[string]string{"cometbft": "data", "tmkms-light": "state"}[tt.source]
		write(t, filepath.Join(home, dir, "priv_validator_state.json"), tt.state)
		in, err := read(t, tt.source, home)
		if err != nil {
			t.Errorf("%s %s: %v", tt.source, tt.state, err)
			continue
		}
		c := in.Chains[0]
		if diff := cmp.Diff(tt.want, c.Mark); diff != "" || c.Mark.SignBytes != nil {
			t.Errorf("%s %s: %s", tt.source, tt.state, diff)
		}
		if got := strings.Join(c.Warnings, "\n"); !strings.Contains(got, tt.warning) || tt.warning == "" && got != "" {
			t.Errorf("%s %s: the warnings are %q, want one with %q", tt.source, tt.state, c.Warnings, tt.warning)
		}
	}
}

// A validator key may not double as the identity (a fault of tmkms-light's SGX
// recovery leaves such installations), and loose modes are refused.
func TestKeys(t *testing.T) {
	home := install(t, "tmkms-light")
	edit(t, filepath.Join(home, "tmkms.toml"), "secrets/id.key", "secrets/secret.key")
	in, err := read(t, "tmkms-light", home)
	if err != nil {
		t.Fatal(err)
	}
	if c := in.Chains[0]; c.Identity != nil || !strings.Contains(strings.Join(c.Warnings, "\n"), "is the validator key itself") {
		t.Errorf("the validator key is taken as identity; the warnings are %q", c.Warnings)
	}
	if err := os.Chmod(filepath.Join(home, "secrets/secret.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := read(t, "tmkms-light", home); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("Read of a world-readable key = %v", err)
	}
}

func TestSignsForNoChain(t *testing.T) {
	home := install(t, "tmkms")
	write(t, filepath.Join(home, "tmkms.toml"), "[[chain]]\nid = \"retired-1\"\n")
	if _, err := read(t, "tmkms", home); err == nil || !strings.Contains(err.Error(), "it signs for no chain") {
		t.Errorf("Read = %v", err)
	}
}

func TestLower(t *testing.T) {
	for _, tt := range [][3]int64{{0, 0, 0}, {0, 5, 5}, {5, 0, 5}, {4, 5, 4}, {5, 4, 4}} {
		if got := lower(tt[0], tt[1]); got != tt[2] {
			t.Errorf("lower(%d, %d) = %d, want %d", tt[0], tt[1], got, tt[2])
		}
	}
}

// A home whose path is too long for a socket is dialled by tcp.
func TestLongHome(t *testing.T) {
	home := filepath.Join(t.TempDir(), strings.Repeat("x", 120))
	if err := os.Rename(install(t, "cometbft"), home); err != nil {
		t.Fatal(err)
	}
	in, err := read(t, "cometbft", home)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Node{{"node1", "tcp://127.0.0.1:26659", "tcp://127.0.0.1:26659"}}, in.Chains[0].Nodes); diff != "" {
		t.Error(diff)
	}
}

// The chain id is found wherever it is, and what is inside other values
// does not count.
func TestGenesisChainID(t *testing.T) {
	for text, want := range map[string]string{
		`{"chain_id":"a-1"}`: "a-1",
		`{"app_state":{"chain_id":"b","x":[{"chain_id":"c"},[1e999,null]]},"list":["chain_id","d"],"note":"chain_id","chain_id":"a-1","more":{}}`: "a-1",
		`{"app_state":{"chain_id":"b"}}`: "",
		`["chain_id","a-1"]`:             "",
		`{"chain_id":""}`:                "",
		`{"chain_id":null}`:              "",
		`{"app_state":{"chain_id"`:       "",
		``:                               "",
	} {
		path := filepath.Join(t.TempDir(), "genesis.json")
		write(t, path, text)
		if got, err := genesisChainID(path); got != want || (err == nil) != (want != "") {
			t.Errorf("genesisChainID of %s = %q, %v, want %q", text, got, err, want)
		}
	}
}

// FuzzStates: whatever a state file holds, it is refused or gives a mark that
// says so again.
func FuzzStates(f *testing.F) {
	home := f.TempDir()
	if err := os.CopyFS(home, os.DirFS("testdata/cometbft")); err != nil {
		f.Fatal(err)
	}
	keyFile := filepath.Join(home, "config/priv_validator_key.json")
	if err := os.Chmod(keyFile, 0o600); err != nil {
		f.Fatal(err)
	}
	key, err := readKey(keyFile, "")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range []string{"cometbft/data/priv_validator_state.json", "tmkms/state/sdk-secp-1.json", "cosmos-kms/evm.json", "tmkms-light/state/priv_validator_state.json"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	c := &Chain{ID: "test-chain-8SAWOC", Key: key}
	f.Fuzz(func(t *testing.T, data []byte) {
		for name, parse := range map[string]func(*Chain, []byte) (watermark.Mark, error){"cometbft": parseFilePVState, "tmkms": parseTMKMSState} {
			m, err := parse(c, data)
			if err != nil {
				continue
			}
			if m.Height < 0 || m.Round < 0 || m.Step > watermark.StepPrecommit || (m.Height == 0 && !m.IsZero()) {
				t.Fatalf("%s: %q became %v", name, data, m)
			}
			if m.SignBytes != nil && !strings.Contains(strings.ToUpper(string(data)), fmt.Sprintf("%X", m.SignBytes)) {
				t.Fatalf("%s: %q became sign bytes %X", name, data, m.SignBytes)
			}
		}
	})
}

// FuzzConnectorAddress: what comes out is a host and a port, and nothing else.
func FuzzConnectorAddress(f *testing.F) {
	for _, addr := range []string{"tcp://127.0.0.1:12345", "[::1]:1", "tcp://id@h:2", "tcp://a/b:3", "tcp://h:4?x", "tcp://%41:5", "h:0"} {
		f.Add(addr)
	}
	f.Fuzz(func(t *testing.T, addr string) {
		got, err := connectorAddress(addr)
		if err != nil {
			return
		}
		u, err := url.Parse(got)
		if err != nil || u.Scheme != "http" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.Hostname() == "" || u.Port() == "" || u.Port() == "0" {
			t.Fatalf("%q became %q: %v", addr, got, err)
		}
	})
}

// FuzzDialAddr: what comes out can be split again.
func FuzzDialAddr(f *testing.F) {
	for _, laddr := range []string{"tcp://0.0.0.0:26659", "unix:///x", ":1", "[::]:2", "tcp://"} {
		f.Add(laddr)
	}
	f.Fuzz(func(t *testing.T, laddr string) {
		addr, err := dialAddr(laddr)
		if err != nil || strings.HasPrefix(addr, "unix://") {
			return
		}
		if host, _, err := net.SplitHostPort(strings.TrimPrefix(addr, "tcp://")); err != nil || host == "" || host == "0.0.0.0" {
			t.Fatalf("%q became %q: %v", laddr, addr, err)
		}
	})
}
