package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"privyseal/internal/witness"
)

// A reload gives a chain in a quarantine another witness, which holds it back too; no
// witness, and it signs, with a warning; and one again, which finds it signing.
func TestQuarantineIsReloaded(t *testing.T) {
	l := newLiveHome(t)
	first, _ := newChainNode(t)
	second, asked := newChainNode(t)
	runCommand(t, "privyseal", "init", "--home", l.home, "--chain-id", "chain-1", "--node", "n=unix://"+l.socket("n"), "--witness", first)
	noMetrics(t, l.home)
	runCommand(t, "privyseal", "state", "raise", "--home", l.home, "--after-height", "10", "--yes")
	state := filepath.Join(l.home, "state", "chain-1.mark")
	var height atomic.Int64
	height.Store(10)
	n := newBusyNode(t, l.socket("n"), "chain-1", &height)
	l.start()
	eventually(t, "the node is dialled", func() bool { return n.connections.Load() > 0 })

	const warning = "signing without a quarantine"
	l.edit(first, second)
	if said := l.reload(); strings.Contains(said, warning) || !strings.Contains(said, "witnesses") {
		t.Errorf("another witness:\n%s", said)
	}
	<-asked
	eventually(t, "the chain is in quarantine", func() bool {
		return strings.Contains(runCommand(t, "privyseal", "status", "--home", l.home, "--json"), "in quarantine: 0 of 3")
	})
	if n.signed.Load() > 0 {
		t.Error("it signs in a quarantine")
	}

	l.edit(fmt.Sprintf("witness = [%q]", second), "")
	if said := l.reload(); strings.Count(said, warning) != 1 || !strings.Contains(said, "level=WARN") {
		t.Errorf("no witness any more:\n%s", said)
	}
	n.signsOn()
	if flag, err := witness.ReadFlag(state); err != nil || !flag.Quarantine {
		t.Errorf("the next start with a witness repeats the quarantine: %+v, %v", flag, err)
	}

	l.edit("\nstate = ", fmt.Sprintf("\nwitness = [%q]\nstate = ", first))
	if said := l.reload(); strings.Contains(said, warning) {
		t.Errorf("a witness again:\n%s", said)
	}
	n.signsOn()
	l.stop()
}

// A standby that gets the lock of a state which was stopped for good meanwhile does not
// sign with it.
func TestStandbyHeedsAStop(t *testing.T) {
	l := newLiveHome(t)
	l.init("chain-1")
	noMetrics(t, l.home)
	l.start()
	standby := startSigner(t, l.home, "--standby")
	waits := regexp.MustCompile(fmt.Sprintf(`-> FLOCK .* %d `, standby.cmd.Process.Pid))
	eventually(t, "the standby waits for the lock", func() bool {
		locks, err := os.ReadFile("/proc/locks")
		return err == nil && waits.Match(locks)
	})
	flag := witness.FlagPath(filepath.Join(l.home, "state", "chain-1.mark"))
	if err := os.WriteFile(flag, []byte("stopped by a test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.process.cmd.Process.Kill()
	l.process.cmd.Wait()
	err := standby.cmd.Wait()
	if status := standby.cmd.ProcessState.ExitCode(); status != 79 || !strings.Contains(standby.log.String(), "by a test") {
		t.Errorf("status %d, %v\n%s", status, err, standby.log)
	}
}
