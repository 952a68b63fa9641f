package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/monitor"
	"privyseal/internal/provider"
	"privyseal/internal/session"
)

// statusCommand is `privyseal status` with its flags.
type statusCommand struct {
	app                  *provider.House
	home                 string
	json, watch, isReady bool
}

func newStatusCommand(a *provider.House) *cobra.Command {
	s := &statusCommand{app: a}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Ask the running signer what it signed last, and for whom",
		Long: `Ask the signer that runs in the home folder: the mark of each chain and its age,
the last refusal, and for each node whether it is being dialled, parked (connected,
served by another signer) or served. The exit status is 1 if no signer runs.

--watch shows it each second until SIGINT, even across restarts of the signer; with
--json that is one line each. --ready prints nothing if all is well: the exit status
is 0 if every chain can sign and every node is connected, as for /readyz, and
otherwise 1, with the reasons on standard error.`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if s.isReady && (s.watch || s.json) {
				return cli.Usagef("--ready prints nothing, so it goes without --watch and --json")
			}
			if s.home, err = a.Home(); err != nil {
				return err
			}
			return s.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&s.json, "json", false, "print JSON")
	cmd.Flags().BoolVar(&s.watch, "watch", false, "print it again each second")
	cmd.Flags().BoolVar(&s.isReady, "ready", false, "only report by the exit status whether the signer is ready")
	return cmd
}

func (s *statusCommand) run(ctx context.Context, w io.Writer) error {
	if s.watch {
		return s.watchIt(ctx, w)
	}
	snapshot, err := s.read(ctx)
	switch {
	case err != nil:
		return err
	case s.isReady:
		return readiness(snapshot)
	case s.json:
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(snapshot)
	}
	_, err = io.WriteString(w, statusPage(screenOf(w), snapshot, time.Now()))
	return err
}

// read asks the signer. An error has its cure on a line of its own.
func (s *statusCommand) read(ctx context.Context) (monitor.Snapshot, error) {
	snapshot, err := monitor.ReadSnapshot(ctx, s.home)
	for i := range snapshot.Chains {
		snapshot.Chains[i].Problem = s.app.InHome(snapshot.Chains[i].Problem)
	}
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		err = s.notRunning(fmt.Errorf("%w in %s", monitor.ErrNotRunning, s.home))
	case errors.Is(err, monitor.ErrNotRunning):
		err = s.notRunning(err)
	case errors.Is(err, fs.ErrPermission):
		err = cure.Add(err, "run it as the user that the signer runs as")
	}
	return snapshot, err
}

// notRunning adds what to do where no signer runs: without a config none can.
func (s *statusCommand) notRunning(err error) error {
	const make = "if it is the right one, %s makes it; else name the signer's with --home or $PRIVYSEAL_HOME"
	first := s.app.Command("init --chain-id ID --node ADDR")
	info, statErr := os.Stat(s.home)
	switch {
	case errors.Is(statErr, fs.ErrNotExist):
		return cure.Add(fmt.Errorf("%w: there is no such folder", err), make, first)
	case statErr == nil && !info.IsDir():
		return cure.Add(fmt.Errorf("%w: it is not a folder", err), "name the signer's folder with --home or $PRIVYSEAL_HOME")
	}
	if _, statErr := os.Lstat(filepath.Join(s.home, config.FileName)); errors.Is(statErr, fs.ErrNotExist) {
		return cure.Add(fmt.Errorf("%w: there is no %s in it", err, config.FileName), make, first)
	}
	return cure.Add(err, "start one with %s", s.app.Command("start"))
}

// readiness returns what keeps a signer from being ready, a line each.
func readiness(s monitor.Snapshot) error {
	if s.Ready {
		return nil
	}
	lines := []string{"the signer is not ready"}
	for _, c := range s.Chains {
		if problem, next := statusProblem(c); problem != "" {
			lines = append(lines, c.Name+" cannot sign: "+problem)
			if next != "" {
				lines = append(lines, next)
			}
		}
		for _, n := range c.Nodes {
			if n.State == session.Dialling.String() {
				lines = append(lines, fmt.Sprintf("%s: node %s is %s, %s%s", c.Name, n.Name, n.State, n.Addr, cli.Prefixed("; ", nodeError(n))))
			}
		}
	}
	return errors.New(strings.Join(lines, "\n"))
}

// statusRow is what there is to say about one thing: a label, and a text that begins
// with a word. The tone is that of the word, or of the label where there is none.
type statusRow struct {
	label, word, text string
	tone              tone
}

