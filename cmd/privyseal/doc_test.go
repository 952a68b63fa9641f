package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"privyseal/internal/command"
)

// docs returns the documents below doc.
func docs(t *testing.T) (files []string) {
	t.Helper()
	for _, pattern := range []string{"../../doc/*.md", "../../doc/reference/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatal(pattern, found, err)
		}
		files = append(files, found...)
	}
	return files
}

// Every command line in the docs names a command and flags that exist.
func TestDocs(t *testing.T) {
	files := docs(t)
	// Up to the end of the line, of the code, or of the command; a line that ends
	// in \ goes on.
	line := regexp.MustCompile(`(?m)(?:^|[\x60(>] ?|privyseal )privyseal ((?:\\\n|[^\x60\n;|>#])*)`)
	flag := regexp.MustCompile(`(?:^|\s|\()--([a-z0-9-]+)`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range line.FindAllStringSubmatch(string(text), -1) {
			words := strings.Fields(strings.ReplaceAll(m[1], "\\\n", " "))
			var names []string
			for _, w := range words {
				if !regexp.MustCompile(`^[a-z-]+$`).MatchString(w) || strings.HasPrefix(w, "-") {
					break
				}
				names = append(names, w)
			}
			root := command.NewRoot(build())
			cmd, rest, err := root.Find(names)
			if err != nil {
				t.Errorf("%s: `privyseal %s`: %v", file, m[1], err)
				continue
			}
			if cmd == root || len(rest) > 0 && cmd.HasSubCommands() {
				if len(names) > 0 && strings.Contains(m[0], "`") {
					t.Errorf("%s: `privyseal %s` is no command", file, m[1])
				}
				continue
			}
			cmd.InitDefaultHelpFlag()
			for _, f := range flag.FindAllStringSubmatch(" "+strings.Join(words, " "), -1) {
				if cmd.Flag(f[1]) == nil && cmd.InheritedFlags().Lookup(f[1]) == nil {
					t.Errorf("%s: `privyseal %s`: %s has no flag --%s", file, m[1], cmd.CommandPath(), f[1])
				}
			}
		}
	}
}

// pflag takes what is in back-quotes for the name of the value, and prints
// `--to privyseal nitro import-key`.
func TestFlagsNameNoCommandAsTheirValue(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if strings.Contains(f.Usage, "`") {
				t.Errorf("%s --%s: %s", cmd.CommandPath(), f.Name, f.Usage)
			}
		})
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(command.NewRoot(build()))
}
