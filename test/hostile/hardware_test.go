package hostile

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// doc/hardware.md has each thing that is expected to break a first run on EC2 by its number,
// with tests that exist.
func TestHardwareNamesTests(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository, "doc/hardware.md"))
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`^\| (\d+) \| [^|]+ \| [^|]+ \| [^|]+ \|$`)
	next := 1
	for line := range strings.Lines(string(text)) {
		tests := testsIn(t, line)
		m := row.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		if m[1] != fmt.Sprint(next) || tests == 0 {
			t.Errorf("number %s, where %d should stand, names %d tests", m[1], next, tests)
		}
		next++
	}
	if next != 14 {
		t.Errorf("%d numbers, not 13", next-1)
	}
}
