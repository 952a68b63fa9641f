package yubihsmtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestYubicoSuite runs the tests of Yubico's Python library, which are made for devices, on
// simulators of several ages.
func TestYubicoSuite(t *testing.T) {
	bin := Programs(t, "yubihsm-python")
	suite := filepath.Join(filepath.Dir(bin), "yubihsm", "suite")
	for _, firmware := range [][3]byte{{2, 2, 0}, {2, 4, 0}} {
		t.Run(fmt.Sprintf("%d.%d.%d", firmware[0], firmware[1], firmware[2]), func(t *testing.T) {
			t.Parallel()
			d := New(t, Options{Firmware: firmware})
			// A real device starts for seconds after a reset, and the tests wait for it.
			cmd := exec.Command(filepath.Join(bin, "yubihsm-python"), append([]string{"-B", "-c",
				"import sys, time, pytest; time.sleep = lambda s: None; sys.exit(pytest.main(sys.argv[1:]))",
				"-p", "no:cacheprovider", "-q", "--backend", d.URL(), "tests/device"}, leftOut(t)...)...)
			cmd.Dir = suite
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v:\n%s", err, out)
			}
			m := regexp.MustCompile(`(\d+) passed.*`).FindStringSubmatch(string(out))
			if m == nil || len(m[1]) < 3 {
				t.Fatalf("less than 100 of the tests ran:\n%s", out)
			}
			t.Log(m[0])
		})
	}
}

// leftOut returns pytest's flags for testdata/suite.txt.
func leftOut(t *testing.T) (flags []string) {
	t.Helper()
	text, err := os.ReadFile("testdata/suite.txt")
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(line, "#")
		switch name = strings.TrimSpace(name); {
		case strings.HasPrefix(name, "tests/"):
			flags = append(flags, "--deselect", name)
		case name != "":
			parts = append(parts, "not "+name)
		}
	}
	return append(flags, "-k", strings.Join(parts, " and "))
}
