package operator

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// verbs are what a story is written in: one step a line, the verb and its
// arguments. A step that cannot be done, such as to stop what does not run, does
// nothing. That privyseal refuses is not an error; what it may never do is one.
var verbs = map[string]func(w *world, args []string) error{
	// How a story begins: with a key that never signed, made by privyseal or
	// imported, or with the key of a node that has signed.
	"begin": begin,

	// The program.
	"start":  onHome(start),
	"stop":   onHome(func(w *world, h *home, _ []string) error { return w.end(h, syscall.SIGTERM) }),
	"kill":   onHome(func(w *world, h *home, _ []string) error { return w.end(h, syscall.SIGKILL) }),
	"sleep":  onHome(sleep), // its process is stopped, as that of a machine that is paused
	"wake":   onHome(wake),
	"reboot": reboot, // HOST
	"wait":   wait,   // two seconds
	"clock":  setClock,

	// What nodes ask.
	"sign": onHome(sign), // HEIGHT BLOCK [ROUND]: a proposal, a prevote, a precommit
	"ask":  onHome(ask),  // KIND HEIGHT ROUND BLOCK
	"fork": onHome(fork), // other blocks at the last heights that were signed

	// The commands about state. --yes is given when they ask for it, and so are
	// the flags that stand at the end of a step.
	"adopt":   onHome(func(w *world, h *home, words []string) error { return w.command(h, words, "state", "adopt") }),
	"import":  onHome(importState), // FILE
	"raise":   onHome(raise),       // HEIGHT
	"export":  onHome(export),      // FILE
	"make":    onHome(makeState),   // fresh | after HEIGHT
	"install": onHome(install),     // fresh | after HEIGHT | state FILE
	"migrate": onHome(migrateIn),
	"out":     onHome(moveOut), // to the node's own key
	"node":    nodeSigns,       // HEIGHT BLOCK: with its own key
	"obey":    obey,            // N: type the Nth command that was printed last
	"check":   onHome(func(w *world, h *home, _ []string) error { return w.privyseal(h, "check") }),

	// A state in etcd.
	"found":  onHome(found),  // fresh | after HEIGHT
	"join":   onHome(join),   // also with a home that is new
	"moveto": onHome(moveTo), // etcd | file [N: kill it after N thousandths of its time]
	"config": onHome(oldConfig),
	"wayon":  onHome(wayOn), // it signs again, by the commands that are printed
	"keep":   keep,          // NAME: remember what is in etcd
	"back":   putBack,       // NAME: and put it there again

	// A cluster of the story's own.
	"snapshot": snapshot, // NAME
	"restore":  restore,  // NAME

	// The operator's shell.
	"save":   onHome(save),   // NAME
	"put":    onHome(put),    // NAME file|folder|home HOW
	"copy":   onHome(copied), // HOME
	"move":   onHome(moved),  // HOME
	"remove": onHome(remove),
	"flip":   onHome(flip),                                                                // OFFSET BIT
	"lose":   func(w *world, _ []string) error { return os.Remove(w.filePV.stateFile()) }, // the node's state
	"touch":  touch,
	"chown":  onHome(chown),
	"volume": onHome(volume), // the home will lie on a volume of its own
	"clone":  onHome(clone),  // HOME: mount a clone of its volume there

	// must says that the home has to sign now, if nothing was done to it that could
	// make a careful signer refuse.
	"must": onHome(must),
}

// step does one line of a story.
func (w *world) step(line string) error {
	f := strings.Fields(line)
	do, known := verbs[f[0]]
	if !known {
		return fmt.Errorf("%q is no step", line)
	}
	w.last = outcome{}
	w.log = append(w.log, line)
	return do(w, f[1:])
}

