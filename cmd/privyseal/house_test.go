package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"privyseal/internal/command"
)

// The README's tables of providers and stores are those of the build.
func TestReadmeHasTheHouse(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9]+)` \\|").FindAllSubmatch(text, -1) {
		named = append(named, string(m[1]))
	}
	var built []string
	for _, e := range build().Providers {
		if e.Name != "" {
			built = append(built, e.Name)
		}
	}
	for _, s := range build().Stores {
		built = append(built, s.Name)
	}
	slices.Sort(named)
	slices.Sort(built)
	if !slices.Equal(named, built) {
		t.Errorf("the README has the providers and stores %q, the build %q", named, built)
	}
}

// The commands that providers have printed with the home in use are commands that there are.
func TestCommandsAtHome(t *testing.T) {
	root := command.NewRoot(build())
	for _, line := range build().House("").AtHome {
		if cmd, _, err := root.Find(strings.Fields(line)); err != nil || cmd.CommandPath() != "privyseal "+line || cmd.HasSubCommands() {
			t.Errorf("%q: %v", line, err)
		}
	}
}
