package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"privyseal/internal/monitor"
)

func newStatusCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Ask the running signer what it signed last, and for whom",
		Long: `Ask the signer that runs in the home folder: the mark of each chain and its age,
the last refusal, and for each node whether it is being dialled, parked (connected,
served by another signer) or served. The exit status is 1 if no signer runs.`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			home, err := a.home()
			if err != nil {
				return err
			}
			s, err := monitor.ReadSnapshot(cmd.Context(), home)
			switch {
			case errors.Is(err, monitor.ErrNotRunning):
				return fmt.Errorf("%w; start one with %s", err, a.command("start"))
			case errors.Is(err, fs.ErrPermission):
				return fmt.Errorf("%w; run it as the user that the signer runs as", err)
			case err != nil:
				return err
			}
			if asJSON {
				encoder := json.NewEncoder(cmd.OutOrStdout())
				encoder.SetIndent("", "  ")
				return encoder.Encode(s)
			}
			return printStatus(cmd.OutOrStdout(), s, time.Now())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printStatus(w io.Writer, s monitor.Snapshot, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	ready := "ready"
	if !s.Ready {
		ready = "not ready"
	}
	fmt.Fprintf(t, "privyseal %s, process %d, up %s, %s\n", s.Version, s.PID, age(s.Started, now), ready)
	for _, l := range s.Listeners {
		if l.Problem != "" {
			fmt.Fprintf(t, "nobody is served on %s: %s\n", l.Addr, l.Problem)
		}
	}
	for _, c := range s.Chains {
		fmt.Fprintf(t, "\n%s\n", c.Name)
		switch {
		case c.Problem != "":
			fmt.Fprintf(t, "  cannot sign\t%s\n", c.Problem)
		case c.PubKey == "": // an enclave that is starting has not told it yet
			fmt.Fprintf(t, "  cannot sign\tthe enclave is starting\n")
		default:
			fmt.Fprintf(t, "  key\t%s\n", c.PubKey)
			fmt.Fprintf(t, "  mark\t%s\n", statusMark(c, now))
		}
		if r := c.LastRefusal; r != nil {
			fmt.Fprintf(t, "  last refusal\t%s ago, node %s, %s: %s\n", age(r.Time, now), r.Node, r.Reason, r.Text)
		}
		for _, n := range c.Nodes {
			fmt.Fprintf(t, "  node %s\t%s for %s, %s%s\n", n.Name, n.State, age(n.Since, now), n.Addr, prefixed("; ", n.LastError))
		}
	}
	return t.Flush()
}

func statusMark(c monitor.ChainSnapshot, now time.Time) string {
	if c.Step == "none" {
		return "nothing signed yet"
	}
	text := fmt.Sprintf("height %d, round %d, %s, %s ago", c.Height, c.Round, c.Step, age(c.MarkTime, now))
	return text + prefixed(", first asked by node ", c.Signed.Node)
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
