package command

import (
	"fmt"
	"strings"
	"time"

	"privyseal/internal/cli"
	"privyseal/internal/cure"
	"privyseal/internal/monitor"
	"privyseal/internal/session"
	"privyseal/internal/witness"
)

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
			s.put(&b, "", 2, s.wrap(2, fmt.Sprintf("not serving on %s: %s", l.Addr, l.Problem)))
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
	rows = append(rows, deviceRows(c.Devices, now)...)
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

// deviceRows returns what there is to say of the devices that sign for a chain.
func deviceRows(devices []monitor.Device, now time.Time) (rows []statusRow) {
	for _, d := range devices {
		row := statusRow{label: "device", word: "up", tone: fine}
		if d.Failed != "" {
			row.word, row.tone = "failed", alarm
		}
		row.text = fmt.Sprintf("for %s, %s%s", age(d.Since, now), d.Address, cli.Prefixed(", ", d.Name))
		if d.Signatures > 0 {
			row.text += fmt.Sprintf(", %s, the last one in %v", cure.Count(int(d.Signatures), "signature"), seconds(d.LastTook))
		}
		row.text += cli.Prefixed("; ", strings.ReplaceAll(d.Failed, "\n", "; "))
		if d.Undrained != "" {
			row.text += fmt.Sprintf("; its log, with %d of %d entries, is not drained: %s", d.LogUsed, d.LogSize, strings.ReplaceAll(d.Undrained, "\n", "; "))
			row.tone = alarm
		}
		if d.Foreign > 0 {
			row.text += fmt.Sprintf("; its log has %s that nobody of ours asked for", cure.Count(d.Foreign, "signature"))
			row.tone = alarm
		}
		rows = append(rows, row)
	}
	return rows
}

// seconds is a time as a person would say it.
func seconds(n float64) time.Duration {
	return time.Duration(n * float64(time.Second)).Round(100 * time.Microsecond)
}

// witnessRows returns what there is to say of a chain's witnesses.
func witnessRows(s *witness.Snapshot, now time.Time) (rows []statusRow) {
	if s == nil {
		return []statusRow{{label: "witness", word: "none,", text: "so nobody would see a second signer", tone: doubt}}
	}
	var parts []string
	if s.Tip > 0 {
		parts = append(parts, fmt.Sprintf("tip %d, %s ago", s.Tip, age(s.TipTime, now)))
	}
	if s.Lies > 0 {
		parts = append(parts, cure.Count(s.Lies, "untrue claim"))
	}
	text := strings.Join(parts, ", ")
	if s.Detail != "" {
		text = strings.TrimPrefix(text+"; "+s.Detail, "; ")
	}
	tones := map[string]tone{"open": fine, witness.Stopped: alarm}
	t, known := tones[s.State]
	if !known || s.State == "open" && s.Detail != "" {
		t = doubt
	}
	rows = append(rows, statusRow{label: "witness", word: s.State, text: text, tone: t})
	for _, src := range s.Sources {
		if src.Problem != "" {
			rows = append(rows, statusRow{label: "witness", text: src.Problem, tone: doubt})
		}
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
	case c.PubKey == "": // an enclave that is starting has not reported it yet
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
