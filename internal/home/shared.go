package home

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/provider"
	"privyseal/internal/watermark"
)

// AdmitShared takes a state that signers of other hosts have through the gate, for a host
// that is to share it. One that this host shares already is let in as it is.
func AdmitShared(cmd *cobra.Command, words *Words, ch config.Chain, state provider.Kept) (watermark.Saved, error) {
	if _, joins := state.State.(provider.Joiner); !joins {
		return watermark.Saved{}, cli.Actf("the state of chain %q is in a store that hosts do not share: %s", ch.Name, state.Where)
	}
	info, err := InspectShared(cmd.Context(), state)
	switch {
	case err != nil:
		return watermark.Saved{}, err
	case info.Problem == nil:
		return info.Saved, nil
	case !errors.Is(info.Problem, provider.ErrUnjoined):
		return watermark.Saved{}, info.Problem
	}
	in := Incoming{Chain: ch.Name, Mark: info.Newest.Mark, Origin: FromShared, Written: info.Newest.Time, From: state.Where}
	if info.Saved.Mark.Less(info.Newest.Mark) {
		in.From += ", raised to what this host has signed with another state"
	}
	return info.Newest, words.Gate(cmd, ch, false).Admit(in, Here{})
}

// InspectShared looks at what is there, and not only at what this host has seen of it.
func InspectShared(ctx context.Context, state provider.Kept) (provider.Info, error) {
	if asker, ok := state.State.(provider.Asker); ok {
		return asker.Ask(ctx)
	}
	return state.Inspect(ctx)
}

// Prepare has a database accept a state before it begins there, or is joined. pin is the line
// by which the config says which database that is, "" if it has it, or there is none.
func Prepare(ctx context.Context, state provider.Kept) (pin string, err error) {
	if state.Prepare == nil {
		return "", nil
	}
	return state.Prepare(ctx)
}

// PinNote is what an operator reads of a pin: whether it is in the table of the chain's store
// already, as in one that comes with the chain.
func PinNote(table string, ch config.Chain, pin string, written bool) string {
	at := "[" + table + "." + ch.StoreTable + "]"
	if written {
		return "note: " + at + " in the config has " + pin + ": another one of the same name is refused; each other host needs the same line"
	}
	return "note: add " + pin + " to " + at + " in the config: then another one of the same name is refused"
}

// JoinState has this host share a state that came through the gate. It is the live one, so
// that no witness has to say whether it may be used.
func JoinState(ctx context.Context, state provider.Kept) error {
	return state.State.(provider.Joiner).Join(ctx)
}
