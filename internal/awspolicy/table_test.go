package awspolicy

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// table reads a truth table of testdata, whose lines are the given number of cells
// and an outcome, | between them, and writes it again with what judge says: the file
// is proof-read by people, and compared by golden.
func table(t *testing.T, name string, cells int, judge func([]string) string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var again strings.Builder
	lines := 0
	for line := range strings.Lines(string(text)) {
		if trimmed := strings.TrimSpace(line); trimmed == "" || trimmed[0] == '#' {
			again.WriteString(line)
			continue
		}
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), "|", cells+1)
		if len(parts) < cells {
			t.Fatalf("%s: %q has less than %d cells", name, line, cells)
		}
		trimmed := make([]string, cells)
		for i := range cells {
			trimmed[i] = strings.TrimSpace(parts[i])
		}
		again.WriteString(strings.TrimRight(strings.Join(parts[:cells], "|"), " ") + padding(parts[cells-1]) + "| " + judge(trimmed) + "\n")
		lines++
	}
	if lines == 0 {
		t.Fatalf("%s has no line", name)
	}
	golden(t, name, again.String())
}

// padding returns the spaces at the end of a cell, one at least.
func padding(cell string) string {
	return strings.Repeat(" ", max(1, len(cell)-len(strings.TrimRight(cell, " "))))
}

// shorts are the registers of images by their short names: A0 is PCR0 of image a0…, A0C
// the same in capitals, V3 PCR3 of the host's role.
var shorts = func() map[string]string {
	m := map[string]string{"ZERO": strings.Repeat("0", 96), "V3": parentPCR(hostRole)}
	for _, b := range []byte{0xa0, 0xb0, 0xc0} {
		im, letter := image(b), string('A'+rune(b>>4)-10)
		for i, v := range map[string][]byte{"0": im.PCR0, "1": im.PCR1, "2": im.PCR2, "8": im.PCR8} {
			m[letter+i] = hex.EncodeToString(v)
			m[letter+i+"C"] = strings.ToUpper(hex.EncodeToString(v))
		}
	}
	return m
}()

// expand returns what a short name stands for, and any other text as it is.
func expand(short string) string {
	if v, ok := shorts[short]; ok {
		return v
	}
	return short
}
