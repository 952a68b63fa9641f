// Command demo shows a real CometBFT chain making blocks that are signed inside of
// an enclave: the shipped image, booted in QEMU, with a KMS and a security module
// of test/nitro/rig. It is what `make demo-nitro` runs; it removes all that it
// made when it ends.
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
	"privyseal/test/nitro/e2e/world"
)

func main() {
	var d demo
	flag.StringVar(&d.bin, "bin", "bin", "folder with privyseal and privyseal-enclave")
	flag.Int64Var(&d.blocks, "blocks", 0, "how many blocks to show; 0 goes on until interrupted")
	d.pause = show.Pause()
	show.Main(d.run)
}

// demo is one run of the demo.
type demo struct {
	bin    string
	blocks int64
	pause  *time.Duration

	*world.World
	image *world.Image
	chain show.Chain
}

func (d *demo) run(ctx context.Context) (err error) {
	if d.World, err = world.New(enclave.In(d.bin, "privyseal-enclave")); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.install(ctx); err != nil {
		return err
	}
	return d.chain.Run(ctx, d.story)
}

// install goes from nothing to a key in the enclave, as doc/nitro.md does.
func (d *demo) install(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, show.StepTime)
	defer cancel()
	flags, err := d.TestRoots()
	if err != nil {
		return err
	}
	if d.image, err = d.BuildImage(ctx, "privyseal", flags...); err != nil {
		return err
	}
	fmt.Println("image, as `privyseal nitro build` measures it:")
	for _, i := range []string{"0", "1", "2"} {
		fmt.Printf("  PCR%s %s\n", i, d.image.PCRs[i])
	}
	if err := d.LetIn(ctx, d.image); err != nil {
		return err
	}
	signer, chains, err := d.InitChains(ctx, d.InitFlags(d.image), "unix")
	if err != nil {
		return err
	}
	c := chains[0]
	d.chain = show.Chain{ID: c.ID, Addr: c.Addr, Node: c.Node, Signer: signer, Key: c.Key}
	if err := d.chain.Node.Configure("consensus", "timeout_commit", d.pause.String()); err != nil {
		return err
	}
	fmt.Printf("key, made inside, by `privyseal init --provider nitro`:\n  %s\n", d.chain.Key)
	return d.document(ctx, filepath.Join(d.chain.Signer.Home, "keys", d.chain.ID+".attestation"), "")
}

// document shows what `privyseal verify` says of a document.
func (d *demo) document(ctx context.Context, path, nonce string) error {
	key := d.chain.Key.Base64()
	args := []string{"verify", path, "--eif", d.image.Path, "--test-root", d.RootPath(), "--chain-id", d.chain.ID, "--public-key", key, "--kms-key", world.Key}
	if nonce != "" {
		args = append(args, "--nonce", nonce)
	}
	out, err := d.Run(ctx, args...)
	if err != nil {
		return err
	}
	show.Proofs(out)
	return nil
}

// story is what happens to the chain.
func (d *demo) story(ctx context.Context) error {
	if err := d.chain.Signatures(ctx, 0, d.blocks); err != nil || d.blocks == 0 {
		return err
	}
	if err := d.chain.Commit(ctx, d.blocks); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, show.StepTime)
	defer cancel()
	nonce := make([]byte, 32)
	rand.Read(nonce)
	path := filepath.Join(d.Dir, "now.b64")
	if _, err := d.Run(ctx, "nitro", "attest", "--home", d.chain.Signer.Home, "--nonce", hex.EncodeToString(nonce), "--out", path); err != nil {
		return err
	}
	return d.document(ctx, path, hex.EncodeToString(nonce))
}
