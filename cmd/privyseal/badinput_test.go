package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What is wrong with a provider in a config or on a command line has one clear message.
func TestWrongProviders(t *testing.T) {
	dir := diskDir(t)
	home := filepath.Join(dir, "home")
	runCommand(t, "privyseal", "init", "--home", home, "--chain-id", "chain-1", "--node", "unix://"+filepath.Join(dir, "node.sock"))
	noMetrics(t, home)
	path := filepath.Join(home, "privyseal.toml")
	config, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const server = "[vault.main]\naddress = \"https://127.0.0.1:1\"\ntoken_file = \"token\"\n"
	const devices = "[yubihsm.main]\ndevice = [\"http://127.0.0.1:1\"]\nauth_key = 4\npassword_file = \"token\"\n"
	device := []string{"--provider", "yubihsm", "--yubihsm-device", "http://127.0.0.1:1", "--yubihsm-auth-key", "4", "--yubihsm-key-id", "1"}
	loose := filepath.Join(dir, "loose")
	if err := os.WriteFile(loose, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	// The key of the chain is on a server now, and is another one.
	other := filepath.Join(home, "other")
	for file, text := range map[string]string{other: otherOnServer, filepath.Join(home, "token"): "s.token\n", filepath.Join(home, "wrapped"): "privyseal wrapped key 1\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	moved := strings.NewReplacer(`provider = "soft"`, "provider = \"vault\"\nvault = \"main\"", `"keys/chain-1.key"`, `"other"`).Replace(string(config))
	all := build().House(home).Providers.Names()
	allQuoted := `"` + strings.NewReplacer(", ", `", "`, " or ", `" and "`).Replace(all) + `"`
	onSGX := strings.NewReplacer(`provider = "soft"`, "provider = \"sgx\"\nsgx = \"main\"", `"keys/chain-1.key"`, `"wrapped"`).Replace(string(config)) + "[sgx.main]\nfolder = \"gone\"\n"
	for _, tt := range []struct {
		name, config string
		args         []string
		status       int
		want         string // a pattern of one line
	}{
		{"a table of no provider here", string(config) + "[pkcs11.main]\nmodule = \"x.so\"\n", []string{"start"}, 78,
			`privyseal\.toml:\d+: unknown key pkcs11$`},
		{"a chain of no provider here", strings.Replace(string(config), `provider = "soft"`, "provider = \"pkcs11\"\npkcs11 = \"main\"", 1) + "[pkcs11.main]\nmodule = \"x.so\"\n", []string{"start"}, 78,
			`privyseal\.toml:\d+: chain "chain-1": provider "pkcs11" is not in this build; it has ` + allQuoted + `$`},
		{"a table that no chain names", string(config) + server, []string{"check"}, 0,
			`--    vault main +line \d+: no chain names it, so nothing uses it$`},
		{"a table twice", moved + server + server, []string{"start"}, 78,
			`privyseal\.toml:\d+: duplicate vault\.main, first on line \d+$`},
		{"another provider with the state of the first", moved + server, []string{"start"}, 79,
			`it belongs to another chain or key`},
		{"another provider with the key file of the first", strings.Replace(moved, `"other"`, `"keys/chain-1.key"`, 1) + server, []string{"start"}, 79,
			`chain chain-1: cannot read .*keys/chain-1\.key: it is of another provider: it begins with "privyseal software key 1", not with "privyseal vault key 1"$`},
		{"a server without TLS", moved + strings.Replace(server, "https://127.0.0.1", "http://192.0.2.1", 1), []string{"start"}, 78,
			`privyseal\.toml:\d+: vault main: address has no TLS, .* or with allow_plain_http = true$`},
		{"a server without TLS, to init", string(config), []string{"init", "--provider", "vault", "--chain-id", "b", "--node", "unix:///n", "--vault-address", "http://192.0.2.1:8200", "--vault-token-file", "t"}, 64,
			`--vault-address has no TLS, .* or with --vault-allow-plain-http$`},
		{"a flag of vault", string(config), []string{"init", "--chain-id", "b", "--node", "unix:///n", "--vault-address", "https://vault.test"}, 64,
			`^privyseal: --vault-address goes with --provider vault$`},
		{"an address of no connector", moved + server + strings.Replace(devices, "http:", "ftp:", 1), []string{"start"}, 78,
			`privyseal\.toml:\d+: yubihsm main: device is wrong: "ftp://127\.0\.0\.1:1" is not an address of a YubiHSM, which is http://HOST:PORT or usb://SERIAL$`},
		{"an authentication key of no number", moved + server + strings.Replace(devices, "= 4", "= 0", 1), []string{"start"}, 78,
			`privyseal\.toml:\d+: yubihsm main: auth_key is not from 1 to 65535$`},
		{"a YubiHSM without its key's id", string(config), []string{"init", "--provider", "yubihsm", "--chain-id", "b", "--node", "unix:///n", "--yubihsm-device", "usb://1"}, 64,
			`^privyseal: --yubihsm-key-id is missing: the object id of the key, 1 to 65535$`},
		{"a YubiHSM without a password", string(config), []string{"init", "--provider", "yubihsm", "--chain-id", "b", "--node", "unix:///n", "--yubihsm-device", "usb://1", "--yubihsm-auth-key", "4", "--yubihsm-key-id", "1"}, 64,
			`^privyseal: --yubihsm-password-file is missing: there is no \[yubihsm\.main\] in privyseal\.toml yet$`},
		{"a password of a YubiHSM that all can read", string(config), append([]string{"init", "--chain-id", "b", "--node", "unix:///n", "--yubihsm-password-file", loose}, device...), 1,
			`^privyseal: the password file .*/loose has mode 0644, so that others may have read it$`},
		{"a YubiHSM that is not there", string(config), append([]string{"init", "--chain-id", "b", "--node", "unix:///n", "--yubihsm-password-file", filepath.Join(home, "token")}, device...), 1,
			`^privyseal: cannot use the YubiHSM at http://127\.0\.0\.1:1: no answer from the YubiHSM connector at http://127\.0\.0\.1:1: .*connection refused$`},
		{"a flag of nitro", string(config), []string{"init", "--provider", "vault", "--chain-id", "b", "--node", "unix:///n", "--eif", "x"}, 64,
			`^privyseal: --eif goes with --provider nitro$`},
		{"a flag of sgx", string(config), []string{"init", "--provider", "nitro", "--chain-id", "b", "--node", "unix:///n", "--sgx-folder", "x"}, 64,
			`^privyseal: --sgx-folder goes with --provider sgx$`},
		{"an SGX enclave without its folder", string(config), []string{"init", "--provider", "sgx", "--chain-id", "b", "--node", "unix:///n"}, 64,
			`^privyseal: --sgx-folder FOLDER is missing: the one that .privyseal sgx manifest. wrote, signed with gramine-sgx-sign$`},
		{"a chain of soft in an SGX enclave", strings.Replace(onSGX, `"wrapped"`, `"keys/chain-1.key"`, 1), []string{"start"}, 79,
			`it is of another provider: it begins with "privyseal software key 1", not with "privyseal sealed key 1"$`},
		{"a chain of nitro in an SGX enclave, under its state", onSGX, []string{"start"}, 79,
			`home/wrapped: it is of another provider: it begins with "privyseal wrapped key 1", not with "privyseal sealed key 1"$`},
		{"no provider of that name", string(config), []string{"init", "--provider", "pkcs11", "--chain-id", "b", "--node", "unix:///n"}, 64,
			`^privyseal: --provider "pkcs11" is not ` + all + `$`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(tt.config), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("privyseal", append(tt.args, "--home", home)...)
			out, _ := cmd.CombinedOutput()
			pattern := regexp.MustCompile(tt.want)
			found := 0
			for line := range strings.Lines(string(out)) {
				if pattern.MatchString(strings.TrimSuffix(line, "\n")) {
					found++
				}
			}
			if got := cmd.ProcessState.ExitCode(); found != 1 || got != tt.status {
				t.Errorf("exit status %d, want %d; %d lines are like %s:\n%s", got, tt.status, found, tt.want, out)
			}
			if lines := strings.Count(string(out), "privyseal.toml:"); tt.status == 78 && lines != 1 {
				t.Errorf("%d mistakes:\n%s", lines, out)
			}
		})
	}
}

// otherOnServer is the key file of a chain whose key is on a server.
const otherOnServer = "privyseal vault key 1\nname validator\nversion 1\npublic 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n"
