package status

import (
	"fmt"
	"strings"
	"time"

	"privyseal/internal/cli"
	"privyseal/internal/command/screen"
	"privyseal/internal/cure"
	"privyseal/internal/monitor"
	"privyseal/internal/session"
	"privyseal/internal/witness"
)

// page returns what a person reads.
func page(s screen.Screen, snapshot monitor.Snapshot, now time.Time) string {
	var b strings.Builder
	ready := s.Paint(screen.Fine, "ready")
	if !snapshot.Ready {
		ready = s.Paint(screen.Alarm, "not ready")
	}
	fmt.Fprintf(&b, "privyseal %s, process %d, up %s, %s\n", snapshot.Version, snapshot.PID, Age(snapshot.Started, now), ready)
	for _, l := range snapshot.Listeners {
		if l.Problem != "" {
			s.Put(&b, "", 2, s.Wrap(2, fmt.Sprintf("not serving on %s: %s", l.Addr, l.Problem)))
		}
	}
	for _, c := range snapshot.Chains {
		title := c.Name
		if c.Name != c.ID {
			title += ", chain " + c.ID
		}
		fmt.Fprintf(&b, "\n%s\n", s.Paint(screen.Strong, screen.Printable(title)))
		putRows(s, &b, rowsOf(c, now))
	}
	for _, c := range snapshot.Clusters {
		fmt.Fprintf(&b, "\n%s\n", s.Paint(screen.Strong, screen.Printable(c.Store+" "+c.Name)))
		putRows(s, &b, append(clusterRows(c, now), findingRows(c, snapshot.Findings)...))
	}
	return b.String()
}

// rowsOf returns what there is to say of a chain.
func rowsOf(c monitor.ChainSnapshot, now time.Time) (rows []pageRow) {
	if problem, next := Problem(c); problem != "" {
		rows = append(rows, pageRow{label: "cannot sign", text: problem, tone: screen.Alarm})
		for line := range strings.Lines(next) {
			rows = append(rows, pageRow{text: "-> " + strings.TrimSuffix(line, "\n")})
		}
	}
	if c.Ready {
		rows = append(rows, pageRow{label: "key", text: keyText(c)}, pageRow{label: "mark", text: markText(c, now)})
	}
	if r := c.LastRefusal; r != nil {
		rows = append(rows, pageRow{label: "last refusal", text: fmt.Sprintf("%s ago, node %s, %s: %s", Age(r.Time, now), r.Node, r.Reason, r.Text)})
	}
	rows = append(rows, deviceRows(c.Devices, now)...)
	rows = append(rows, witnessRows(c.Witness, now)...)
	tones := map[string]screen.Tone{session.Serving.String(): screen.Fine, session.Dialling.String(): screen.Alarm}
	for _, n := range c.Nodes {
		rows = append(rows, pageRow{
			label: "node " + n.Name, word: n.State, tone: tones[n.State],
			text: fmt.Sprintf("for %s, %s%s", Age(n.Since, now), n.Addr, cli.Prefixed("; ", NodeError(n))),
		})
	}
	return rows
}

// deviceRows returns what there is to say of the devices that sign for a chain.
func deviceRows(devices []monitor.Device, now time.Time) (rows []pageRow) {
	for _, d := range devices {
		row := pageRow{label: "device", word: "up", tone: screen.Fine}
		if d.Failed != "" {
			row.word, row.tone = "failed", screen.Alarm
		}
		row.text = fmt.Sprintf("for %s, %s%s", Age(d.Since, now), d.Address, cli.Prefixed(", ", d.Name))
		if d.Signatures > 0 {
			row.text += fmt.Sprintf(", %s, the last one in %v", cure.Count(int(d.Signatures), "signature"), seconds(d.LastTook))
		}
		row.text += cli.Prefixed("; ", strings.ReplaceAll(d.Failed, "\n", "; "))
		if d.Undrained != "" {
			row.text += fmt.Sprintf("; its log, with %d of %d entries, is not drained: %s", d.LogUsed, d.LogSize, strings.ReplaceAll(d.Undrained, "\n", "; "))
			row.tone = screen.Alarm
		}
		if d.Foreign > 0 {
			row.text += fmt.Sprintf("; its log has %s that nobody of ours asked for", cure.Count(d.Foreign, "signature"))
			row.tone = screen.Alarm
		}
		rows = append(rows, row)
	}
	return rows
}

// witnessRows returns what there is to say of a chain's witnesses.
func witnessRows(s *witness.Snapshot, now time.Time) (rows []pageRow) {
	if s == nil {
		return []pageRow{{label: "witness", word: "none,", text: "so nobody would see a second signer", tone: screen.Doubt}}
	}
	var parts []string
	if s.Tip > 0 {
		parts = append(parts, fmt.Sprintf("tip %d, %s ago", s.Tip, Age(s.TipTime, now)))
	}
	if s.Lies > 0 {
		parts = append(parts, cure.Count(s.Lies, "untrue claim"))
	}
	text := strings.Join(parts, ", ")
	if s.Detail != "" {
		text = strings.TrimPrefix(text+"; "+s.Detail, "; ")
	}
	tones := map[string]screen.Tone{"open": screen.Fine, witness.Stopped: screen.Alarm}
	t, known := tones[s.State]
	if !known || s.State == "open" && s.Detail != "" {
		t = screen.Doubt
	}
	rows = append(rows, pageRow{label: "witness", word: s.State, text: text, tone: t})
	for _, src := range s.Sources {
		if src.Problem != "" {
			rows = append(rows, pageRow{label: "witness", text: src.Problem, tone: screen.Doubt})
		}
	}
	return rows
}

// NodeError returns what ended the last connection or attempt, without the address.
func NodeError(n monitor.NodeSnapshot) string {
	return strings.TrimPrefix(n.LastError, "cannot dial "+n.Addr+": ")
}

// Problem returns why a chain cannot sign, and what to do about it; "" where it
// can, or where nothing is known to do.
func Problem(c monitor.ChainSnapshot) (problem, next string) {
	switch {
	case c.Problem != "":
		problem, next = cure.Split(c.Problem)
	case c.PubKey == "": // an enclave that is starting has not reported it yet
		problem = "the enclave is starting"
	}
	return problem, next
}

// keyText names the key by what fits on a line: some public keys have kilobytes.
func keyText(c monitor.ChainSnapshot) string {
	text := fmt.Sprintf("%s, address %s", c.KeyType, c.Address)
	if len(c.PubKey) <= 100 {
		text = c.PubKey + ", " + text
	}
	return text
}

func markText(c monitor.ChainSnapshot, now time.Time) string {
	if c.Step == "none" {
		return "nothing signed yet"
	}
	text := fmt.Sprintf("height %d, round %d, %s, %s ago", c.Height, c.Round, c.Step, Age(c.MarkTime, now))
	return text + cli.Prefixed(", first asked by node ", c.Signed.Node)
}
