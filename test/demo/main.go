// Command demo shows a real CometBFT chain making blocks that privyseal signs.
// It is what `make demo` runs; it removes all that it made when it ends.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"privyseal/internal/pubkey"
	"privyseal/test/e2e/rig"
)

const (
	version = "v0.38.26"
	chainID = "demo-chain"
	// stepTime bounds what comes before the blocks, and what comes after.
	stepTime = time.Minute
)

func main() {
	var d demo
	flag.StringVar(&d.program, "privyseal", "bin/privyseal", "the privyseal to show")
	flag.Int64Var(&d.blocks, "blocks", 0, "how many blocks to show; 0 goes on until interrupted")
	flag.DurationVar(&d.pause, "pause", 300*time.Millisecond, "how long the chain waits after each block")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := d.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// demo is one run of the demo.
type demo struct {
	program string
	blocks  int64
	pause   time.Duration

	node   *rig.Node
	signer *rig.Signer
	key    pubkey.Key
}

func (d *demo) run(ctx context.Context) (err error) {
	dir, err := rig.NewDir()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := d.install(ctx, dir); err != nil {
		return err
	}
	addr := d.address(dir)
	if err := d.signer.Start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.signer.Stop(5*time.Second)) }()
	if err := d.node.Start(addr); err != nil {
		return err
	}
	// The node goes first: it would wait for its signer for minutes.
	defer d.node.Stop(5 * time.Second)
	fmt.Printf("chain %s: CometBFT %s at http://%s, signed by privyseal over %s\n", chainID, version, d.node.RPC, addr)
	fmt.Printf("key   %s\n\n", d.key)
	err = d.show(ctx)
	switch {
	case ctx.Err() != nil && d.blocks == 0:
		fmt.Println()
		return nil
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case err != nil:
		return fmt.Errorf("%w\n\nthe node's log ends with\n%s\n\nprivyseal's log ends with\n%s", err, d.node.Tail(20), d.signer.Tail(20))
	}
	return nil
}

func (d *demo) address(dir string) string { return "unix://" + filepath.Join(dir, "privval.sock") }

// install makes the home of the node, the home and key of privyseal, and puts
// the key into the genesis.
func (d *demo) install(ctx context.Context, dir string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	if d.node, err = rig.InitNode(ctx, version, filepath.Join(dir, "node")); err != nil {
		return err
	}
	if err := d.node.Configure("consensus", "timeout_commit", d.pause.String()); err != nil {
		return err
	}
	if d.signer, err = rig.InitSigner(ctx, d.program, filepath.Join(dir, "signer"), chainID, []string{d.address(dir)}); err != nil {
		return err
	}
	text, err := d.signer.Key(ctx, "json")
	if err != nil {
		return err
	}
	if d.key, err = pubkey.ParseJSON([]byte(text)); err != nil {
		return err
	}
	return d.node.EditGenesis(func(g *rig.Genesis) {
		g.SetChainID(chainID)
		g.SetValidator(0, json.RawMessage(text), string(d.key.Type()))
		g.EnableVoteExtensions()
	})
}

// show prints the signatures as they are made. It ends without an error when the
// blocks that were asked for are there and their last commit is what it should
// be.
func (d *demo) show(ctx context.Context) error {
	following, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		<-d.node.Done()
		stop()
	}()
	complete := false
	err := d.signer.Follow(following, func(line []byte) {
		s, ok := rig.ParseSigned(line)
		if !ok || complete {
			return
		}
		fmt.Printf("height %-6d %-10s signed in %6.2f ms\n", s.Height, s.Kind, s.Took.Seconds()*1000)
		if d.blocks > 0 && s.Height >= d.blocks && s.Kind == "precommit" {
			complete = true
			stop()
		}
	})
	if complete {
		return d.verify(ctx)
	}
	select {
	case <-d.node.Done():
		return fmt.Errorf("the node ended (%v)", d.node.Err())
	default:
		return err
	}
}

// verify checks the signature in the commit of the last block, as the node's
// RPC gives it, against the key.
func (d *demo) verify(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	if err := d.node.WaitHeight(ctx, d.blocks); err != nil {
		return err
	}
	commit, err := d.node.Commit(ctx, d.blocks)
	if err != nil {
		return err
	}
	address := fmt.Sprintf("%X", d.key.Address())
	signBytes, signature, ok := commit.SignatureOf(address)
	if !ok || !d.key.Verify(signBytes, signature) {
		return fmt.Errorf("the commit of block %d has no signature of %s", d.blocks, address)
	}
	fmt.Printf("\n%d blocks; the commit of block %d carries the signature of %s\n", d.blocks, d.blocks, address)
	return nil
}
