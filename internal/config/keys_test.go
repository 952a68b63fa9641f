package config_test

import (
	"fmt"
	"strings"
	"testing"

	"privyseal/internal/config"
	"privyseal/internal/ops/vault"

	"github.com/google/go-cmp/cmp"
)

// least is a config with nothing but what is required.
const least = `[log]
[[chain]]
id = "chain-1"
provider = "nitro"
enclave = "main"
key = "k"
state = "s"
[[chain.node]]
addr = "unix:///n"
[[chain]]
id = "chain-2"
provider = "soft"
key = "k2"
state = "s2"
node = [ { addr = "unix:///n2" } ]
[[chain]]
id = "chain-3"
provider = "vault"
vault = "main"
key = "k3"
state = "s3"
node = [ { addr = "unix:///n3" } ]
[enclave.main]
eif = "e"
[vault.main]
address = "https://vault"
role_id = "r"
secret_id_file = "f"
`

// withVault are kinds with the one whose flags and keys follow from one table.
func withVault() config.Kinds {
	kind := vault.Kind()
	kind.Provider = "vault"
	return append(kinds[:len(kinds):len(kinds)], kind)
}

// What the declaration of a key says of its absence is so: a default that is written
// changes nothing, and without a required key a config is refused.
func TestDefaultsAreWhatIsSaid(t *testing.T) {
	kinds := withShelf()
	want, err := kinds.Parse("p", []byte(least))
	if err != nil {
		t.Fatal(err)
	}
	headers := map[string]string{"": "", "log": "[log]\n", "chain.*": "id = \"chain-2\"\n", "chain.*.node.*": "[[chain.node]]\n", "enclave.*": "[enclave.main]\n", "vault.*": "[vault.main]\n"}
	checked := 0
	for _, key := range kinds.Keys() {
		cut := strings.LastIndexByte(key.Name, '.')
		header, known := headers[key.Name[:max(0, cut)]]
		if !known || key.Default == "" {
			continue
		}
		checked++
		name := key.Name[cut+1:]
		if key.Default == config.Required {
			var kept []string
			for _, line := range strings.SplitAfter(least, "\n") {
				if !strings.HasPrefix(line, name+" =") {
					kept = append(kept, line)
				}
			}
			if _, err := kinds.Parse("p", []byte(strings.Join(kept, ""))); err == nil {
				t.Errorf("%s is required, and a config without it loads", key.Name)
			}
			continue
		}
		with := strings.Replace(least, header, fmt.Sprintf("%s%s = %s\n", header, name, key.Default), 1)
		got, err := kinds.Parse("p", []byte(with))
		if err != nil {
			t.Errorf("%s with its default: %v", key.Name, err)
		} else if diff := cmp.Diff(want, got, ignorePlaces); diff != "" {
			t.Errorf("%s is not %s by default:\n%s", key.Name, key.Default, diff)
		}
	}
	if checked < 22 {
		t.Errorf("%d keys were checked", checked)
	}
}
