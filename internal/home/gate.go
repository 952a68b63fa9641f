// Package home is the operator's side of what a home folder holds: what is made there for
// a chain (all of it or nothing, [Installer]), what an operator says about the state of a
// key ([Start], [Words]), and states that move between hosts.
//
// In the middle of it is the gate: every mark that is not a chain's own live one comes in through
// [Gate.Admit], whatever the command. A mark from elsewhere is somebody's word about
// what a key has signed, and validators are slashed where that word is wrong: it was
// a backup, a reset file, a height below the chain's.
//
// The gate shows the mark, where it comes from and how old it is, refuses what cannot
// be right, and asks the operator to confirm the rest. It writes no state itself.
//
// The package trusts the operator's word, the clock of this host for an age that it shows, and
// nothing in a file.
package home

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/provider"
	"privyseal/internal/watermark"
	"privyseal/internal/witness"
)

// The reasons for which the gate refuses a mark, each wrapped in a *[Refusal].
var (
	// errNoWord says that nobody has said yet that the mark is right.
	errNoWord = errors.New("your confirmation is needed")
	// errZero says that the mark is the zero one, and nobody has said that the key
	// never signed.
	errZero = errors.New("a state that was reset looks like that of a key that never signed")
	// errOwnExport says that this host wrote the mark when it exported its state.
	errOwnExport = errors.New("this host exported it")
	// errTombstone says that the state was exported here at the mark or above it.
	errTombstone = errors.New("it is not above what was exported here")
	// errNewer says that a state was found that has signed more.
	errNewer = errors.New("a newer state of the key was found")
)

// Refusal is a mark that was not let in. Cures are command lines, in backticks or
// with a sentence around them, each for a line of its own.
type Refusal struct {
	Err   error // one of the reasons above
	Text  string
	Cures []string
}

func (r *Refusal) Error() string { return strings.Join(append([]string{r.Text}, r.Cures...), "\n") }

func (r *Refusal) Unwrap() error { return r.Err }

// Origin is how a mark comes in; it decides what the operator has to stand up for.
type Origin int

const (
	FromFile     Origin = iota // a state file of another signer or host
	FromWord                   // a height that the operator has named
	FromHere                   // the file in place, which was copied, restored or moved
	FromNothing                // the word that the key never signed
	FromShared                 // a state that signers of other hosts have
	FromMemory                 // what this host knows of such a state, which is not in the database
	FromRestored               // such a state, in a database that was restored or changed
)

// Incoming is a mark that is not the live one of its chain and key here.
type Incoming struct {
	Chain  string // as the operator calls it
	Mark   watermark.Mark
	Origin Origin
	// From is what the operator is shown as the origin: a file and what it is.
	From string
	// Written is when the mark was made, by the clock of whoever made it; zero is not
	// known.
	Written time.Time
	// Own says that this host exported it, and nobody is known to have taken it in.
	Own bool
	// Unsigned is a state of one of several parties to the key that is at height 0, where
	// Mark comes from the others; "" if there is none.
	Unsigned string
}

// Found is a state that is beside what comes in.
type Found struct {
	Path string
	Mark watermark.Mark // zero if it could not be read
	Err  error          // why it could not be read
}

// Here is what is known of the same chain and key on this host. The zero value is
// that nothing is.
type Here struct {
	// Exported is the mark of a tombstone: with it the state was exported. It counts
	// if HasTombstone is set.
	Exported     watermark.Mark
	HasTombstone bool
	// Beside are the states that lie where other signers keep them, and what a key
	// file says itself.
	Beside []Found
}

// Gate holds the operator's words, and where to ask for one that is missing.
type Gate struct {
	Yes          bool // the mark is right, and no other signer has the key
	Fresh        bool // the key never signed on the chain, anywhere
	ExportUnused bool // no host has signed with the state since it was exported here

	// Terminal is where the operator answers, nil if there is none.
	Terminal io.Reader
	// Shown is where the mark is shown, and the question asked.
	Shown io.Writer
	// Again returns the command line that was typed, with a word more.
	Again func(word string) string
	// AtHeight returns the command line that begins at a height H instead, and Take the
	// one that begins with another state file. Both are optional: not each command has
	// such a way.
	AtHeight func() string
	Take     func(path string) string
	// Text writes a mark for people.
	Text func(watermark.Mark) string
}

// Admit lets a mark in, or returns a *[Refusal].
func (g *Gate) Admit(in Incoming, here Here) error {
	for _, rule := range []func(Incoming, Here) error{g.zero, g.beside, g.tombstone, g.ownExport} {
		if err := rule(in, here); err != nil {
			return err
		}
	}
	g.show(in, here)
	if g.Yes || in.Origin == FromNothing { // whose word is Fresh
		return nil
	}
	return g.ask(in)
}

