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
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	noderig "privyseal/test/e2e/rig"
	"privyseal/test/enclave"
	"privyseal/test/sgx/e2e/world"
)

// stepTime bounds what comes before the blocks, and what comes after.
const stepTime = 2 * time.Minute

func main() {
	var d demo
	flag.StringVar(&d.bin, "bin", "", "folder with privyseal and privyseal-sgx (default: they are built)")
	flag.Int64Var(&d.blocks, "blocks", 20, "how many blocks to show before the CPU goes, and after")
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
	folder string
	signer *noderig.Signer
	chain  *enclave.Chain
}

func (d *demo) run(ctx context.Context) (err error) {
	programs := enclave.Programs{Privyseal: filepath.Join(d.bin, "privyseal"), Enclave: filepath.Join(d.bin, "privyseal-sgx")}
	if d.bin == "" {
		dir, err := os.MkdirTemp("", "programs")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if programs, err = enclave.Build(ctx, dir, "privyseal-sgx"); err != nil {
			return err
		}
	}
	if d.World, err = world.New(ctx, programs); err != nil {
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
	if err = d.story(ctx); err != nil {
		return fmt.Errorf("%w\n\nthe node's log ends with\n%s\n\nprivyseal's log ends with\n%s", err, d.chain.Node.Tail(20), d.signer.Tail(20))
	}
	return nil
}

// story is what happens to the chain.
func (d *demo) story(ctx context.Context) error {
	if err := d.show(ctx, 0, d.blocks); err != nil {
		return err
	}
	if err := d.verify(ctx); err != nil {
		return err
	}
	if err := d.signer.Stop(20 * time.Second); err != nil {
		return err
	}
	if err := d.Move(); err != nil {
		return err
	}
	fmt.Println("\nanother CPU: what was sealed does not open. The key comes back from its backup by\n`privyseal sgx cloud-wrap`, `open-backup` on the machine with the recovery key, `recover`:")
	out, err := d.Recover(ctx, d.signer, d.chain, d.folder)
	if err != nil {
		return err
	}
	fmt.Println("  " + strings.ReplaceAll(strings.TrimSpace(out), "\n", "\n  ") + "\n")
	height, err := d.chain.Node.Height(ctx)
	if err != nil {
		return err
	}
	if err := d.signer.Start(); err != nil {
		return err
	}
	if err := d.show(ctx, height, height+d.blocks); err != nil {
		return err
	}
	return d.verify(ctx)
}

// install goes from nothing to a key in the enclave, as doc/sgx.md does.
func (d *demo) install(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	if d.folder, err = d.Enclave(ctx); err != nil {
		return err
	}
	out, err := d.Run(ctx, "sgx", "measure", world.Sigstruct(d.folder))
	if err != nil {
		return err
	}
	fmt.Println("enclave, as `privyseal sgx measure` reads its signature:\n  " + strings.ReplaceAll(strings.TrimSpace(out), "\n", "\n  "))
	signer, chains, err := d.InitChains(ctx, d.InitFlags(d.folder), "unix")
	if err != nil {
		return err
	}
	d.signer, d.chain = signer, chains[0]
	if err := d.chain.Node.Configure("consensus", "timeout_commit", d.pause.String()); err != nil {
		return err
	}
	fmt.Printf("key, made inside, by `privyseal init --provider sgx`:\n  %s\n", d.chain.Key)
	return nil
}

// show prints the signatures as they are made, from after a block up to another.
func (d *demo) show(ctx context.Context, after, last int64) error {
	following, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-d.chain.Node.Done():
			stop()
		case <-following.Done():
		}
	}()
	complete := false
	err := d.signer.Follow(following, func(line []byte) {
		s, ok := noderig.ParseSigned(line)
		if !ok || complete || s.Height <= after {
			return
		}
		fmt.Printf("height %-6d %-10s signed in %6.2f ms\n", s.Height, s.Kind, s.Took.Seconds()*1000)
		if s.Height >= last && s.Kind == "precommit" {
			complete = true
			stop()
		}
	})
	switch {
	case complete:
		return d.chain.Node.WaitHeight(ctx, last)
	case ctx.Err() != nil:
		return errors.New("interrupted")
	}
	return err
}

// verify checks the commit of the last block against the key, and what the enclave attests
// now.
func (d *demo) verify(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	height, err := d.chain.Node.Height(ctx)
	if err != nil {
		return err
	}
	commit, err := d.chain.Node.Commit(ctx, height-1)
	if err != nil {
		return err
	}
	address := fmt.Sprintf("%X", d.chain.Key.Address())
	signBytes, signature, ok := commit.SignatureOf(address)
	if !ok || !d.chain.Key.Verify(signBytes, signature) {
		return fmt.Errorf("the commit of block %d has no signature of %s", height-1, address)
	}
	fmt.Printf("\nthe commit of block %d carries the signature of %s\n", height-1, address)
	nonce := make([]byte, 32)
	rand.Read(nonce)
	path := filepath.Join(d.Dir, hex.EncodeToString(nonce[:4])+".b64")
	if _, err := d.Run(ctx, "sgx", "attest", "--home", d.signer.Home, "--nonce", hex.EncodeToString(nonce), "--out", path); err != nil {
		return err
	}
	out, err := d.Verify(ctx, path, d.folder, d.chain, "--nonce", hex.EncodeToString(nonce))
	if err != nil {
		return err
	}
	fmt.Println("its attestation document, verified by `privyseal verify` against the test root:")
	_, proofs, _ := strings.Cut(out, "it proves:")
	proofs, _, _ = strings.Cut(proofs, "it does not prove:")
	fmt.Println("  " + strings.TrimSpace(proofs))
	return nil
}
