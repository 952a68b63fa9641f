package e2e

import (
	"strings"
	"testing"
	"time"

	"privyseal/test/e2e/story"
)

// An image that does not boot: its console is read while nitro-cli waits for it, and its
// last lines are in the error. Without debug mode the error says how to see them.
func TestImageThatDoesNotBoot(t *testing.T) {
	ctx := story.Within(t, 3*time.Minute)
	w := newWorld(t)
	flags, err := w.TestRoots()
	check(t, err)
	im, err := w.BuildImage(ctx, "image", flags...)
	check(t, err)
	w.Instance.Heartbeat, w.Instance.Append = 20*time.Second, "rdinit=/nothing init=/nothing"
	check(t, w.Instance.Save())
	args := []string{"nitro", "run", "--eif", im.Path, "--transport", w.Instance.Sockets(), "--nitro-cli", w.Instance.CLI()}
	_, err = w.Run(ctx, append(args, "--debug")...)
	for _, want := range []string{"E36: Enclave boot failure", "VsockTimeoutError", "The last lines of its console:", "| Kernel panic", "how far it came"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("no %q in %v", want, err)
		}
	}
	if _, err = w.Run(ctx, args...); err == nil || !strings.Contains(err.Error(), "privyseal nitro run --debug") || strings.Contains(err.Error(), "Kernel panic") {
		t.Errorf("without debug mode: %v", err)
	}
	all, err := w.Instance.Enclaves()
	if err != nil || len(all) > 0 {
		t.Errorf("then %v run, %v", all, err)
	}
}