// Look shows a mark, and what will have to be confirmed of it, and lets nothing in.
func (g *Gate) Look(in Incoming) {
	look := *g
	look.Yes = false
	look.show(in, Here{})
	fmt.Fprintf(g.Shown, "  to be confirmed: %s\n", in.claim())
}

// zero takes height 0 for what it is: nobody's knowledge that nothing was signed.
func (g *Gate) zero(in Incoming, _ Here) error {
	switch {
	case g.Fresh, in.Origin == FromShared: // which a signer may have made a moment ago
		return nil
	case in.Unsigned != "" && !in.Mark.IsZero():
		return &Refusal{Err: errZero,
			Text: fmt.Sprintf("%s: %s: it says that its cosigner has never signed, and %v; with the others it may have signed above %s", in.Chain, in.Unsigned, errZero, g.text(in.Mark)),
			Cures: []string{
				"if it is certain that this cosigner has never signed: " + g.again("--fresh-state"),
				"else look for the state that it has signed with" + g.atHeight(),
			}}
	case !in.Mark.IsZero():
		return nil
	}
	return &Refusal{Err: errZero,
		Text: fmt.Sprintf("%s: %s: it says that the key has never signed on this chain, and %v", in.Chain, in.From, errZero),
		Cures: []string{
			"if it is certain that the key has never signed on this chain, anywhere: " + g.again("--fresh-state"),
			"else look for the state that it has signed with" + g.atHeight(),
		}}
}

// beside refuses a mark below a state that is beside the key.
func (g *Gate) beside(in Incoming, here Here) error {
	for _, f := range here.Beside {
		switch {
		case f.Err != nil && in.Origin == FromNothing:
			return &Refusal{Err: errNewer,
				Text:  fmt.Sprintf("%s: the key has a state, %s, which cannot be read: %v", in.Chain, f.Path, f.Err),
				Cures: []string{"find out what it has signed" + g.atHeight()}}
		case f.Err == nil && (in.Mark.Less(f.Mark) || in.Origin == FromNothing && !f.Mark.IsZero()):
			return &Refusal{Err: errNewer,
				Text:  fmt.Sprintf("%s: %s says that the key has signed up to %s, and this begins at %s", in.Chain, f.Path, g.text(f.Mark), g.text(in.Mark)),
				Cures: []string{g.take(f.Path) + "if it is not, copy the key to a folder of its own first"}}
		}
	}
	return nil
}

// tombstone refuses to bring an exported state back where it died or below: whoever imported
// it may have signed since.
func (g *Gate) tombstone(in Incoming, here Here) error {
	if !here.HasTombstone || g.ExportUnused || here.Exported.Less(in.Mark) {
		return nil
	}
	if in.Origin == FromHere {
		return &Refusal{Err: errTombstone,
			Text: fmt.Sprintf("%s: a state ended there at %s, and the one that comes is not above it, at %s; if the first was exported to another host, that host may have signed since",
				in.Chain, g.text(here.Exported), g.text(in.Mark)),
			Cures: []string{"if it was moved from there, and never exported to another host: " + g.again("--export-unused")}}
	}
	return &Refusal{Err: errTombstone,
		Text: fmt.Sprintf("%s: the state was exported here at %s, and this is %s: %v; the host that imported it may have signed since",
			in.Chain, g.text(here.Exported), g.text(in.Mark), errTombstone),
		Cures: g.unused()}
}

// ownExport refuses what this host has exported itself, also where the tombstone is
// gone.
func (g *Gate) ownExport(in Incoming, _ Here) error {
	if !in.Own || g.ExportUnused {
		return nil
	}
	return &Refusal{Err: errOwnExport,
		Text: fmt.Sprintf("%s: %s: it was exported from this same folder (or on a host with the same machine id), at %s; the host that imported it may have signed since",
			in.Chain, in.From, g.text(in.Mark)),
		Cures: g.unused()}
}

func (g *Gate) unused() []string {
	return []string{
		"export there, and import that here; or",
		"if no host has signed with the export, and none can: " + g.again("--export-unused"),
	}
}

// show says what comes in, and what it comes in over.
func (g *Gate) show(in Incoming, here Here) {
	fmt.Fprintf(g.Shown, "%s: what the key has signed, up to\n  mark  %s\n  from  %s\n", in.Chain, g.text(in.Mark), in.From)
	if !in.Written.IsZero() {
		fmt.Fprintf(g.Shown, "  made  %s, %s\n", in.Written.UTC().Format(time.RFC3339), age(time.Since(in.Written)))
	}
	if here.HasTombstone {
		fmt.Fprintf(g.Shown, "  over  a state that was exported here at %s; the host that imported it may still sign\n", g.text(here.Exported))
	}
	if g.Yes || in.Origin == FromNothing {
		fmt.Fprintf(g.Shown, "  word  %s\n", in.claim())
	}
}

