package main

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"privyseal/internal/command"
)

var updateHelp = flag.Bool("update-help", false, "write testdata/help.txt")

// What every --help prints is in testdata/help.txt, so that a change of it is a
// decision.
func TestHelp(t *testing.T) {
	const path = "testdata/help.txt"
	got := helpOfAll()
	if *updateHelp {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("-want +got; if it is meant, write it with -update-help\n%s", diff)
	}
}

// helpOfAll returns what --help prints for each command, but for those that cobra
// brings along and those that are hidden.
func helpOfAll() string {
	var b strings.Builder
	var walk func(cmd *cobra.Command, path []string)
	walk = func(cmd *cobra.Command, path []string) {
		b.WriteString("$ privyseal " + strings.Join(append(path, "--help"), " ") + "\n")
		run(append(path, "--help"), &b, &b)
		b.WriteString("\n")
		for _, c := range cmd.Commands() {
			if c.Hidden {
				continue
			}
			walk(c, append(path[:len(path):len(path)], c.Name()))
		}
	}
	walk(command.NewRoot(build()), nil)
	return b.String()
}
