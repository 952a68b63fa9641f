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
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	noderig "privyseal/test/e2e/rig"
	"privyseal/test/enclave"
	"privyseal/test/nitro/e2e/world"
)

// stepTime bounds what comes before the blocks, and what comes after.
const stepTime = 2 * time.Minute

func main() {
	var d demo
	flag.StringVar(&d.bin, "bin", "", "folder with privyseal and privyseal-enclave (default: they are built)")
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
	bin    string
	blocks int64
	pause  time.Duration

	*world.World
	image  *world.Image
	signer *noderig.Signer
	chain  *enclave.Chain
}

func (d *demo) run(ctx context.Context) (err error) {
	programs, remove, err := d.programs(ctx)
	if err != nil {
		return err
	}
	defer remove()
	if d.World, err = world.New(programs); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.install(ctx); err != nil {
		return err
	}
	if err := d.signer.Start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.signer.Stop(20*time.Second)) }()
	if err := d.chain.Node.Start(d.chain.Addr); err != nil {
		return err
	}
	// The node goes first: it would wait for its signer for minutes.
	defer d.chain.Node.Stop(5 * time.Second)
	fmt.Printf("\nchain %s: CometBFT %s at http://%s, over %s\n\n", d.chain.ID, enclave.NodeVersion, d.chain.Node.RPC, d.chain.Addr)
	err = d.show(ctx)
	switch {
	case ctx.Err() != nil && d.blocks == 0:
		fmt.Println()
		return nil
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case err != nil:
		return fmt.Errorf("%w\n\nthe node's log ends with\n%s\n\nprivyseal's log ends with\n%s", err, d.chain.Node.Tail(20), d.signer.Tail(20))
	}
	return nil
}

// programs finds or builds what is shown.
func (d *demo) programs(ctx context.Context) (p enclave.Programs, remove func(), err error) {
	if d.bin != "" {
		return enclave.Programs{Privyseal: filepath.Join(d.bin, "privyseal"), Enclave: filepath.Join(d.bin, "privyseal-enclave")}, func() {}, nil
	}
	dir, err := os.MkdirTemp("", "programs")
	if err != nil {
		return p, nil, err
	}
	if p, err = enclave.Build(ctx, dir, "privyseal-enclave"); err != nil {
		os.RemoveAll(dir)
	}
	return p, func() { os.RemoveAll(dir) }, err
}

// install goes from nothing to a key in the enclave, as doc/nitro.md does.
func (d *demo) install(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepTime)
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
	d.signer, d.chain = signer, chains[0]
	if err := d.chain.Node.Configure("consensus", "timeout_commit", d.pause.String()); err != nil {
		return err
	}
	fmt.Printf("key, made inside, by `privyseal init --provider nitro`:\n  %s\n", d.chain.Key)
	return d.document(ctx, filepath.Join(d.signer.Home, "keys", d.chain.ID+".attestation"), "")
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
	fmt.Println("its attestation document, verified by `privyseal verify --eif` against the test root:")
	_, proofs, _ := strings.Cut(out, "it proves:")
	proofs, _, _ = strings.Cut(proofs, "it does not prove:")
	fmt.Println("  " + strings.TrimSpace(proofs))
	return nil
}

// show prints the signatures as they are made. It ends without an error when the
// blocks that were asked for are there and their last commit is what it should
// be.
func (d *demo) show(ctx context.Context) error {
	following, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		<-d.chain.Node.Done()
		stop()
	}()
	complete := false
	err := d.signer.Follow(following, func(line []byte) {
		s, ok := noderig.ParseSigned(line)
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
	case <-d.chain.Node.Done():
		return fmt.Errorf("the node ended (%v)", d.chain.Node.Err())
	default:
		return err
	}
}

// verify checks the commit of the last block against the key, and what the
// enclave attests now.
func (d *demo) verify(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	if err := d.chain.Node.WaitHeight(ctx, d.blocks); err != nil {
		return err
	}
	commit, err := d.chain.Node.Commit(ctx, d.blocks)
	if err != nil {
		return err
	}
	address := fmt.Sprintf("%X", d.chain.Key.Address())
	signBytes, signature, ok := commit.SignatureOf(address)
	if !ok || !d.chain.Key.Verify(signBytes, signature) {
		return fmt.Errorf("the commit of block %d has no signature of %s", d.blocks, address)
	}
	fmt.Printf("\n%d blocks; the commit of block %d carries the signature of %s\n", d.blocks, d.blocks, address)
	nonce := make([]byte, 32)
	rand.Read(nonce)
	path := filepath.Join(d.Dir, "now.b64")
	if _, err := d.Run(ctx, "nitro", "attest", "--home", d.signer.Home, "--nonce", hex.EncodeToString(nonce), "--out", path); err != nil {
		return err
	}
	return d.document(ctx, path, hex.EncodeToString(nonce))
}
