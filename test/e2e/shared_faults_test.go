package e2e

import (
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"privyseal/test/e2e/rig"
)

// ills are what something has happened to: by its number, whether it hangs, or is dead.
type ills struct{ signers, nodes, members map[int]bool }

func newIlls() ills { return ills{map[int]bool{}, map[int]bool{}, map[int]bool{}} }

// hanging and dead return the numbers of those that hang, and of those that were killed.
func hanging(ill map[int]bool) []int { return having(ill, true) }
func dead(ill map[int]bool) []int    { return having(ill, false) }

func having(ill map[int]bool, hangs bool) (list []int) {
	for _, i := range slices.Sorted(maps.Keys(ill)) {
		if ill[i] == hangs {
			list = append(list, i)
		}
	}
	return list
}

// suffersAll has the plan happen.
func (h *hosts) suffersAll() {
	h.t.Helper()
	text, err := os.ReadFile("testdata/several-hosts.txt")
	check(h.t, err)
	rounds := 1
	if h.long {
		rounds = 2
	}
	for range rounds {
		for line := range strings.Lines(string(text)) {
			line, isShort := strings.CutPrefix(strings.TrimSpace(line), "* ")
			if line != "" && line[0] != '#' && (isShort || h.long) {
				h.suffers(line)
			}
		}
	}
}

// suffers has a line of the plan happen, and end.
func (h *hosts) suffers(line string) {
	h.t.Helper()
	ill, well := int64(3), int64(3)
	if h.long {
		ill, well = 15, 6
	}
	for range rand.N(4) { // between two blocks, or amid the votes for one
		h.signsMore(h.ledger.count())
	}
	h.signersRun()
	from := h.height()
	h.ledger.event(line, from)
	isDark := false
	for what := range strings.SplitSeq(line, ", ") {
		if what == "nothing is signed" {
			isDark = true
		} else {
			h.strike(what)
		}
	}
	if isDark {
		h.signsNothing()
	} else {
		h.signs(ill)
	}
	h.ledger.event("  and ends", h.height())
	h.recover()
	h.signs(well)
	if isDark {
		h.signsNow()
		h.dark = append(h.dark, span{from, h.height() + 1})
		h.await(1)
	}
}

// signs waits for blocks, and until a device has signed at a step where none had before.
func (h *hosts) signs(blocks int64) {
	h.t.Helper()
	before := h.ledger.count()
	h.await(blocks)
	h.signsMore(before)
}

// signsMore waits until something was signed at more than so many steps.
func (h *hosts) signsMore(before int) {
	h.t.Helper()
	h.until("something is signed", func() bool { return h.ledger.count() > before })
}

// signsNow waits until something is signed at the height of the chain: our nodes are no longer
// behind it.
func (h *hosts) signsNow() {
	h.t.Helper()
	h.until("our nodes have caught up", func() bool { return h.ledger.top() >= h.height() })
}

// signsNothing waits for some blocks, and finds no signature that is younger than the call. A node
// asks for votes of the height after its own, and may be one block ahead of those that look.
func (h *hosts) signsNothing() {
	h.t.Helper()
	most := int64(0)
	for _, n := range h.nodes[3:] {
		height, err := n.Height(h.ctx)
		check(h.t, err)
		most = max(most, height)
	}
	h.await(5)
	if top := h.ledger.top(); top > most+2 {
		h.t.Errorf("at height %d something was signed, and since %d nobody could", top, most)
	}
}

// until waits until a condition holds.
func (h *hosts) until(what string, is func() bool) {
	h.t.Helper()
	for ; !is(); time.Sleep(5 * time.Millisecond) {
		h.signersRun()
		if h.ctx.Err() != nil {
			h.t.Fatalf("it is not true that %s", what)
		}
	}
}

// signersRun checks that the signers run which were not killed: one that a witness alarms ends.
func (h *hosts) signersRun() {
	h.t.Helper()
	for i, s := range h.signers {
		if hangs, isIll := h.ill.signers[i]; isIll && !hangs {
			continue
		}
		select {
		case <-s.Done():
			h.t.Fatalf("signer %d has ended: %v\n%s", i+1, s.Err(), s.Tail(3))
		default:
		}
	}
}

// strike does one thing.
func (h *hosts) strike(what string) {
	h.t.Helper()
	words := strings.Fields(what)
	hangs := words[len(words)-1] == "hangs"
	switch {
	case what == "all is killed":
		for i := range 3 {
			h.hitMember(i, false)
			h.hit(h.ill.signers, i, h.signers[i].Process, false)
			h.hit(h.ill.nodes, i, h.nodes[i].Process, false)
		}
	case strings.HasPrefix(what, "the leader of etcd "):
		h.hitMember(h.etcd.Leader(h.t), hangs)
	case strings.HasPrefix(what, "a follower of etcd "):
		h.hitMember(h.etcd.Follower(h.t), hangs)
	case words[0] == "signer":
		i := h.index(words[1])
		h.hit(h.ill.signers, i, h.signers[i].Process, hangs)
	case words[0] == "node":
		i := h.index(words[1])
		h.hit(h.ill.nodes, i, h.nodes[i].Process, hangs)
	default:
		h.t.Fatalf("what is %q?", what)
	}
}

func (h *hosts) index(word string) int {
	n, err := strconv.Atoi(word)
	check(h.t, err)
	return n - 1
}

func (h *hosts) hitMember(i int, hangs bool) {
	h.ill.members[i] = hangs
	if hangs {
		h.etcd.Pause(h.t, i)
	} else {
		h.etcd.Kill(i)
	}
}

func (h *hosts) hit(ill map[int]bool, i int, p *rig.Process, hangs bool) {
	h.t.Helper()
	ill[i] = hangs
	if hangs {
		check(h.t, p.Signal(syscall.SIGSTOP))
		return
	}
	check(h.t, p.Signal(os.Kill))
	<-p.Done()
}

// recover has all that hangs go on, and all that is dead start.
func (h *hosts) recover() {
	h.t.Helper()
	for _, i := range hanging(h.ill.members) {
		h.etcd.Continue(h.t, i)
	}
	h.etcd.Restart(h.t, dead(h.ill.members)...)
	for _, i := range hanging(h.ill.signers) {
		check(h.t, h.signers[i].Signal(syscall.SIGCONT))
	}
	for _, i := range dead(h.ill.signers) {
		check(h.t, h.signers[i].Start())
	}
	for _, i := range hanging(h.ill.nodes) {
		check(h.t, h.nodes[i].Signal(syscall.SIGCONT))
	}
	for _, i := range dead(h.ill.nodes) {
		check(h.t, h.nodes[i].StartUntilUp(h.ctx, "unix://"+h.socket(i)))
	}
	h.ill = newIlls()
}
