package e2e

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"privyseal/test/e2e/rig"
)

// typed runs the blocks of a page of doc, which are so many, in one shell and returns what
// they print.
func typed(t *testing.T, page, dir string, blocks int, env ...string) string {
	t.Helper()
	out, err := typing(t, page, dir, blocks, env...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s fails: %v\n%s", page, err, out)
	}
	return string(out)
}

// typing returns the shell into which the blocks of a page are typed.
func typing(t *testing.T, page, dir string, blocks int, env ...string) *exec.Cmd {
	t.Helper()
	guide, err := os.ReadFile("../../doc/" + page)
	check(t, err)
	var scripts []string
	for i, part := range strings.Split(string(guide), "```") {
		if script, ok := strings.CutPrefix(part, "sh\n"); ok && i%2 == 1 {
			scripts = append(scripts, script)
		}
	}
	if len(scripts) != blocks {
		t.Fatalf("%s has %d blocks, not %d", page, len(scripts), blocks)
	}
	cmd := exec.Command("bash", "-e", "-u", "-o", "pipefail")
	cmd.Dir = dir
	cmd.Stdin = strings.NewReader(strings.Join(scripts, "\n"))
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

// says waits until the signer's log has a text.
func says(ctx context.Context, t *testing.T, s *rig.Signer, text string) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	said := false
	err := s.Follow(ctx, func(line []byte) {
		if strings.Contains(string(line), text) {
			said = true
			cancel()
		}
	})
	if !said {
		t.Fatalf("the signer does not say %q: %v", text, err)
	}
}