// expect does a line that may end in what has to come of it:
//
//	=> done
//	=> refused TEXT
//
// Done is a command that ended with status 0, or a node's request that was signed;
// refused is any other end, with a text in what was printed, or none.
func (w *world) expect(line string) error {
	line, want, expected := strings.Cut(line, "=>")
	if err := w.step(line); err != nil || !expected {
		return err
	}
	want, text, _ := strings.Cut(strings.TrimSpace(want), " ")
	got := "done"
	if w.last.status != 0 {
		got = "refused"
	}
	if w.last.args == nil {
		got = "not done at all"
	}
	if got != want || !strings.Contains(strings.ToLower(w.last.output), text) {
		return fmt.Errorf("it is %s, with status %d, and says:\n%s", got, w.last.status, w.last.output)
	}
	return nil
}

// onHome is a step whose first argument is a home.
func onHome(do func(w *world, h *home, args []string) error) func(*world, []string) error {
	return func(w *world, args []string) error {
		if len(args) == 0 || w.homes[args[0]] == nil {
			return fmt.Errorf("%v names no home", args)
		}
		return do(w, w.homes[args[0]], args[1:])
	}
}

func begin(w *world, args []string) error {
	h := w.homes[args[1]]
	if args[0] == "new" {
		err := w.privyseal(h, "init", "--chain-id", chainID, "--node", "unix://"+w.socket(h.name))
		if err == nil {
			err = w.settled(h)
		}
		if err != nil {
			return err
		}
		w.oracle.live[h.name] = true
		w.oracle.key, err = w.publicKey(h)
		return err
	}
	w.key = newKey()
	w.oracle.key = publicOf(w.key)
	if err := w.makeFilePV(); err != nil {
		return err
	}
	if args[0] == "shared" {
		return found(w, h, []string{"fresh"})
	}
	if args[0] == "imported" {
		return install(w, h, []string{"fresh"})
	}
	height, err := strconv.ParseInt(args[2], 10, 64)
	if err != nil {
		return err
	}
	w.oracle.live[filePVName] = true
	for i := max(1, height-2); i <= height; i++ {
		if err := w.signFilePV(i, "node"); err != nil {
			return err
		}
	}
	return migrateIn(w, h, nil)
}

// settled makes an installed home fit for a story: no port for metrics, the
// socket of its own node.
func (w *world) settled(h *home) error {
	if w.last.status != 0 {
		return nil
	}
	h.sound = true
	w.unsettle(h)
	path := filepath.Join(h.dir, "privyseal.toml")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text = listenLine.ReplaceAll(text, nil)
	text = nodeAddr.ReplaceAll(text, []byte("unix://"+w.socket(h.name)))
	return os.WriteFile(path, text, 0o600)
}

var (
	listenLine = regexp.MustCompile(`(?m)^listen .*\n`)
	nodeAddr   = regexp.MustCompile(`unix://[^"]*`)
)

// unsettle says that the other homes of the host may be refused from now on:
// there is another one for the same key.
func (w *world) unsettle(h *home) {
	for _, other := range w.homes {
		if other != h && other.name[0] == h.name[0] {
			other.sound = false
		}
	}
}

// start has to agree with `state show`: what one refuses for good, so does the
// other.
func start(w *world, h *home, _ []string) error {
	if h.signer != nil || !h.exists() {
		return nil
	}
	if err := w.privyseal(h, "state", "show"); err != nil {
		return err
	}
	shown := w.last
	alone := !w.runsOn(h.name[0])
	if err := w.start(h); err != nil {
		return err
	}
	switch {
	case alone && (shown.status == 0) != (w.last.status == 0):
		return fmt.Errorf("%s: `state show` ends with status %d, start with %d:\n%s\n%s", h.name, shown.status, w.last.status, shown.output, w.last.output)
	case alone && h.sound && w.last.status != 0:
		return fmt.Errorf("%s: nothing was done to it, and start refuses:\n%s", h.name, w.last.output)
	}
	if w.last.status == 0 {
		h.flips, h.late, h.forgotten = 0, false, false
		w.unsettle(h)
	}
	return nil
}

