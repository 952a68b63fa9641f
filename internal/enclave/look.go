package enclave

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"privyseal/internal/claims"
	"privyseal/internal/hostlink"
	"privyseal/internal/sharedmark"
	"privyseal/internal/watermark"
)

// lookTime bounds a look at a mark in a database.
const lookTime = time.Second

// look returns the mark of a chain as the database has it, for a witness of the host. What this signer
// has itself needs no question. It is read on a way of its own: no signature waits for it,
// and nothing in here changes by it, whatever comes back.
func (e *enclave) look(ctx context.Context, req *hostlink.Look) (*hostlink.Looked, error) {
	if err := e.needsDatabase(); err != nil {
		return nil, err
	}
	c := e.chains[req.ChainID]
	if c == nil || c.signer == nil {
		return nil, errors.New("this enclave does not sign for the chain")
	}
	last := c.signer.Last()
	if last.Mark.Less(watermark.Mark{Height: req.Height, Round: req.Round, Step: watermark.Step(req.Step)}) {
		now, err := e.peek(ctx, c)
		if err != nil {
			return nil, err
		}
		if now.Mark.Less(last.Mark) || now.Version < last.Version {
			return nil, fmt.Errorf("%w: it is at %v, and this signer has seen it at %v", sharedmark.ErrRestored, now.Mark, last.Mark)
		}
		last = now
	}
	m := last.Mark
	return &hostlink.Looked{Height: m.Height, Round: m.Round, Step: uint8(m.Step), SignBytes: m.SignBytes}, nil
}

// peek reads the mark that a chain signs with. Without a floor it looks like one that nobody
// here has joined.
func (e *enclave) peek(ctx context.Context, c *chain) (watermark.Saved, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	config, err := e.shared(c.id, c.key, e.database, nil)
	if err != nil {
		return watermark.Saved{}, err
	}
	defer config.Engine.Close()
	info, err := sharedmark.Peek(ctx, config, watermark.Mark{})
	if err == nil && !errors.Is(info.Problem, sharedmark.ErrUnjoined) {
		err = info.Problem // one that was exported, too
	}
	if err != nil {
		return watermark.Saved{}, err
	}
	lineage, err := hex.DecodeString(info.Lineage)
	if err != nil || len(lineage) != 16 || claims.StoreTag([16]byte(lineage)) != c.store {
		return watermark.Saved{}, fmt.Errorf("%w: it was adopted on another host after a restore, or made again", sharedmark.ErrRestored)
	}
	return info.Saved, nil
}