// statusPage returns what a person reads.
func statusPage(s screen, snapshot monitor.Snapshot, now time.Time) string {
	var b strings.Builder
	ready := s.paint(fine, "ready")
	if !snapshot.Ready {
		ready = s.paint(alarm, "not ready")
	}
	fmt.Fprintf(&b, "privyseal %s, process %d, up %s, %s\n", snapshot.Version, snapshot.PID, age(snapshot.Started, now), ready)
	for _, l := range snapshot.Listeners {
		if l.Problem != "" {
			s.put(&b, "", 2, s.wrap(2, fmt.Sprintf("nobody is served on %s: %s", l.Addr, l.Problem)))
		}
	}
	for _, c := range snapshot.Chains {
		title := c.Name
		if c.Name != c.ID {
			title += ", chain " + c.ID
		}
		fmt.Fprintf(&b, "\n%s\n", s.paint(strong, printable(title)))
		s.putRows(&b, statusRows(c, now))
	}
	return b.String()
}

// putRows writes rows with their texts below each other.
func (s screen) putRows(b *strings.Builder, rows []statusRow) {
	width := 0
	for _, r := range rows {
		width = max(width, len(r.label))
	}
	for _, r := range rows {
		label, painted := fmt.Sprintf("  %-*s  ", width, r.label), s.paint(r.tone, r.word)
		if r.word == "" {
			label = "  " + s.paint(r.tone, r.label) + strings.TrimPrefix(label, "  "+r.label)
		}
		lines := s.wrap(width+4, strings.TrimSpace(r.word+" "+r.text))
		lines[0] = painted + strings.TrimPrefix(lines[0], r.word)
		s.put(b, label, width+4, lines)
	}
}

// statusRows returns what there is to say of a chain.
func statusRows(c monitor.ChainSnapshot, now time.Time) (rows []statusRow) {
	if problem, next := statusProblem(c); problem != "" {
		rows = append(rows, statusRow{label: "cannot sign", text: problem, tone: alarm})
		for line := range strings.Lines(next) {
			rows = append(rows, statusRow{text: "-> " + strings.TrimSuffix(line, "\n")})
		}
	} else {
		rows = append(rows, statusRow{label: "key", text: statusKey(c)}, statusRow{label: "mark", text: statusMark(c, now)})
	}
	if r := c.LastRefusal; r != nil {
		rows = append(rows, statusRow{label: "last refusal", text: fmt.Sprintf("%s ago, node %s, %s: %s", age(r.Time, now), r.Node, r.Reason, r.Text)})
	}
	rows = append(rows, witnessRows(c.Witness, now)...)
	tones := map[string]tone{session.Serving.String(): fine, session.Dialling.String(): alarm}
	for _, n := range c.Nodes {
		rows = append(rows, statusRow{
			label: "node " + n.Name, word: n.State, tone: tones[n.State],
			text: fmt.Sprintf("for %s, %s%s", age(n.Since, now), n.Addr, cli.Prefixed("; ", nodeError(n))),
		})
	}
	return rows
}

// nodeError returns what ended the last connection or attempt, without the address.
func nodeError(n monitor.NodeSnapshot) string {
	return strings.TrimPrefix(n.LastError, "cannot dial "+n.Addr+": ")
}

// statusProblem returns why a chain cannot sign, and what to do about it; "" where it
// can, or where nothing is known to do.
func statusProblem(c monitor.ChainSnapshot) (problem, next string) {
	switch {
	case c.Problem != "":
		problem, next = cure.Split(c.Problem)
	case c.PubKey == "": // an enclave that is starting has not told it yet
		problem = "the enclave is starting"
	}
	return problem, next
}

// statusKey names the key by what fits on a line: some public keys have kilobytes.
func statusKey(c monitor.ChainSnapshot) string {
	text := fmt.Sprintf("%s, address %s", c.KeyType, c.Address)
	if len(c.PubKey) <= 100 {
		text = c.PubKey + ", " + text
	}
	return text
}

func statusMark(c monitor.ChainSnapshot, now time.Time) string {
	if c.Step == "none" {
		return "nothing signed yet"
	}
	text := fmt.Sprintf("height %d, round %d, %s, %s ago", c.Height, c.Round, c.Step, age(c.MarkTime, now))
	return text + cli.Prefixed(", first asked by node ", c.Signed.Node)
}

// age returns how long ago then was, as coarse as a person would say it.
func age(then, now time.Time) string {
	d := now.Sub(then)
	switch {
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
