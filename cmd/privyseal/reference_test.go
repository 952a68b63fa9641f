package main

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"privyseal/internal/command"
	"privyseal/test/reference"
)

var (
	updateReference = flag.Bool("update-reference", false, "write doc/reference")
	manFolder       = flag.String("man", "", "write the man pages into this folder")
)

// doc/reference says what the program declares.
func TestReference(t *testing.T) {
	const dir = "../../doc/reference"
	pages, err := reference.Pages(command.NewRoot(build()), build().House("").Kinds, "../..")
	if err != nil {
		t.Fatal(err)
	}
	if *updateReference {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		write(t, dir, pages)
	}
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		if is, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(is) != pages[name] {
			t.Errorf("doc/reference/%s is stale; make it again:\n%s", name, reference.Command)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != len(pages) {
		t.Errorf("doc/reference has %d files, and %d are made (%v):\n%s", len(files), len(pages), err, reference.Command)
	}
}

// Each command has a man page; `make man` writes them.
func TestMan(t *testing.T) {
	pages, err := reference.Man(command.NewRoot(build()), build().House("").Kinds, "../..")
	if err != nil {
		t.Fatal(err)
	}
	if *manFolder != "" {
		write(t, *manFolder, pages)
	}
	if commands := strings.Count(helpOfAll(), "\n$ privyseal ") + 1; len(pages) != commands+1 {
		t.Errorf("%d man pages for %d commands and the config", len(pages), commands)
	}
	for name, text := range pages {
		// groff takes what begins with a point for a request, and passes over one that it
		// does not know.
		for _, request := range regexp.MustCompile(`(?m)^[.'].*`).FindAllString(text, -1) {
			if !regexp.MustCompile(`^\.(\\" |TH |SH |SS |nh$|ad l$|PP$|TP$|nf$|fi$)`).MatchString(request) {
				t.Errorf("%s: %s", name, request)
			}
		}
	}
}

func write(t *testing.T, dir string, pages map[string]string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range pages {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
