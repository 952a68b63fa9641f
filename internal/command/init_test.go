package command

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"privyseal/internal/cli"
	"privyseal/internal/home"
	"privyseal/internal/ops/nitro"
	"privyseal/internal/ops/soft"
	"privyseal/internal/provider"
)

// A flag of a store goes with that store, and a store with a provider that leaves the state
// to us.
func TestInitWithAStore(t *testing.T) {
	build := home.Build{
		Providers: []home.Provider{soft.Provider(), nitro.Provider()},
		Stores: provider.Stores{{Name: "file"}, {Name: "drawer", Flags: func(fl *pflag.FlagSet) cli.Pick {
			fl.String("drawer-label", "", "")
			return nil
		}}},
	}
	for flags, want := range map[string]string{
		"--store box":                       `--store "box" is not in this build, which has file or drawer`,
		"--drawer-label a":                  "--drawer-label goes with --store drawer",
		"--store file --drawer-label a":     "--drawer-label goes with --store drawer",
		"--store drawer --eif a":            "--eif goes with --provider nitro",
		"--store drawer --provider nitro":   "--store drawer: with provider nitro the state begins in store file",
		"--store drawer --drawer-label a":   "--node is missing", // which is looked at last
		"--provider nitro --drawer-label a": "--drawer-label goes with --store drawer",
	} {
		root := NewRoot(build)
		root.SetArgs(append([]string{"init", "--home", t.TempDir() + "/home", "--chain-id", "c"}, strings.Fields(flags)...))
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetErr(&out)
		if err := root.Execute(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", flags, err)
		}
	}
}
