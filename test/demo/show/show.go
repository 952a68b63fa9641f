// Package show is what the demos have in common: a real chain, shown on standard output while
// it is signed. What signs, and what happens to it, belongs to each demo.
package show

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"privyseal/internal/pubkey"
	"privyseal/test/e2e/rig"
)

const (
	// StepTime bounds what comes before the blocks, and what comes after.
	StepTime = 2 * time.Minute
	grace    = 20 * time.Second // for privyseal to end
)

// Main reads the flags and runs a demo, until it is done or interrupted.
func Main(run func(context.Context) error) {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// Pause is the flag of how long the chain waits after each block.
func Pause() *time.Duration {
	return flag.Duration("pause", 300*time.Millisecond, "how long the chain waits after each block")
}

// Chain is what is shown: a lone validator.
type Chain struct {
	ID     string
	Addr   string // where the node listens for its signer
	Node   *rig.Node
	Signer *rig.Signer
	Key    pubkey.Key
}

// Run starts both, shows the story, and ends both.
func (c *Chain) Run(ctx context.Context, story func(context.Context) error) (err error) {
	if err := c.Signer.Start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Signer.Stop(grace)) }()
	if err := c.Node.Start(c.Addr); err != nil {
		return err
	}
	// The node goes first: it would wait for its signer for minutes.
	defer c.Node.Stop(5 * time.Second)
	fmt.Printf("\nchain %s: CometBFT %s at http://%s, over %s\n\n", c.ID, c.Node.Version, c.Node.RPC, c.Addr)
	if err := story(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w\n\nthe node's log ends with\n%s\n\nprivyseal's log ends with\n%s", err, c.Node.Tail(20), c.Signer.Tail(20))
	} else if err != nil {
		return errors.New("interrupted")
	}
	return nil
}

// Signatures prints the signatures above a height as they are made, until the block last is
// there; if last is 0, until it is interrupted.
func (c *Chain) Signatures(ctx context.Context, above, last int64) error {
	following, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-c.Node.Done():
			stop()
		case <-following.Done():
		}
	}()
	complete := false
	err := c.Signer.Follow(following, func(line []byte) {
		s, ok := rig.ParseSigned(line)
		if !ok || complete || s.Height <= above {
			return
		}
		fmt.Printf("height %-6d %-10s signed in %6.2f ms\n", s.Height, s.Kind, s.Took.Seconds()*1000)
		if last > 0 && s.Height >= last && s.Kind == "precommit" {
			complete = true
			stop()
		}
	})
	switch {
	case complete:
		ctx, cancel := context.WithTimeout(ctx, StepTime)
		defer cancel()
		return c.Node.WaitHeight(ctx, last)
	case ctx.Err() != nil && last == 0:
		fmt.Println()
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	select {
	case <-c.Node.Done():
		return fmt.Errorf("the node ended (%v)", c.Node.Err())
	default:
		return err
	}
}

// Commit checks the signature in the commit of a block, as the node's RPC gives it, against
// the key.
func (c *Chain) Commit(ctx context.Context, height int64) error {
	commit, err := c.Node.Commit(ctx, height)
	if err != nil {
		return err
	}
	address := fmt.Sprintf("%X", c.Key.Address())
	signBytes, signature, ok := commit.SignatureOf(address)
	if !ok || !c.Key.Verify(signBytes, signature) {
		return fmt.Errorf("the commit of block %d has no signature of %s", height, address)
	}
	fmt.Printf("\nthe commit of block %d carries the signature of %s\n", height, address)
	return nil
}

// Indented prints what privyseal has printed.
func Indented(text string) {
	fmt.Println("  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  "))
}

// Proofs prints what an attestation document proves, out of what `privyseal verify` says.
func Proofs(report string) {
	fmt.Println("its attestation document, verified by `privyseal verify` against the test root:")
	_, proofs, _ := strings.Cut(report, "it proves:")
	proofs, _, _ = strings.Cut(proofs, "it does not prove:")
	fmt.Println("  " + strings.TrimSpace(proofs))
}
