package command

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"privyseal/internal/home"
	"privyseal/internal/ops/nitro"
	"privyseal/internal/ops/sgx"
	"privyseal/internal/ops/soft"
	"privyseal/internal/provider"
)

// The help of the program has a line for every command, those of its providers too, and
// what init and migrate say is of the providers that are in the build.
func TestHelpHasTheHouse(t *testing.T) {
	drawer := home.Provider{
		Entry:       provider.Entry{Name: "drawer"},
		Maker:       func() home.Maker { return home.Plain(nil) },
		InitHelp:    home.Help{Text: "The key is put into a drawer.", Example: "privyseal init --provider drawer"},
		MigrateHelp: home.Help{Text: "A key of another drawer stays there."},
		Commands: func(*provider.House) []*cobra.Command {
			return []*cobra.Command{{
				Use: "drawer", Run: func(*cobra.Command, []string) {},
				Short: "Open a drawer, look for the sheet with the key of the chain, and close it again",
			}}
		},
	}
	for name, providers := range map[string][]home.Provider{
		"alone": {soft.Provider()},
		"all":   {soft.Provider(), nitro.Provider(), sgx.Provider(), drawer},
	} {
		build := home.Build{Providers: providers, Stores: provider.Stores{{Name: "file"}}}
		help := helpOf(t, build)
		for _, cmd := range NewRoot(build).Commands() {
			if n := strings.Count(help, "\n  privyseal "+cmd.Name()+" ") + strings.Count(help, "Also: "+cmd.Name()+","); !cmd.Hidden && n != 1 {
				t.Errorf("%s: the help has %q %d times:\n%s", name, cmd.Name(), n, help)
			}
		}
		ours := name == "all"
		for text, command := range map[string]string{
			"\n\nThe key is put into a drawer.\n":        "init",
			"\n  privyseal init --provider drawer\n":     "init",
			"\n\nA key of another drawer stays there.\n": "migrate",
			"\n\nWith --provider sgx the key is made":    "init",
			"\n\ntmkms-light in a Nitro enclave moves":   "migrate",
			"\n  privyseal drawer    open a drawer, look for the sheet with the key of the\n                      chain, and close it again\n": "",
		} {
			if got := strings.Contains(helpOf(t, build, strings.Fields(command)...), text); got != ours {
				t.Errorf("%s: %q in the help of %q: %v", name, text, command, got)
			}
		}
	}
}

// helpOf returns what --help prints for a command of a build.
func helpOf(t *testing.T, build home.Build, command ...string) string {
	t.Helper()
	root := NewRoot(build)
	root.SetArgs(append(command, "--help"))
	var out bytes.Buffer
	root.SetOut(&out)
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
