//go:build linux

package crash

import (
	"bufio"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// signer is a process that signs until it is killed.
type signer struct {
	cmd   *exec.Cmd
	lines <-chan string
}

// start starts a signer that waits for the lock of the state.
func start(t *testing.T, path string) *signer {
	t.Helper()
	cmd := command("sign", path, 0, os.Args[0])
	cmd.Env = append(cmd.Env, envWait+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(out); in.Scan(); {
			lines <- in.Text()
		}
	}()
	s := &signer{cmd, lines}
	t.Cleanup(s.kill)
	if line := s.next(t); line != "waiting" {
		t.Fatalf("a new signer says %q", line)
	}
	return s
}

// next returns the next line, within a minute.
func (s *signer) next(t *testing.T) string {
	t.Helper()
	select {
	case line := <-s.lines:
		return line
	case <-time.After(time.Minute):
		t.Fatal("a signer is silent")
		return ""
	}
}

func (s *signer) kill() { s.cmd.Process.Kill() }

// A hundred times the signer is killed in the middle of its work, and the
// standby goes on at once, above all that was released. Never do both sign: no
// height is released twice, and the standby is silent while the other one lives.
func TestStandbyTakesOver(t *testing.T) {
	const turns = 100
	path := newState(t)
	released := map[int64]bool{}
	var top known
	hear := func(line string) {
		k, ok := parseKnown(line)
		if !ok || top.forgets(k) {
			t.Fatalf("after %+v a signer says %q", top, line)
		}
		if k != top && released[k.height] {
			t.Fatalf("height %d is released twice", k.height)
		}
		top = k
		released[k.height] = true
	}
	var gaps []time.Duration
	active := start(t, path)
	hear(active.next(t)) // loaded
	for range turns {
		standby := start(t, path)
		for range 5 {
			hear(active.next(t))
		}
		select {
		case line := <-standby.lines:
			t.Fatalf("the standby says %q while the other one lives", line)
		default:
		}
		killed := time.Now()
		active.kill()
		for line := range active.lines { // what it has said before it died
			hear(line)
		}
		active.cmd.Wait()
		hear(standby.next(t)) // loaded
		gaps = append(gaps, time.Since(killed))
		active = standby
	}
	slices.Sort(gaps)
	t.Logf("%d turns, %d heights; from kill to load: median %v, longest %v", turns, len(released), gaps[turns/2], gaps[turns-1])
}
