package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	cmted25519 "github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/privval"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"

	"privyseal/internal/filestore"
	ours "privyseal/internal/privval"
	"privyseal/internal/watermark"
)

const (
	// Batches are short against the time in which a machine's mood changes, so
	// it hits what is compared alike; and long against the one signature that
	// finds the caches cold.
	batchSize = 25
	batches   = 200
)

// latency compares single signatures.
func (b *bench) latency(ctx context.Context) ([]row, error) {
	h, err := b.newHome(ctx, "latency", "latency")
	if err != nil {
		return nil, err
	}
	n, err := b.newNode("latency")
	if err != nil {
		return nil, err
	}
	defer n.close()
	p, err := h.start(ctx)
	if err != nil {
		return nil, err
	}
	defer p.kill()
	if err := n.accept(); err != nil {
		return nil, p.failed(err)
	}
	if err := n.greet(); err != nil {
		return nil, err
	}
	rows, err := b.compare(ctx, n)
	if err != nil {
		return nil, err
	}
	return rows, p.stop()
}

// compare times the candidates by turns.
func (b *bench) compare(ctx context.Context, n *node) ([]row, error) {
	raw, err := newRawFile(filepath.Join(b.path("latency"), "state", "latency.mark"))
	if err != nil {
		return nil, err
	}
	defer raw.f.Close()
	replace, err := b.newStore()
	if err != nil {
		return nil, err
	}
	rawStore, err := newRawFile(b.path("store.state"))
	if err != nil {
		return nil, err
	}
	defer rawStore.f.Close()
	filePV, err := b.newFilePV()
	if err != nil {
		return nil, err
	}
	floor := newFloor(raw, n)

	var write, writeStore, store, one, two, votes, file samples
	var sign, verify, ping samples
	candidates := []func() error{
		func() error { return write.timed(raw.write) },
		func() error { return writeStore.timed(rawStore.write) },
		func() error { return store.timed(replace) },
		func() error { return one.timed(func() error { return floor.least(1) }) },
		func() error { return two.timed(func() error { return floor.least(2) }) },
		func() error { return n.timedVote(&votes) },
		func() error { return n.timedVote(&votes) },
		func() error { return filePV(&file) },
		func() error {
			return errors.Join(sign.timed(floor.sign), verify.timed(floor.verify), ping.timed(n.ping))
		},
	}
	// In another order each time: FilePV's files keep the disk busy for a while
	// after it has returned.
	order := rand.New(rand.NewPCG(1, 2))
	for range batches {
		for _, i := range order.Perm(len(candidates)) {
			for range batchSize {
				if err := candidates[i](); err != nil {
					return nil, err
				}
			}
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	prevotes, precommits := votes.halves()
	fmt.Printf("one by one, p50: write %s, sign %s, verify %s, ping %s\n",
		micros(write.p(50)), micros(sign.p(50)), micros(verify.p(50)), micros(ping.p(50)))
	return []row{
		atMost(1.2, "store: a mark made durable, p50", store, 50, "pwrite + fdatasync", writeStore),
		atMost(1.5, "request to reply: prevote, p50", prevotes, 50, "write, sign, verify, ping", one),
		atMost(1.5, "request to reply: precommit and extension, p50", precommits, 50, "write, 2 × (sign, verify), ping", two),
		atMost(0.5, "request to reply: both, p50", votes, 50, "FilePV in process", file),
		atMost(0.5, "request to reply: both, p99", votes, 99, "FilePV in process", file),
	}, nil
}

// newStore returns a function that raises the mark in a state file.
func (b *bench) newStore() (func() error, error) {
	ctx := context.Background()
	c := filestore.Config{Path: b.path("store.state"), ID: watermark.ID{ChainID: "bench"}}
	if err := filestore.Create(c, watermark.Saved{}); err != nil {
		return nil, err
	}
	// Open until the process ends.
	s, err := filestore.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	saved, err := s.Load(ctx)
	if err != nil {
		return nil, err
	}
	m := watermark.Mark{Step: watermark.StepPrecommit, SignBytes: make([]byte, 110)}
	return func() (err error) {
		m.Height++
		saved, err = s.Replace(ctx, saved, m)
		return err
	}, nil
}

// floor is what no signer can leave out.
type floor struct {
	raw     *rawFile
	n       *node
	key     ed25519.PrivateKey
	message []byte
	sig     []byte
}

func newFloor(raw *rawFile, n *node) *floor {
	vote := &node{chain: n.chain, height: 1, kind: ours.KindPrevote}
	req := vote.next()
	return &floor{raw: raw, n: n, key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), message: req.SignBytes()}
}

func (f *floor) sign() error {
	f.sig = ed25519.Sign(f.key, f.message)
	return nil
}

func (f *floor) verify() error {
	if !ed25519.Verify(f.key.Public().(ed25519.PublicKey), f.message, f.sig) {
		return errors.New("a good signature does not verify")
	}
	return nil
}

// least does one durable write, makes and verifies so many signatures, and has
// an empty message answered.
func (f *floor) least(signatures int) error {
	if err := f.raw.write(); err != nil {
		return err
	}
	for range signatures {
		if err := errors.Join(f.sign(), f.verify()); err != nil {
			return err
		}
	}
	return f.n.ping()
}

// newFilePV returns a function that signs the next vote with CometBFT's own
// signer and adds how long it took.
func (b *bench) newFilePV() (func(*samples) error, error) {
	dir := b.path("filepv")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	pv := privval.NewFilePV(cmted25519.GenPrivKey(), dir+"/key.json", dir+"/state.json")
	pv.Save()
	script := &node{chain: "bench", height: 1, kind: ours.KindPrevote}
	return func(took *samples) error {
		vote := voteOf(script.next())
		return took.timed(func() error { return pv.SignVote("bench", vote) })
	}, nil
}

// voteOf returns the vote of a request as a node holds it.
func voteOf(req ours.Request) *cmtproto.Vote {
	v := &cmtproto.Vote{
		Type: cmtproto.PrevoteType, Height: req.Height, Round: req.Round, Timestamp: req.Timestamp.Time(),
		BlockID: cmtproto.BlockID{
			Hash:          req.BlockID.Hash,
			PartSetHeader: cmtproto.PartSetHeader{Total: req.BlockID.PartsTotal, Hash: req.BlockID.PartsHash},
		},
		ValidatorAddress: req.ValidatorAddress,
	}
	if req.Kind == ours.KindPrecommit {
		v.Type = cmtproto.PrecommitType
	}
	return v
}
