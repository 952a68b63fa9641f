// Command demo shows a real CometBFT chain making blocks that are signed inside of an SGX
// enclave, without SGX: the shipped programs, in the world of test/sgx/rig. Then it takes the
// CPU away, and brings the key back from its backup. It is what `make demo-sgx` runs; it
// removes all that it made when it ends.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"time"

	"privyseal/test/demo/show"
	"privyseal/test/enclave"
	"privyseal/test/sgx/e2e/world"
)

func main() {
	var d demo
	flag.StringVar(&d.bin, "bin", "bin", "folder with privyseal and privyseal-sgx")
	flag.Int64Var(&d.blocks, "blocks", 20, "how many blocks to show before the CPU goes, and after")
	d.pause = show.Pause()
	show.Main(d.run)
}

// demo is one run of the demo.
type demo struct {
	bin    string
	blocks int64
	pause  *time.Duration

	*world.World
	folder string
	chain  *enclave.Chain
	shown  show.Chain
}

func (d *demo) run(ctx context.Context) (err error) {
	if d.World, err = world.New(ctx, enclave.In(d.bin, "privyseal-sgx")); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.install(ctx); err != nil {
		return err
	}
	return d.shown.Run(ctx, d.story)
}

// story is what happens to the chain.
func (d *demo) story(ctx context.Context) error {
	if err := d.shown.Signatures(ctx, 0, d.blocks); err != nil {
		return err
	}
	if err := d.verify(ctx); err != nil {
		return err
	}
	if err := d.shown.Signer.Stop(20 * time.Second); err != nil {
		return err
	}
	if err := d.Move(); err != nil {
		return err
	}
	fmt.Println("\nanother CPU: what was sealed does not open. The key comes back from its backup by\n`privyseal sgx cloud-wrap`, `open-backup` on the machine with the recovery key, `recover`:")
	out, err := d.Recover(ctx, d.shown.Signer, d.chain, d.folder)
	if err != nil {
		return err
	}
	show.Indented(out)
	fmt.Println()
	height, err := d.chain.Node.Height(ctx)
	if err != nil {
		return err
	}
	if err := d.shown.Signer.Start(); err != nil {
		return err
	}
	if err := d.shown.Signatures(ctx, height, height+d.blocks); err != nil {
		return err
	}
	return d.verify(ctx)
}

// install goes from nothing to a key in the enclave, as doc/sgx.md does.
func (d *demo) install(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, show.StepTime)
	defer cancel()
	if d.folder, err = d.Enclave(ctx); err != nil {
		return err
	}
	out, err := d.Run(ctx, "sgx", "measure", world.Sigstruct(d.folder))
	if err != nil {
		return err
	}
	fmt.Println("enclave, as `privyseal sgx measure` reads its signature:")
	show.Indented(out)
	signer, chains, err := d.InitChains(ctx, d.InitFlags(d.folder), "unix")
	if err != nil {
		return err
	}
	c := chains[0]
	d.chain, d.shown = c, show.Chain{ID: c.ID, Addr: c.Addr, Node: c.Node, Signer: signer, Key: c.Key}
	if err := c.Node.Configure("consensus", "timeout_commit", d.pause.String()); err != nil {
		return err
	}
	fmt.Printf("key, made inside, by `privyseal init --provider sgx`:\n  %s\n", c.Key)
	return nil
}

// verify checks the commit of the last block against the key, and what the enclave attests
// now.
func (d *demo) verify(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, show.StepTime)
	defer cancel()
	height, err := d.chain.Node.Height(ctx)
	if err != nil {
		return err
	}
	if err := d.shown.Commit(ctx, height-1); err != nil {
		return err
	}
	nonce := make([]byte, 32)
	rand.Read(nonce)
	path := filepath.Join(d.Dir, hex.EncodeToString(nonce[:4])+".b64")
	if _, err := d.Run(ctx, "sgx", "attest", "--home", d.shown.Signer.Home, "--nonce", hex.EncodeToString(nonce), "--out", path); err != nil {
		return err
	}
	out, err := d.Verify(ctx, path, d.folder, d.chain, "--nonce", hex.EncodeToString(nonce))
	if err != nil {
		return err
	}
	show.Proofs(out)
	return nil
}