// claim is what the operator's word says.
func (in *Incoming) claim() string {
	switch in.Origin {
	case FromNothing:
		return fmt.Sprintf("this key has never signed on %s, anywhere, and no other signer of it runs", in.Chain)
	case FromWord:
		return fmt.Sprintf("this key has signed nothing above height %d on %s, in any copy, and no other signer of it runs", in.Mark.Height, in.Chain)
	case FromShared:
		return fmt.Sprintf("this key has signed nothing newer on %s, every signer of it shares this state, and none of their hosts reports a database that was restored or made again, which has to be adopted first, on the host that has seen most", in.Chain)
	case FromMemory:
		return fmt.Sprintf("this key has signed nothing newer on %s, no signer shares its state under another prefix, or in another cluster or table, and no other signer of it runs; every other host stops until it has adopted, too", in.Chain)
	case FromRestored:
		return fmt.Sprintf("this key has signed nothing newer on %s, and no other signer of it runs; every other host stops until it has adopted, too", in.Chain)
	}
	return fmt.Sprintf("this key has signed nothing newer on %s, and no other signer of it runs", in.Chain)
}

// ask asks the operator on the terminal to confirm.
func (g *Gate) ask(in Incoming) error {
	text := fmt.Sprintf("%s: %v: %s; if that is wrong, the validator signs twice and is slashed", in.Chain, errNoWord, in.claim())
	refusal := &Refusal{Err: errNoWord, Text: text, Cures: []string{"to confirm: " + g.again("--yes")}}
	if g.Terminal == nil {
		return refusal
	}
	fmt.Fprintf(g.Shown, "%s\ntype %s to confirm: ", text, in.Chain)
	answer, err := bufio.NewReader(io.LimitReader(g.Terminal, 200)).ReadString('\n')
	if said := strings.TrimSpace(answer); err == nil && (said == in.Chain || said == "yes") {
		return nil
	}
	return refusal
}

// atHeight ends a cure with the way to begin at a height, where there is one.
func (g *Gate) atHeight() string {
	if g.AtHeight == nil {
		return ""
	}
	return "; or begin at a height H well above everything that the chain has reached: `" + g.AtHeight() + "`"
}

// take begins a cure with the way to begin with another file, where there is one.
func (g *Gate) take(path string) string {
	if g.Take == nil {
		return "if that file belongs to this chain and key, what it says counts; "
	}
	return "if that file belongs to this chain and key, begin with it: `" + g.Take(path) + "`; "
}

func (g *Gate) again(word string) string {
	return "`" + g.Again(word) + "`"
}

func (g *Gate) text(m watermark.Mark) string {
	return g.Text(m)
}

// age writes a duration for people.
func age(d time.Duration) string {
	switch {
	case d < 0:
		return "which is in the future by the clock of this host"
	case d < 2*time.Minute:
		return cure.Count(int(d.Seconds()), "second") + " ago"
	case d < 2*time.Hour:
		return cure.Count(int(d.Minutes()), "minute") + " ago"
	case d < 48*time.Hour:
		return cure.Count(int(d.Hours()), "hour") + " ago"
	}
	return cure.Count(int(d.Hours()/24), "day") + " ago"
}

// Words are the words by which an operator stands up for a mark that is not a
// chain's own live one.
type Words struct {
	House             *provider.House
	yes, exportUnused bool
}

func (f *Words) Add(a *provider.House, cmd *cobra.Command) {
	f.House = a
	cmd.Flags().BoolVar(&f.yes, "yes", false, "confirm that the mark that is shown is right: the key has signed nothing newer, and no other signer has it")
}

// AddExport adds the word for an export of this host itself.
func (f *Words) AddExport(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.exportUnused, "export-unused", false, "confirm that no host has signed with the state since it was exported here, and that none can")
}

// Gate returns the one gate for marks, for a chain of any provider.
func (f *Words) Gate(cmd *cobra.Command, ch config.Chain, fresh bool) *Gate {
	g := &Gate{
		Yes: f.yes, Fresh: fresh, ExportUnused: f.exportUnused, Shown: cmd.ErrOrStderr(), Again: cli.Again,
		Text: func(m watermark.Mark) string { return MarkText(f.House.Providers.Shown(ch, m)) },
	}
	if t := terminalOf(cmd.InOrStdin()); t != nil {
		g.Terminal = t
	}
	return g
}

// terminalOf returns the terminal that in is, or nil.
func terminalOf(in io.Reader) *os.File {
	f, ok := in.(*os.File)
	if !ok {
		return nil
	}
	if _, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err != nil {
		return nil
	}
	return f
}

// Quarantine makes it durable that the state at path has a mark from elsewhere: a
// witness has to show first that no other signer lives. It comes before the mark is
// written; if we crash between the two, a start waits without need.
func Quarantine(path, why string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return witness.SetQuarantine(path, why)
}
