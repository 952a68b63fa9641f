package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
)

// The README's first hour: what it shows of init, status and check is what they print,
// up to keys, numbers and the machine. A line of "..." stands for any number of lines.
func TestReadmeShowsWhatIsPrinted(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := diskDir(t)
	home, socket := filepath.Join(dir, "home"), filepath.Join(dir, "s")
	for _, m := range regexp.MustCompile("(?s)```console\n\\$ privyseal (\\S+)([^\n]*)\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		command, args, want := m[1], strings.Fields(strings.ReplaceAll(m[2], "/run/privval/privval.sock", socket)), m[3]
		cmd := exec.Command("privyseal", append([]string{command}, args...)...)
		cmd.Env = append(os.Environ(), "PRIVYSEAL_HOME="+home)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		got := strings.NewReplacer(home, "/var/lib/privyseal", socket, "/run/privval/privval.sock").Replace(string(out))
		if !shows(want, got) {
			t.Errorf("the README shows of privyseal %s\n%s\nand it prints\n%s", command, want, got)
		}
		if command == "init" { // and step 3
			startedWithNode(t, home, socket)
		}
	}
}

// startedWithNode starts the signer of a home, and a node that asks it for votes.
func startedWithNode(t *testing.T, home, socket string) {
	t.Helper()
	noMetrics(t, home)
	// The node goes last: it waits for the signer to hang up.
	var height atomic.Int64
	n := newBusyNode(t, socket, "mychain-1", &height)
	startSigner(t, home).waitReady(t)
	n.signsOn()
}

// shows reports whether a sample has the lines of an output, but for what differs from
// host to host and from run to run.
func shows(sample, output string) bool {
	var b strings.Builder
	for _, line := range strings.SplitAfter(sample, "\n") {
		if line == "...\n" {
			b.WriteString("(?s:.*)")
			continue
		}
		b.WriteString(regexp.QuoteMeta(alike(line)))
	}
	return regexp.MustCompile(`\A` + b.String() + `\z`).MatchString(alike(output))
}

// alike puts one word in place of all that differs.
func alike(text string) string {
	for _, r := range []struct{ pattern, word string }{
		{`[A-Za-z0-9+/]{43}=`, "KEY"}, {`\b[0-9A-F]{40}\b`, "ADDRESS"}, {`process \d+`, "process N"}, {`\b(v\d+\.\d+\.\d+|devel)\b`, "VERSION"},
		{`\b(\d+h)?(\d+m)?\d+(\.\d+)?(ms|µs|s)\b`, "TIME"}, {`height \d+`, "height N"}, {`\b(ext4|xfs|btrfs|f2fs|zfs)\b`, "DISK"}, {`line \d+`, "line N"},
	} {
		text = regexp.MustCompile(r.pattern).ReplaceAllString(text, r.word)
	}
	return text
}

// Every link between the documents leads to a file, and to a heading in it.
func TestLinksLeadSomewhere(t *testing.T) {
	for _, file := range append(docs(t), "../../README.md", "../../HACKING.md", "../../SECURITY.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(string(text), -1) {
			path, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(path, "://") {
				continue
			}
			target := filepath.Join(filepath.Dir(file), path)
			if path == "" {
				target = file
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %s: %v", file, m[1], err)
			} else if anchor != "" && !hasHeading(t, target, anchor) {
				t.Errorf("%s: %s has no heading #%s", file, target, anchor)
			}
		}
	}
}

// hasHeading reports whether a document has a heading that is linked by an anchor, as
// GitHub makes them.
func hasHeading(t *testing.T, file, anchor string) bool {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(text), -1) {
		plain := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		if strings.ReplaceAll(plain, " ", "-") == anchor {
			return true
		}
	}
	return false
}
