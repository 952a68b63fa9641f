package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"privyseal/internal/cli"
	"privyseal/internal/filestore"
	"privyseal/internal/home"
	"privyseal/internal/key/soft/keyfile"
	"privyseal/internal/watermark"
)

// operator is a home whose folder has a name that a shell takes apart, and what its
// key has signed: the oracle. (test/operator does the same at random, with nodes.)
type operator struct {
	*testing.T
	dir, home string
	signed    int64 // the highest height that the key has signed
}

func newOperator(t *testing.T) *operator {
	dir := filepath.Join(diskDir(t), `it's a $(touch pwned) folder`)
	o := &operator{T: t, dir: dir, home: filepath.Join(dir, "home")}
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, filepath.Join(dir, "bin", "privyseal"))
	}
	if err != nil {
		t.Fatal(err)
	}
	o.must("init", "--home", o.home, "--chain-id", "c", "--node", "unix:///s", "--initial-height", "101")
	o.signed = 100
	return o
}

// sh runs a line without a terminal, and returns all that it printed.
func (o *operator) sh(line string, args ...string) (string, int) {
	o.Helper()
	cmd := exec.Command("sh", append([]string{"-c", line, "sh"}, args...)...)
	cmd.Dir = o.dir
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(o.dir, "bin")+":"+os.Getenv("PATH"), "PRIVYSEAL_RUN="+filepath.Join(o.dir, "run"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		o.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

func (o *operator) run(args ...string) (string, int) {
	o.Helper()
	return o.sh(`privyseal "$@"`, args...)
}

func (o *operator) must(args ...string) {
	o.Helper()
	if text, status := o.run(args...); status != 0 {
		o.Fatalf("%q: %d: %s", args, status, text)
	}
}

func (o *operator) state() string { return filepath.Join(o.home, "state", "c.mark") }

// mark returns the height of the state if start would use it, and -1 if not.
func (o *operator) mark() int64 {
	text, status := o.run("state", "show", "--home", o.home, "--json")
	found := regexp.MustCompile(`"height": (\d+)`).FindStringSubmatch(text)
	if status != 0 || found == nil {
		return -1
	}
	height, err := strconv.ParseInt(found[1], 10, 64)
	if err != nil {
		o.Fatal(err)
	}
	return height
}

// sign has the key sign up to a height.
func (o *operator) sign(height int64) {
	o.Helper()
	o.must("state", "raise", "--home", o.home, "--after-height", strconv.FormatInt(height, 10), "--yes")
	o.signed = height
}

var (
	printed = regexp.MustCompile("`((?:privyseal|rm|chmod) [^`]+)`")
	word    = regexp.MustCompile("--(yes|fresh-state|export-unused)")
)

// try runs every command that a text names, each in a shell, with what stands for a
// height and a file put in, and all that those name in turn. No step without a word
// may leave a state that would sign what was signed.
func (o *operator) try(text, file string, depth int) {
	o.Helper()
	commands := printed.FindAllStringSubmatch(text, -1)
	for _, c := range commands {
		line := strings.ReplaceAll(c[1], "--after-height H", "--after-height "+strconv.FormatInt(o.signed+1000, 10))
		line = regexp.MustCompile(`\bFILE\b`).ReplaceAllString(line, file)
		if word.MatchString(line) || strings.Contains(line, "privyseal start") {
			continue // the word would be a lie here; and a signer would not end
		}
		if in := build().House(o.home).InHome("`" + line + "`"); in != "`"+line+"`" {
			o.Errorf("the cure does not say for which home: %s", line)
		}
		out, status := o.sh(line)
		if status == 127 || status == 2 || strings.Contains(out, "unknown flag") || strings.Contains(out, "unknown command") {
			o.Errorf("the cure is no command: %s\n%s", line, out)
		}
		if at := o.mark(); at >= 0 && at < o.signed {
			o.Fatalf("without a word the state is at %d, and the key has signed %d: %s\n%s", at, o.signed, line, out)
		}
		if depth < 2 && status != 0 {
			o.try(out, file, depth+1)
		}
	}
	if depth == 0 && len(commands) == 0 {
		o.Errorf("no cure in %s", text)
	}
	if exists(filepath.Join(o.dir, "pwned")) || exists("pwned") {
		o.Fatal("a name was taken for a command")
	}
}

// Every refusal about a state: its cures are commands that run as they are printed,
// and none of them alone, without a word of the operator's, goes back.
func TestCuresOfStates(t *testing.T) {
	for name, spoil := range map[string]func(o *operator){
		"missing": func(o *operator) { o.remove() },
		"damaged": func(o *operator) { o.write(bytes.Repeat([]byte{7}, 128<<10)) },
		"copied": func(o *operator) {
			data := o.read()
			o.remove()
			o.write(data)
		},
		"restored": func(o *operator) {
			data := o.read()
			o.sign(250)
			o.write(data)
		},
		"exported": func(o *operator) {
			o.must("state", "export", "--home", o.home, "--out", filepath.Join(o.dir, "again.json"))
		},
		"loose": func(o *operator) {
			if err := os.Chmod(o.state(), 0o644); err != nil {
				o.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOperator(t)
			old := filepath.Join(o.dir, "old.json")
			o.must("state", "export", "--home", o.home, "--out", old)
			o.must("state", "import", "--home", o.home, old, "--yes", "--export-unused")
			o.sign(200)
			spoil(o)
			text, status := o.run("state", "show", "--home", o.home)
			if status != cli.MustAct {
				t.Fatalf("exit status %d: %s", status, text)
			}
			o.try(text, `"$PWD"/old.json`, 0)
		})
	}
}

// An export of long ago, where the message says `state import FILE`: the gate shows
// its age, knows it for this host's own, and asks for confirmation.
func TestAnOldExportIsNoCure(t *testing.T) {
	o := newOperator(t)
	old := filepath.Join(o.dir, "old.json")
	key, err := keyfile.Open(filepath.Join(o.home, "keys", "c.key"), "")
	if err != nil {
		t.Fatal(err)
	}
	saved := watermark.Saved{Mark: watermark.Mark{Height: 100, Step: watermark.StepPrecommit}, Time: time.Now().Add(-60 * 24 * time.Hour)}
	data, err := home.EncodeInterchange("c", key.PublicKey(), saved, saved.Time, home.Exporter{})
	if err == nil {
		err = os.WriteFile(old, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	o.sign(200)
	o.remove()
	if err := os.RemoveAll(filepath.Join(o.dir, "run")); err != nil { // a reboot: the host has forgotten
		t.Fatal(err)
	}
	text, status := o.run("state", "import", "--home", o.home, old)
	if status != cli.MustAct || o.mark() >= 0 {
		t.Fatalf("taken: %d: %s", status, text)
	}
	for _, part := range []string{"mark  height 100, round 0, precommit", "old.json, exported by privyseal at ", "60 days ago", "signed nothing newer on c"} {
		if !strings.Contains(text, part) {
			t.Errorf("not shown: %q in %s", part, text)
		}
	}
}

func (o *operator) read() []byte {
	data, err := os.ReadFile(o.state())
	if err != nil {
		o.Fatal(err)
	}
	return data
}

func (o *operator) write(data []byte) {
	if err := os.WriteFile(o.state(), data, 0o600); err != nil {
		o.Fatal(err)
	}
}

func (o *operator) remove() {
	for _, path := range []string{o.state(), o.state() + filestore.CompanionSuffix} {
		if err := os.Remove(path); err != nil {
			o.Fatal(err)
		}
	}
}
