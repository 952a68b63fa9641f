package home

import (
	"fmt"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/migrate"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/watermark"
)

// MarkText is a mark for people.
func MarkText(m watermark.Mark) string {
	switch {
	case m.IsZero():
		return "nothing signed yet"
	case m.Equal(watermark.Floor(m.Height)):
		return fmt.Sprintf("height %d, nothing at or below it is signed", m.Height)
	}
	return fmt.Sprintf("height %d, round %d, %s", m.Height, m.Round, m.Step)
}

// ReadState reads a state from elsewhere, which has to be that of the chain and
// the key, as far as its format says so.
func ReadState(path, chainID string, key pubkey.Key) (Foreign, error) {
	fail := func(err error) (Foreign, error) {
		return Foreign{}, cli.Actf("cannot import the state %s: %w; nothing was changed", path, err)
	}
	data, written, err := readStateFile(path)
	if err != nil {
		return Foreign{}, fmt.Errorf("cannot import the state: %w", err)
	}
	if !looksExported(data) {
		mark, err := migrate.ParseState(data, chainID, key)
		if err != nil {
			return fail(err)
		}
		return Foreign{Saved: watermark.Saved{Mark: mark, Time: written}, From: "the state of another signer"}, nil
	}
	id, owner, state, err := decodeInterchange(data)
	switch {
	case err != nil:
		return fail(err)
	case id != chainID:
		return fail(fmt.Errorf("it is for chain %q, not %q", id, chainID))
	case !owner.Equal(key):
		return fail(fmt.Errorf("it is for another key, %v, not %v", owner, key))
	}
	return state, nil
}

// StateOf returns the state of a chain and whose it is.
func StateOf(a *provider.House, c *config.Config, ch config.Chain) (provider.Kept, pubkey.Key, error) {
	key, err := a.Providers.Public(c, ch)
	if err != nil {
		return provider.Kept{}, key, err
	}
	state, err := a.Stores.State(c, ch, watermark.ID{ChainID: ch.ID, Key: key.ID()})
	return state, key, err
}

// FileText is what a file system says of a state that it has.
func FileText(info provider.Info, on string) string {
	if info.Mode == 0 {
		return ""
	}
	return fmt.Sprintf("mode %#o%s", info.Mode.Perm(), cli.Prefixed(", "+on, info.Filesystem))
}
