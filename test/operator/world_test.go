package operator

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const chainID = "chain-1"

// world is what one story happens in: two hosts, a and b, with homes a1, a2 and b1,
// one key, and an oracle. The first letter of a home is its host.
//
// Two hosts are two folders of host records (PRIVYSEAL_RUN), for that is all that
// one machine can show of two. A reboot empties such a folder.
type world struct {
	byHand bool // somebody has changed a config, and has to change it again to go on
	dir    string
	homes  map[string]*home
	boots  map[byte]int
	key    ed25519.PrivateKey // nil: privyseal made it, and there is no other copy
	filePV filePV
	oracle *oracle
	names  []string // of the homes
	shared *shared  // nil: each home keeps its state in a file

	last       outcome // of the last program that the story ran
	lastSaid   string  // what privyseal printed last that has a command in it
	lastExport string
	saved      map[string]time.Time // when a backup was made
	log        []string
}

// home is one home folder of privyseal, and the node that it signs for.
type home struct {
	name   string
	dir    string
	node   *node
	signer *exec.Cmd // nil: it does not run
	stderr *bytes.Buffer
	ended  chan error

	asleep bool // its signer is stopped in the middle of whatever it did

	volume, clone bool // it lies on a volume of its own; that is a clone of another one

	hasty bool // what was put back was put back too soon to be seen after a boot
	late  bool // the clock went ahead since the last start, and the file's change time did not
	flips int  // bits that were turned since the last start

	forgotten bool // its host was booted since the last start

	before string // its config, as it was before its state moved; "": it never did

	// sound says that nothing was done to the home that could make a careful signer
	// refuse: it has to sign.
	sound bool
}

// outcome is what a program answered.
type outcome struct {
	args   []string
	status int
	output string // standard output, then standard error
}

// copyOf names a copy of the state, and where it is. What is shared is in a database.
type copyOf struct {
	name   string
	host   byte
	boot   int
	shared bool
}

// newWorld makes a world. With a database it has a third host, with a home c1, and the homes may
// have their state there.
func newWorld(dir string, s *shared) (*world, error) {
	w := &world{
		dir: dir, homes: map[string]*home{}, boots: map[byte]int{}, saved: map[string]time.Time{},
		oracle: newOracle(chainID), names: []string{"a1", "a2", "b1"},
	}
	if s != nil {
		w.names = append(w.names, "c1")
		w.shared = s
	}
	if err := s.writeRoots(filepath.Join(dir, "roots.pem")); err != nil {
		return w, err
	}
	for _, name := range w.names {
		h := &home{name: name, dir: filepath.Join(dir, name)}
		if err := os.MkdirAll(w.runDir(name[0]), 0o700); err != nil {
			return nil, err
		}
		var err error
		if h.node, err = listen(w.socket(name)); err != nil {
			return nil, err
		}
		w.homes[name] = h
	}
	return w, nil
}

func (w *world) close() {
	for _, h := range w.homes {
		if h.signer != nil {
			h.signer.Process.Kill()
			<-h.ended
		}
		h.node.close()
		w.unmount(h)
	}
	os.RemoveAll(w.dir) // thousands of stories would fill a disk
}

func (w *world) runDir(host byte) string   { return filepath.Join(w.dir, "run-"+string(host)) }
func (w *world) socket(home string) string { return filepath.Join(w.dir, home+".sock") }

// kept is the file that a home keeps in a folder of states: the state, or what its host has
// seen of one in etcd.
func (h *home) kept() string {
	switch h.store() {
	case "etcd":
		return chainID + ".mark.floor"
	case "dynamodb":
		return chainID + ".mark.dynamodb.floor"
	}
	return chainID + ".mark"
}

func (h *home) state() string { return filepath.Join(h.dir, "state", h.kept()) }

func (h *home) exists() bool {
	_, err := os.Stat(filepath.Join(h.dir, "privyseal.toml"))
	return err == nil
}

func (w *world) copyOf(name string) copyOf {
	h := w.homes[name]
	return copyOf{name, name[0], w.boots[name[0]], h != nil && h.shares()}
}

// copies returns every copy of the state that there can be.
func (w *world) copies() (all []copyOf) {
	for name := range w.homes {
		all = append(all, w.copyOf(name))
	}
	return append(all, w.copyOf(filePVName))
}

// environ is that of a program on a host.
func (w *world) environ(host byte) []string {
	all := append(os.Environ(),
		"PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"),
		"PRIVYSEAL_RUN="+w.runDir(host))
	return append(all, w.shared.environ(filepath.Join(w.dir, "roots.pem"))...)
}

