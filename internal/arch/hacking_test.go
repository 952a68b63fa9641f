package arch

import (
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// hackingRooms returns the table of rooms in HACKING.md: what its first column names, and
// all that a row names.
func hackingRooms(text string) (rooms []string, rows map[string][]string) {
	_, table, _ := strings.Cut(text, "| room | one sentence |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	rows = map[string][]string{}
	for row := range strings.Lines(table) {
		first, _, _ := strings.Cut(strings.TrimPrefix(row, "|"), "|")
		for _, room := range quoted(first) {
			rooms = append(rooms, room)
			rows[room] = quoted(row)
		}
	}
	return rooms, rows
}

// quoted returns what stands between backticks.
func quoted(text string) (names []string) {
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	return names
}

// hasRow reports whether a package is in the table: as a provider or store, by its whole
// name, or by its last name in the row of the package above it.
func hasRow(pkg string, rows map[string][]string) bool {
	above, name := path.Split(pkg)
	above = strings.TrimSuffix(above, "/")
	if above == "internal/ops" && rows[above+"/X"] != nil || slices.Contains(rows[above], name) {
		return true
	}
	for _, row := range rows {
		if slices.Contains(row, pkg) {
			return true
		}
	}
	return false
}

// TestHackingHasEveryRoom compares the table of rooms with the map of imports.
func TestHackingHasEveryRoom(t *testing.T) {
	text, err := os.ReadFile("../../HACKING.md")
	if err != nil {
		t.Fatal(err)
	}
	rooms, rows := hackingRooms(string(text))
	for _, pkg := range slices.Sorted(maps.Keys(mayImport)) {
		if !hasRow(pkg, rows) {
			t.Errorf("HACKING.md has no row for %s", pkg)
		}
	}
	for i, room := range rooms {
		if slices.Contains(rooms[:i], room) {
			t.Errorf("HACKING.md has two rows for %s", room)
		}
		if _, err := os.Stat("../../" + room); err != nil && room != "internal/ops/X" {
			t.Errorf("HACKING.md has a row for a room that is not there: %v", err)
		}
	}
	for pkg, want := range map[string]bool{"internal/signer": true, "internal/ops/a": true, "internal/ops/a/b": false, "internal/a": false, "internal/key/a": false} {
		if got := hasRow(pkg, rows); got != want {
			t.Errorf("%s has a row: %v", pkg, got)
		}
	}
}
