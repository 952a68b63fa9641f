package operator

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// What an operator's shell does to the files of a home.

func (w *world) backup(name string) string { return filepath.Join(w.dir, "backup-"+name) }

// save copies the whole home, also under a running signer.
func save(w *world, h *home, args []string) error {
	if !h.exists() {
		return nil
	}
	to := w.backup(args[0])
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	w.saved[args[0]] = time.Now()
	return w.shell(h.name[0], "cp -a %s %s", h.dir, to)
}

// tooSoon is the time within which bytes that are put back are not seen, if the host
// boots before they are loaded: the kernel's times and ours cannot be held against
// each other more closely (doc/threat-model.md).
const tooSoon = 2200 * time.Millisecond

func wait(*world, []string) error { time.Sleep(tooSoon); return nil }

// waysOfFile put one file back; %[1]s is the saved one, %[2]s that of the home.
var waysOfFile = map[string]string{
	"cp":    "cp %[1]s %[2]s",
	"cp-p":  "cp -p %[1]s %[2]s",
	"cat":   "cat %[1]s >%[2]s",
	"dd":    "dd if=%[1]s of=%[2]s conv=notrunc status=none",
	"tar":   "tar -C $(dirname %[1]s) -cf - $(basename %[1]s) | tar -C $(dirname %[2]s) --overwrite -xf -",
	"rsync": "rsync -a --inplace --ignore-times %[1]s %[2]s",
	"mv":    "cp -p %[1]s %[2]s.new && mv %[2]s.new %[2]s",
}

// waysOfFolder put a folder back.
var waysOfFolder = map[string]string{
	"cp":    "mkdir -p %[2]s && cp -a %[1]s/. %[2]s",
	"tar":   "mkdir -p %[2]s && tar -C %[1]s -cf - . | tar -C %[2]s --overwrite -xf -",
	"rsync": "rsync -a --inplace --ignore-times --delete %[1]s/ %[2]s/",
	"swap":  "rm -rf %[2]s && cp -a %[1]s %[2]s",
}

// put puts back what was saved: the state file alone, the folder of states, or the
// whole home.
func put(w *world, h *home, args []string) error {
	from, to, ways := w.backup(args[0]), h.dir, waysOfFolder
	switch args[1] {
	case "file":
		from, to, ways = filepath.Join(from, "state", h.kept()), h.state(), waysOfFile
	case "folder":
		from, to = filepath.Join(from, "state"), filepath.Join(to, "state")
	}
	way, known := ways[args[2]]
	if !known {
		return fmt.Errorf("no way %q to put back a %s", args[2], args[1])
	}
	if _, err := os.Stat(from); err != nil || !h.exists() {
		return nil
	}
	if _, err := exec.LookPath("rsync"); err != nil && args[2] == "rsync" {
		return nil
	}
	saved := filepath.Join(w.backup(args[0]), "state", h.kept())
	h.sound, h.hasty = false, time.Since(w.saved[args[0]]) < tooSoon || ahead(saved)
	if err := w.shell(h.name[0], way, from, to); err != nil {
		return err
	}
	if args[2] == "mv" || args[2] == "swap" {
		return errors.Join(w.addressed(h), w.replaced(h))
	}
	return w.addressed(h)
}

// replaced ends the signer of a home whose files are others now. It would hold
// every request for 4 s, and has nothing to show meanwhile.
func (w *world) replaced(h *home) error { return w.end(h, syscall.SIGKILL) }

// addressed gives the config of a home that came from elsewhere the address of
// its own node.
func (w *world) addressed(h *home) error {
	return w.shell(h.name[0], "sed -i 's#unix://[^\"]*#unix://%s#' %s/privyseal.toml", w.socket(h.name), h.dir)
}

// copied copies the home to another one, on its host or the other.
func copied(w *world, h *home, args []string) error {
	to := w.homes[args[0]]
	if to == h || !h.exists() || to.exists() || to.volume {
		return nil
	}
	to.sound = false
	// What an init that was refused has left there is in the way.
	if err := w.shell(h.name[0], "rm -rf %[2]s && cp -a %[1]s %[2]s", h.dir, to.dir); err != nil {
		return err
	}
	return w.addressed(to)
}

// moved renames the home: its files stay what they are.
func moved(w *world, h *home, args []string) error {
	to := w.homes[args[0]]
	if to == h || !h.exists() || to.exists() || to.name[0] != h.name[0] || h.signer != nil || h.volume || to.volume {
		return nil
	}
	if err := w.shell(h.name[0], "mv %s %s", h.dir, to.dir); err != nil {
		return err
	}
	// To the oracle it is the same copy under another name.
	o := w.oracle
	to.sound, h.sound = h.sound, false
	if w, denied := o.denied[h.name]; denied {
		o.denied[to.name] = w
		delete(o.denied, h.name)
	}
	if o.live[h.name] {
		o.live[to.name] = true
		delete(o.live, h.name)
	}
	return w.addressed(to)
}

func remove(w *world, h *home, _ []string) error {
	h.sound = false
	return errors.Join(w.shell(h.name[0], "rm -f %s", h.state()), w.replaced(h))
}

// flip turns one bit of the state file, as a bad disk does.
func flip(w *world, h *home, args []string) error {
	offset, err1 := strconv.ParseInt(args[0], 10, 64)
	bit, err2 := strconv.Atoi(args[1])
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if h.signer != nil {
		return nil // it is the process that knows the mark, and writes over it
	}
	f, err := os.OpenFile(h.state(), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], offset); err != nil {
		return err
	}
	if h.flips++; h.flips > 1 {
		h.sound = false // two may meet in what stands in for each other
	}
	b[0] ^= 1 << bit
	_, err = f.WriteAt(b[:], offset)
	return err
}

// touch makes a state look as old as can be: that of a home, or of the node.
func touch(w *world, args []string) error {
	path := w.filePV.stateFile()
	if h := w.homes[args[0]]; h != nil {
		path = h.state()
	}
	if _, err := os.Stat(path); err != nil {
		return nil
	}
	return os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0))
}

// chown types what the manual has for a home that was made by root.
func chown(w *world, h *home, _ []string) error {
	if !h.exists() {
		return nil
	}
	return w.shell(h.name[0], "chown -R %d:%d %[3]s && find %[3]s/state -type f -exec chmod 600 {} +", os.Geteuid(), os.Getegid(), h.dir)
}
