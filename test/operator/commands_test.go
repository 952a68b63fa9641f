package operator

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"privyseal/internal/privval"
	"privyseal/internal/pubkey"
)

func newKey() ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err) // the system gives no randomness
	}
	return key
}

func publicOf(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

func (w *world) publicKey(h *home) (ed25519.PublicKey, error) {
	if err := w.privyseal(h, "key", "show", "--format", "json"); err != nil {
		return nil, err
	}
	key, err := pubkey.ParseJSON([]byte(strings.TrimSpace(w.last.output)))
	return key.Bytes(), err
}

// signAs signs what is asked, as a signer does that asks nobody.
func signAs(key ed25519.PrivateKey, req privval.Request) (privval.Response, error) {
	return privval.Response{Kind: req.Kind, Timestamp: req.Timestamp.Append(nil), Signature: ed25519.Sign(key, req.SignBytes())}, nil
}

// command types a command that brings a state to life here: first without a word,
// and then with those that privyseal asks for and the operator is ready to give: --yes,
// and the flags that stand at the end of the step.
func (w *world) command(h *home, words []string, args ...string) error {
	return w.commandAfter("", h, words, args...)
}

// commandAfter is command for a word that is in args already, and what
// privyseal has printed about it.
func (w *world) commandAfter(about string, h *home, words []string, args ...string) error {
	given := about != ""
	if err := w.privyseal(h, args...); err != nil {
		return err
	}
	ready := append([]string{"--yes"}, words...)
	for {
		i := slices.IndexFunc(ready, func(flag string) bool { return strings.Contains(w.last.output, flag) })
		if w.last.status != statusAct || i < 0 {
			break
		}
		about += w.last.output
		given = true
		args = append(args, ready[i])
		ready = slices.Delete(ready, i, i+1)
		if err := w.privyseal(h, args...); err != nil {
			return err
		}
	}
	return w.alive(h, given, about+w.last.output)
}

// alive notes that a command may have brought the state of a home to life, by a
// word or without one.
func (w *world) alive(h *home, given bool, output string) error {
	if w.last.status != 0 {
		return nil
	}
	h.sound, h.hasty = true, false
	w.unsettle(h)
	if h.shares() && strings.Contains(strings.Join(w.last.args, " "), "state adopt") {
		w.sharers(h, func(o *home) { o.sound = false }) // each asks its operator
	}
	if !given {
		w.oracle.live[h.name] = true
		return nil
	}
	mark, err := w.mark(h)
	if err != nil {
		return err
	}
	said := word{step: w.log[len(w.log)-1], about: h.name, output: output}
	return w.oracle.gave(said, mark, w.copies())
}

// statusAct is the exit status of what an operator has to decide.
const statusAct = 79

func (w *world) file(name string) string { return filepath.Join(w.dir, name+".json") }

func export(w *world, h *home, args []string) error {
	if !h.exists() {
		return nil
	}
	file := w.file(args[0])
	if err := os.RemoveAll(file); err != nil {
		return err
	}
	if err := w.privyseal(h, "state", "export", "--out", file); err != nil {
		return err
	}
	if w.last.status == 0 {
		h.sound = false
		if h.shares() {
			w.sharers(h, func(o *home) { o.sound = false; w.oracle.ended(o.name) })
		}
		w.unsettle(h) // whoever takes the export in may sign what another home here is asked for
		w.oracle.ended(h.name)
		w.lastExport = file
	}
	return nil
}

func importState(w *world, h *home, args []string) error {
	return w.command(h, args[1:], "state", "import", w.file(args[0]))
}

func raise(w *world, h *home, args []string) error {
	return w.command(h, args[1:], "state", "raise", "--after-height", args[0])
}

func makeState(w *world, h *home, args []string) error {
	if !h.exists() {
		return nil
	}
	if err := w.privyseal(h, "state", "init"); err != nil {
		return err
	}
	about := w.last.output
	return w.commandAfter(about, h, nil, append([]string{"state", "init"}, beginning(args)...)...)
}

// beginning are the flags of a state's beginning.
func beginning(args []string) []string {
	switch args[0] {
	case "fresh":
		return []string{"--fresh-state"}
	case "after":
		return []string{"--after-height", args[1]}
	}
	return []string{"--import-state", args[1]}
}

// install imports the key into a home that has none.
func install(w *world, h *home, args []string) error {
	if h.exists() || w.key == nil {
		return nil
	}
	base := []string{"init", "--chain-id", chainID, "--node", "unix://" + w.socket(h.name), "--import-key", w.filePV.keyFile()}
	if err := w.privyseal(h, base...); err != nil {
		return err
	}
	about := w.last.output
	if args[0] == "state" {
		args[1], about = w.file(args[1]), ""
	}
	if err := w.commandAfter(about, h, args[min(2, len(args)):], append(base, beginning(args)...)...); err != nil {
		return err
	}
	return w.settled(h)
}

func migrateIn(w *world, h *home, words []string) error {
	if h.exists() || w.key == nil {
		return nil
	}
	if err := w.command(h, words, "migrate", "cometbft", w.filePV.home); err != nil {
		return err
	}
	return w.settled(h)
}

// moveOut hands the key back to the node, which has never lost the key file.
func moveOut(w *world, h *home, _ []string) error {
	if !w.oracle.live[h.name] || w.key == nil {
		return nil
	}
	if err := w.end(h, 15); err != nil {
		return err
	}
	if err := export(w, h, []string{"out"}); err != nil || w.last.status != 0 {
		return err
	}
	data, err := os.ReadFile(w.file("out"))
	if err != nil {
		return err
	}
	w.oracle.live[filePVName] = true
	return w.filePV.take(data)
}

func nodeSigns(w *world, args []string) error {
	if !w.oracle.live[filePVName] {
		return nil
	}
	height, _, err := heightRound(args[0], "0")
	if err != nil {
		return err
	}
	return w.signFilePV(height, args[1])
}

var printedCommand = regexp.MustCompile("`(privyseal [^`]*)`")

var bringsToLife = regexp.MustCompile(`privyseal (init|state (init|adopt|import|raise|join|move)|migrate) `)

var installs = regexp.MustCompile(`privyseal (init|migrate) `)

// obey types a command as it was printed last, on the host of the home that it names,
// with the place of a height filled in truthfully and that of a file with the last
// export.
func obey(w *world, args []string) error {
	found := printedCommand.FindAllStringSubmatch(w.lastSaid, -1)
	var n int
	if _, err := fmt.Sscan(args[0], &n); err != nil || len(found) == 0 {
		return err
	}
	line := found[n%len(found)][1]
	return typePrinted(w, line)
}

// typePrinted types one printed command.
func typePrinted(w *world, line string) error {
	h := w.named(line)
	if h == nil || strings.Contains(line, "--help") {
		return nil
	}
	if strings.HasPrefix(line, "privyseal start") {
		return start(w, h, nil)
	}
	line = strings.ReplaceAll(line, "--after-height H", fmt.Sprintf("--after-height %d", w.oracle.top().height+10))
	line = strings.ReplaceAll(line, "--initial-height H", fmt.Sprintf("--initial-height %d", w.oracle.top().height+1))
	line = strings.ReplaceAll(line, " FILE", " "+w.lastExport)
	about, from := w.lastSaid, h.store()
	if err := w.run(h.name[0], "sh", "-c", line); err != nil {
		return err
	}
	if from != h.store() {
		w.movedTo(h, from)
	}
	given := strings.Contains(line, "--yes") || strings.Contains(line, "--after-height") || strings.Contains(line, "--fresh-state")
	if !bringsToLife.MatchString(line) {
		return nil
	}
	if installs.MatchString(line) {
		if err := w.settled(h); err != nil {
			return err
		}
	}
	return w.alive(h, given, about+w.last.output)
}

// named returns the home that a command line names, nil if it names none.
func (w *world) named(line string) *home {
	for _, h := range w.homes {
		if strings.Contains(line+" ", h.dir+" ") || strings.Contains(line, h.dir+"/state/") {
			return h
		}
	}
	return nil
}
