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
	// The key of the chain is on a server now, and is another one.
	other := filepath.Join(home, "other")
	for file, text := range map[string]string{other: otherOnServer, filepath.Join(home, "token"): "s.token\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	moved := strings.NewReplacer(`provider = "soft"`, "provider = \"vault\"\nvault = \"main\"", `"keys/chain-1.key"`, `"other"`).Replace(string(config))
	for _, tt := range []struct {
		name, config string
		args         []string
		status       int
		want         string // a pattern of one line
	}{
		{"a table of no provider here", string(config) + "[pkcs11.main]\nmodule = \"x.so\"\n", []string{"start"}, 78,
			`privyseal\.toml:\d+: unknown key pkcs11; the provider is not in this build, which has "soft", "nitro", "vault" and "yubihsm"$`},
		{"a chain of no provider here", strings.Replace(string(config), `provider = "soft"`, "provider = \"pkcs11\"\npkcs11 = \"main\"", 1) + "[pkcs11.main]\nmodule = \"x.so\"\n", []string{"start"}, 78,
			`privyseal\.toml:\d+: chain "chain-1": provider "pkcs11" is not in this build; it has "soft", "nitro", "vault" and "yubihsm"$`},
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
		{"a flag of nitro", string(config), []string{"init", "--provider", "vault", "--chain-id", "b", "--node", "unix:///n", "--eif", "x"}, 64,
			`^privyseal: --eif goes with --provider nitro$`},
		{"no provider of that name", string(config), []string{"init", "--provider", "pkcs11", "--chain-id", "b", "--node", "unix:///n"}, 64,
			`^privyseal: --provider "pkcs11" is not soft, nitro, vault or yubihsm$`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(tt.config), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("privyseal", append(tt.args, "--home", home)...)
			out, _ := cmd.CombinedOutput()
			pattern := regexp.MustCompile(tt.want)
			told := 0
			for line := range strings.Lines(string(out)) {
				if pattern.MatchString(strings.TrimSuffix(line, "\n")) {
					told++
				}
			}
			if got := cmd.ProcessState.ExitCode(); told != 1 || got != tt.status {
				t.Errorf("exit status %d, want %d; %d lines are like %s:\n%s", got, tt.status, told, tt.want, out)
			}
			if lines := strings.Count(string(out), "privyseal.toml:"); tt.status == 78 && lines != 1 {
				t.Errorf("%d mistakes:\n%s", lines, out)
			}
		})
	}
}

// otherOnServer is the key file of a chain whose key is on a server.
const otherOnServer = "privyseal vault key 1\nname validator\nversion 1\npublic 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n"