// run runs a program on a host, in the world's folder, to its end. The error is
// one of the test, or says what no privyseal may do.
func (w *world) run(host byte, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = w.dir
	cmd.Env = w.environ(host)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	return w.ended(args, cmd, err, stdout.String()+stderr.String())
}

// ended notes how a program ended.
func (w *world) ended(args []string, cmd *exec.Cmd, err error, output string) error {
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("cannot run %v: %w", args, err)
	}
	w.last = outcome{args, cmd.ProcessState.ExitCode(), output}
	if printedCommand.MatchString(output) {
		w.lastSaid = output
	}
	if strings.Contains(output, "goroutine ") || strings.Contains(output, "panic:") {
		return fmt.Errorf("%v panics:\n%s", args, output)
	}
	return nil
}

// privyseal runs a command for a home.
func (w *world) privyseal(h *home, args ...string) error {
	return w.run(h.name[0], program, append(args, "--home", h.dir)...)
}

// shell runs a line of an operator's shell.
func (w *world) shell(host byte, format string, args ...any) error {
	line := fmt.Sprintf(format, args...)
	if err := w.run(host, "sh", "-c", line); err != nil {
		return err
	}
	if w.last.status != 0 {
		return fmt.Errorf("%s: status %d\n%s", line, w.last.status, w.last.output)
	}
	return nil
}

// start starts the signer of a home, and returns when it has dialled or ended.
func (w *world) start(h *home) error {
	h.node.hangUp()
	args := []string{"start", "--home", h.dir}
	cmd := exec.Command(program, args...)
	cmd.Env = w.environ(h.name[0])
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	h.stderr = &bytes.Buffer{}
	cmd.Stderr = h.stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	h.signer, h.ended = cmd, make(chan error, 1)
	go func() { h.ended <- cmd.Wait() }()
	select {
	case conn := <-h.node.dialled:
		h.node.serve(conn)
		w.last = outcome{args: args}
		return nil
	case err := <-h.ended:
		h.signer = nil
		return w.ended(args, cmd, err, h.stderr.String())
	case <-time.After(patience):
		return fmt.Errorf("%s: start neither dials nor ends", h.name)
	}
}

// end ends the signer of a home by a signal.
func (w *world) end(h *home, signal syscall.Signal) error {
	if h.signer == nil {
		return nil
	}
	h.signer.Process.Signal(signal)
	if err := wake(w, h, nil); err != nil {
		return err
	}
	select {
	case err := <-h.ended:
		cmd := h.signer
		h.signer = nil
		h.node.hangUp()
		if err := w.ended([]string{"start"}, cmd, err, h.stderr.String()); err != nil {
			return err
		}
		if signal == syscall.SIGTERM && w.last.status != 0 {
			return fmt.Errorf("%s: SIGTERM ends it with status %d:\n%s", h.name, w.last.status, w.last.output)
		}
		return nil
	case <-time.After(patience):
		return fmt.Errorf("%s: %v does not end it", h.name, signal)
	}
}

// mark returns where the state of a home is, by `state show`.
func (w *world) mark(h *home) (position, error) {
	before := w.last
	defer func() { w.last = before }()
	if err := w.privyseal(h, "state", "show", "--json"); err != nil {
		return position{}, err
	}
	var s struct {
		Height int64
		Round  int32
		Step   string
	}
	if err := json.NewDecoder(strings.NewReader(w.last.output)).Decode(&s); err != nil {
		return position{}, fmt.Errorf("state show --json: %w\n%s", err, w.last.output)
	}
	step := slices.Index([]string{"none", "proposal", "prevote", "precommit"}, s.Step)
	return position{s.Height, s.Round, uint8(max(0, step))}, nil
}

// ask has the node of a home ask for one signature. signed is false if it was
// refused, or no signer was there to answer.
func (w *world) ask(h *home, kind string, height int64, round int32, block string) (signed bool, err error) {
	w.last = outcome{args: []string{"ask", h.name}, status: 1, output: "no signer"}
	if h.node.conn == nil || h.asleep {
		return false, nil
	}
	req, err := request(chainID, kind, height, round, block, time.Now())
	if err != nil {
		return false, err
	}
	resp, err := h.node.ask(req)
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return false, fmt.Errorf("%s does not answer", h.name)
	case err != nil: // it was held, for 4 s, and so would the next one be
		return false, w.end(h, syscall.SIGKILL)
	}
	w.last.output = resp.Refused
	if resp.Refused == "" {
		w.last.status = 0
		w.unsettle(h)
	}
	return resp.Refused == "", w.oracle.answered(w.copyOf(h.name), req, resp)
}
