package state

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/home"
	"privyseal/internal/privval"
	"privyseal/internal/provider"
	"privyseal/internal/watermark"
)

func newShow(a *provider.House) *cobra.Command {
	var chain cli.ChainFlag
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show the last mark, and whether its file is in order",
		Long: `Show the last mark of a chain, and whether its file is in order. It only reads,
even while "privyseal start" runs. The exit status is 79 if start would refuse the
file.`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, ch, err := chain.Choose(a.App)
			if err != nil {
				return err
			}
			// A state can be looked at without its key, too.
			state, _, keyErr := home.StateOf(a, c, ch)
			if keyErr != nil {
				if state, err = a.Stores.State(c, ch, watermark.ID{}); err != nil {
					return err
				}
			}
			info, err := state.Inspect(cmd.Context())
			if err != nil {
				return a.Providers.ExplainState(c, ch, err)
			}
			info.Problem = a.Providers.ExplainState(c, ch, info.Problem)
			info.Saved.Mark = a.Providers.Shown(ch, info.Saved.Mark)
			if err := show(cmd.OutOrStdout(), state.Where, info, asJSON); err != nil {
				return err
			}
			if info.Problem != nil {
				return info.Problem
			}
			return keyErr
		},
	}
	chain.Add(a.App, cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// shown is what `state show --json` prints. Its keys never change.
type shown struct {
	ChainID    string     `json:"chain_id"`
	KeyID      []byte     `json:"key_id"` // base64 of watermark.ID.Key
	Height     int64      `json:"height"`
	Round      int32      `json:"round"`
	Step       string     `json:"step"`
	Block      string     `json:"block,omitempty"` // upper-case hex, nil, or absent if not known
	SignBytes  []byte     `json:"sign_bytes"`
	WrittenAt  *time.Time `json:"written_at,omitempty"`
	File       string     `json:"file"`
	Mode       string     `json:"mode"`
	Filesystem string     `json:"filesystem,omitempty"`
	Bound      bool       `json:"bound"`
	Exported   bool       `json:"exported"`
	Torn       bool       `json:"torn"`
	Shared     *seen      `json:"shared,omitempty"`
	Problem    string     `json:"problem,omitempty"`
}

// seen is what a host has seen of a state that several hosts share.
type seen struct {
	Height int64  `json:"height"`
	Round  int32  `json:"round"`
	Step   string `json:"step"`
	Own    bool   `json:"own"` // this host wrote what is there
}

func seenOf(s *provider.SharedInfo) *seen {
	if s == nil || s.Own == "" {
		return nil
	}
	return &seen{s.Known.Height, s.Known.Round, s.Known.Step.String(), s.Own == s.Writer}
}

func show(w io.Writer, path string, info provider.Info, asJSON bool) error {
	m := info.Saved.Mark
	s := shown{
		ChainID: info.ID.ChainID, KeyID: info.ID.Key[:],
		Height: m.Height, Round: m.Round, Step: m.Step.String(), Block: blockText(m), SignBytes: m.SignBytes,
		File: path, Mode: fmt.Sprintf("%#o", info.Mode.Perm()), Filesystem: info.Filesystem,
		Bound: info.Bound, Exported: info.Exported, Torn: info.Torn, Shared: seenOf(info.Shared),
	}
	if info.ID.ChainID != "" {
		s.WrittenAt = &info.Saved.Time
	}
	if info.Problem != nil {
		s.Problem = info.Problem.Error()
	}
	if asJSON {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(s)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if text := home.FileText(info, "on "); text != "" {
		fmt.Fprintf(t, "file\t%s\n\t%s\n", path, text)
	} else {
		fmt.Fprintf(t, "state\t%s\n", path)
	}
	if s.WrittenAt != nil {
		fmt.Fprintf(t, "chain\t%s\n", s.ChainID)
		fmt.Fprintf(t, "mark\t%s\n", home.MarkText(m))
		if s.Block != "" {
			fmt.Fprintf(t, "block\t%s\n", s.Block)
		}
		fmt.Fprintf(t, "written\t%s\n", s.WrittenAt.Format(time.RFC3339))
	}
	if s.Shared != nil {
		fmt.Fprintf(t, "this host\thas seen it at %s\n", home.MarkText(info.Shared.Known))
	}
	switch {
	case info.Problem != nil:
		fmt.Fprintf(t, "condition\trefused\n")
	case s.Torn:
		fmt.Fprintf(t, "condition\tin order; one copy of a record has a bad checksum, the other one is used\n")
	default:
		fmt.Fprintf(t, "condition\tin order\n")
	}
	return t.Flush()
}

// blockText returns which block a mark is for: its hash, nil, or "" if that is
// not recorded.
func blockText(m watermark.Mark) string {
	if len(m.SignBytes) == 0 {
		return ""
	}
	req, err := privval.ParseSignBytes(m.SignBytes)
	switch {
	case err != nil:
		return ""
	case req.BlockID.IsNil():
		return "nil"
	}
	return fmt.Sprintf("%X", req.BlockID.Hash)
}
