// Command bench measures the enclave in QEMU: how fast it starts, what a signature
// costs that crosses host and vsock, and how large everything is. `make bench`
// runs it after test/bench; doc/performance.md explains each row.
//
// The processor is emulated, so the times are an order of magnitude above those of
// an instance; the bounds are about what our side adds. It is not a test: a missed
// bound is said, and the exit status is 0. It fails only if it cannot measure.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"text/tabwriter"
	"time"

	noderig "privyseal/test/e2e/rig"
	"privyseal/test/enclave"
	"privyseal/test/nitro/e2e/world"
	"privyseal/test/nitro/rig"
)

const (
	starts       = 5
	heartbeatMax = 3 * time.Second
	readyMax     = 5 * time.Second
	overhead     = 1.25
	imageMax     = 16 << 20
	programMax   = 9 << 20
	memoryMiB    = 64
	chainID      = "bench"
	limit        = 5 * time.Minute
)

func main() {
	bin := flag.String("bin", "bin", "folder with privyseal and privyseal-enclave")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not within %s", limit))
	defer cancel()
	b := bench{}
	if err := b.run(ctx, *bin); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is what the measurements share.
type bench struct {
	*world.World
	image   *world.Image
	file    []byte // of the image
	signer  *noderig.Signer
	node    *node
	machine *rig.Machine
	enclave *rig.Enclave
	socket  *rig.Holder
	rows    []row
}

func (b *bench) run(ctx context.Context, bin string) (err error) {
	if b.World, err = world.New(enclave.In(bin, "privyseal-enclave")); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if err := b.install(ctx); err != nil {
		return err
	}
	defer b.node.close()
	if err := b.sizes(); err != nil {
		return err
	}
	defer b.end()
	if err := b.starts(ctx); err != nil {
		return err
	}
	if err := b.latency(ctx); err != nil {
		return err
	}
	return b.print()
}

// install makes image, key and home.
func (b *bench) install(ctx context.Context) error {
	flags, err := b.TestRoots()
	if err != nil {
		return err
	}
	if b.image, err = b.BuildImage(ctx, "privyseal", flags...); err != nil {
		return err
	}
	if b.file, err = os.ReadFile(b.image.Path); err != nil {
		return err
	}
	if err := b.LetIn(ctx, b.image); err != nil {
		return err
	}
	if b.node, err = newNode(filepath.Join(b.Instance.Dir, "node.sock")); err != nil {
		return err
	}
	flags = append(b.InitFlags(b.image), "--memory-mib", fmt.Sprint(memoryMiB))
	if b.signer, err = noderig.InitSigner(ctx, b.Privyseal, filepath.Join(b.Dir, "signer"), chainID, []string{b.node.addr()}, flags...); err != nil {
		return err
	}
	return b.Instance.Close()
}

// sizes are of the files; the memory is what all that follows runs in.
func (b *bench) sizes() error {
	program, err := os.Stat(b.Enclave)
	if err != nil {
		return err
	}
	mib := func(what string, n, most int64) {
		b.rows = append(b.rows, row{what, fmt.Sprintf("%.2f MiB", float64(n)/(1<<20)), "-", fmt.Sprintf("≤ %d MiB", most>>20), n <= most})
	}
	mib("enclave image", int64(len(b.file)), imageMax)
	mib("program in it", program.Size(), programMax)
	return nil
}

// starts measures from QEMU's start on; the last enclave keeps running.
func (b *bench) starts(ctx context.Context) error {
	var beats, readies samples
	for range starts {
		b.end()
		beat, ready, err := b.start(ctx)
		if err != nil {
			return err
		}
		beats, readies = append(beats, beat), append(readies, ready)
	}
	for _, r := range []struct {
		what string
		took samples
		most time.Duration
	}{
		{"QEMU's start to heartbeat, median", beats, heartbeatMax},
		{"QEMU's start to ready (process, boot, KMS), median", readies, readyMax},
	} {
		at := r.took.median()
		b.rows = append(b.rows, row{r.what, seconds(at), "worst " + seconds(r.took.worst()), "< " + seconds(r.most), at < r.most})
	}
	return nil
}

// start boots the enclave and starts `privyseal start`, which finds it.
func (b *bench) start(ctx context.Context) (beat, ready time.Duration, err error) {
	began := time.Now()
	b.machine, b.enclave, err = b.Instance.Boot(b.file, rig.Enclave{
		EnclaveName: "privyseal-main", ProcessID: os.Getpid(), EnclaveCID: 16, NumberOfCPUs: 2, CPUIDs: []int{1, 3},
		MemoryMiB: memoryMiB, State: "RUNNING", Flags: "NONE",
	}, func(*rig.Machine) {})
	if err != nil {
		return 0, 0, err
	}
	if b.socket, err = rig.Hold(b.machine, b.enclave, b.Instance.Run()); err != nil {
		return 0, 0, err
	}
	if beat, err = b.machine.Heartbeat(ctx); err != nil {
		return 0, 0, err
	}
	if err := os.RemoveAll(filepath.Join(b.signer.Home, "privyseal.log")); err != nil {
		return 0, 0, err
	}
	if err := b.signer.Start(); err != nil {
		return 0, 0, err
	}
	if err := awaitLine(ctx, b.signer.Process, "the enclave signs for this chain"); err != nil {
		return 0, 0, err
	}
	return beat, time.Since(began), b.node.accept()
}

// end ends signer and enclave, if they run.
func (b *bench) end() {
	if b.signer.Process != nil {
		b.signer.Stop(20 * time.Second)
	}
	if b.machine != nil {
		// Before nitro-cli ends whatever process holds an enclave: it is this one.
		b.Instance.Forget(b.enclave)
		if b.socket != nil {
			b.socket.Close()
		}
		b.machine.Kill()
		b.machine = nil
	}
}

// row is one line of the table.
type row struct {
	what, measured, reference, bound string
	ok                               bool
}

func (b *bench) print() error {
	missed := 0
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nenclave in QEMU\tmeasured\treference\tbound\t")
	for _, r := range b.rows {
		verdict := "ok"
		if !r.ok {
			verdict = "MISSED"
			missed++
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", r.what, r.measured, r.reference, r.bound, verdict)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	verdict := fmt.Sprintf("all %d rows are ok", len(b.rows))
	if missed > 0 {
		verdict = fmt.Sprintf("%d of %d rows MISSED; measure again when the machine is quiet, and see doc/performance.md", missed, len(b.rows))
	}
	_, err := fmt.Printf("\n%s\n", verdict)
	return err
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
