// Command demo shows a real CometBFT chain making blocks that privyseal signs.
// It is what `make demo` runs; it removes all that it made when it ends.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"privyseal/internal/pubkey"
	"privyseal/test/demo/show"
	"privyseal/test/e2e/rig"
)

const version = "v0.38.26"

func main() {
	var d demo
	flag.StringVar(&d.program, "privyseal", "bin/privyseal", "the privyseal to show")
	flag.Int64Var(&d.blocks, "blocks", 0, "how many blocks to show; 0 goes on until interrupted")
	d.pause = show.Pause()
	show.Main(d.run)
}

// demo is one run of the demo.
type demo struct {
	program string
	blocks  int64
	pause   *time.Duration
	show.Chain
}

func (d *demo) run(ctx context.Context) error {
	dir, err := rig.NewDir()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := d.install(ctx, dir); err != nil {
		return err
	}
	fmt.Printf("key   %s\n", d.Key)
	return d.Run(ctx, d.story)
}

// install makes the home of the node, the home and key of privyseal, and puts
// the key into the genesis.
func (d *demo) install(ctx context.Context, dir string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, show.StepTime)
	defer cancel()
	d.ID, d.Addr = "demo-chain", "unix://"+filepath.Join(dir, "privval.sock")
	if d.Node, err = rig.InitNode(ctx, version, filepath.Join(dir, "node")); err != nil {
		return err
	}
	if err := d.Node.Configure("consensus", "timeout_commit", d.pause.String()); err != nil {
		return err
	}
	if d.Signer, err = rig.InitSigner(ctx, d.program, filepath.Join(dir, "signer"), d.ID, []string{d.Addr}); err != nil {
		return err
	}
	text, err := d.Signer.Key(ctx, "json")
	if err != nil {
		return err
	}
	if d.Key, err = pubkey.ParseJSON([]byte(text)); err != nil {
		return err
	}
	return d.Node.EditGenesis(func(g *rig.Genesis) {
		g.SetChainID(d.ID)
		g.SetValidator(0, json.RawMessage(text), string(d.Key.Type()))
		g.EnableVoteExtensions()
	})
}

func (d *demo) story(ctx context.Context) error {
	if err := d.Signatures(ctx, 0, d.blocks); err != nil || d.blocks == 0 {
		return err
	}
	return d.Commit(ctx, d.blocks)
}