// sleep stops the process of a signer, which knows nothing of what is done until it goes on.
func sleep(w *world, h *home, _ []string) error {
	if h.signer == nil || h.asleep {
		return nil
	}
	h.asleep = true
	return h.signer.Process.Signal(syscall.SIGSTOP)
}

func wake(_ *world, h *home, _ []string) error {
	if !h.asleep {
		return nil
	}
	h.asleep = false
	err := h.signer.Process.Signal(syscall.SIGCONT)
	if errors.Is(err, os.ErrProcessDone) { // killed in its sleep
		return nil
	}
	return err
}

// runsOn reports whether a signer runs on a host.
func (w *world) runsOn(host byte) bool {
	for _, h := range w.homes {
		if h.name[0] == host && h.signer != nil {
			return true
		}
	}
	return false
}

func (w *world) stopAll(host byte, signal syscall.Signal) error {
	for _, h := range w.homes {
		if h.name[0] == host {
			if err := w.end(h, signal); err != nil {
				return err
			}
		}
	}
	return nil
}

func reboot(w *world, args []string) error {
	host := args[0][0]
	if err := w.stopAll(host, syscall.SIGKILL); err != nil {
		return err
	}
	for _, h := range w.homes {
		if h.name[0] == host && h.hasty {
			return nil // nobody is so fast
		}
	}
	// Clones are not in fstab: one that signed after a boot would be what no host can
	// see.
	for _, h := range w.homes {
		if h.name[0] == host && h.clone {
			if err := w.unmount(h); err != nil {
				return err
			}
		}
	}
	for _, h := range w.homes {
		if h.name[0] == host {
			h.sound, h.forgotten = h.sound && !h.late, true
		}
	}
	w.boots[host]++
	dir := w.runDir(host)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return errors.Join(os.Mkdir(dir, 0o700), w.oracle.booted(host))
}

func sign(w *world, h *home, args []string) error {
	height, round, err := heightRound(args[0], slices.Concat(args[2:], []string{"0"})[0])
	if err != nil {
		return err
	}
	for _, kind := range []string{"proposal", "prevote", "precommit"} {
		if _, err := w.ask(h, kind, height, round, args[1]); err != nil || h.signer == nil {
			return err
		}
	}
	return nil
}

func ask(w *world, h *home, args []string) error {
	height, round, err := heightRound(args[1], args[2])
	if err == nil {
		_, err = w.ask(h, args[0], height, round, args[3])
	}
	return err
}

func heightRound(h, r string) (height int64, round int32, err error) {
	height, err = strconv.ParseInt(h, 10, 64)
	if err != nil {
		return 0, 0, err
	}
	n, err := strconv.ParseInt(r, 10, 32)
	return height, int32(n), err
}

// fork asks for another block wherever something was signed last: a signer whose
// state is older than that signs one of them.
func fork(w *world, h *home, _ []string) error {
	const deep = 15
	last := w.oracle.order[max(0, len(w.oracle.order)-deep):]
	for _, at := range slices.Clone(last) {
		for kind, k := range kinds {
			if steps[k] != at.step {
				continue
			}
			if _, err := w.ask(h, kind, at.height, at.round, "fork"); err != nil || h.signer == nil {
				return err
			}
		}
	}
	return nil
}

func must(w *world, h *home, _ []string) error {
	if !h.sound {
		return nil
	}
	if err := w.stopAll(h.name[0], syscall.SIGTERM); err != nil {
		return err
	}
	if err := start(w, h, nil); err != nil {
		return err
	}
	mark, err := w.mark(h)
	if err != nil {
		return err
	}
	signed, err := w.ask(h, "prevote", mark.height+1, 0, "last")
	if err == nil && !signed {
		err = fmt.Errorf("%s: nothing was done to it, it is at %v, and it does not sign the next height:\n%s", h.name, mark, w.last.output)
	}
	return err
}
