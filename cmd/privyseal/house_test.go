package main

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// The README's table of providers is that of the build.
func TestReadmeHasTheProviders(t *testing.T) {
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
		built = append(built, e.Name)
	}
	slices.Sort(named)
	slices.Sort(built)
	if !slices.Equal(named, built) {
		t.Errorf("the README has the providers %q, the build %q", named, built)
	}
}
