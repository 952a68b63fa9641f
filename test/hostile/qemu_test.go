package hostile

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"privyseal/internal/etcd/etcdtest"
	"privyseal/internal/hostlink"
	"privyseal/internal/vsock"
	noderig "privyseal/test/e2e/rig"
	"privyseal/test/enclave"
	"privyseal/test/nitro/rig"
)

// inQEMU says where enclaves live.
var inQEMU = os.Getenv("PRIVYSEAL_HOSTILE") == "qemu"

// programs are the shipped ones, for images.
var programs enclave.Programs

func TestMain(m *testing.M) {
	if inSGX {
		os.Exit(mainInSGX(m))
	}
	if !inQEMU {
		os.Exit(etcdtest.Main(m))
	}
	_, qemuErr := rig.QEMU()
	_, kernelErr := rig.Kernel()
	if err := errors.Join(qemuErr, kernelErr); err != nil {
		if os.Getenv("PRIVYSEAL_REQUIRE_NITRO") == "1" {
			log.Fatal(err)
		}
		fmt.Println("skipped:", err)
		return
	}
	dir, err := os.MkdirTemp("", "programs")
	if err != nil {
		log.Fatal(err)
	}
	code := 1
	if programs, err = enclave.Build(context.Background(), dir, "privyseal-enclave"); err == nil {
		code = etcdtest.Main(m)
	} else {
		log.Print(err)
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// rounds returns how often something is done, here or by enclaves of their own.
func rounds(here, qemu int) int {
	if inQEMU || inSGX {
		return qemu
	}
	return here
}

// machine is an enclave in QEMU: the real image, with the world's policy.
type machine struct {
	*rig.Machine
	host vsock.Host
}

func (w *world) bootInQEMU(e *running) {
	w.t.Helper()
	dir, err := rig.NewDir()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { os.RemoveAll(dir) })
	image := w.buildImage(dir)
	host := vsock.Host{CID: 16, Dir: dir}
	for _, port := range []uint32{hostlink.StatePort, hostlink.NodePort, hostlink.KMSPort, hostlink.LogPort, hostlink.EtcdPort} {
		l, err := host.Listen(port)
		if err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(func() { l.Close() })
		go e.takeAll(l, port)
	}
	// Connections of the host's have a port each, those of the guest's one for all;
	// but what is written in one piece leaves in one.
	streams := map[uint32]*stream{}
	tap := func(port uint32, payload []byte) {
		if streams[port] == nil {
			streams[port] = w.stream()
		}
		streams[port].Write(payload)
	}
	for try := 0; ; try++ {
		sub := filepath.Join(dir, fmt.Sprint(try))
		if err := os.Mkdir(sub, 0o700); err != nil {
			w.t.Fatal(err)
		}
		m, err := rig.Start(rig.Config{Image: image, Dir: sub, Sockets: dir, Root: w.root, Console: w.stream(), Tap: tap})
		if err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(m.Kill)
		pcr0 := m.PCRs[0]
		e.guest, e.pcr0 = &machine{m, host}, pcr0[:]
		w.admit(e.pcr0)
		if _, err = m.Heartbeat(w.t.Context()); err == nil {
			return
		}
		if try == 3 || !strings.Contains(err.Error(), noTick) {
			w.t.Fatal(err)
		}
	}
}

// noTick is what the guest's kernel says where QEMU, on a busy machine, has delivered no tick
// while it looked for one: no program of ours has run then, and it is booted again.
const noTick = "IO-APIC + timer doesn't work"

// takeAll gives what the enclave dials at a port to the host of the moment.
func (e *running) takeAll(l net.Listener, port uint32) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		if !e.current().take(port, conn) {
			conn.Close()
		}
	}
}

// buildImage builds an image with the policy, as an operator does.
func (w *world) buildImage(dir string) []byte {
	w.t.Helper()
	kernel, err := rig.Kernel()
	if err != nil {
		w.t.Fatal(err)
	}
	policy, err := w.policy.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	file, out := filepath.Join(dir, "policy.json"), filepath.Join(dir, "built.eif")
	if err := os.WriteFile(file, policy, 0o600); err != nil {
		w.t.Fatal(err)
	}
	if _, err := noderig.Output(w.t.Context(), programs.Privyseal, "nitro", "build", "--kernel", kernel, "--policy", file, "--out", out); err != nil {
		w.t.Fatal(err)
	}
	image, err := os.ReadFile(out)
	if err != nil {
		w.t.Fatal(err)
	}
	return image
}

// call waits for an enclave that does not listen yet.
func (m *machine) call() (net.Conn, error) {
	for end := time.Now().Add(patience); ; {
		ctx, cancel := context.WithDeadline(context.Background(), end)
		conn, err := m.host.Dial(ctx, hostlink.ControlPort)
		cancel()
		if err == nil {
			return conn, nil
		}
		select {
		case <-m.Done():
			return nil, m.over()
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			return nil, err
		}
	}
}

func (m *machine) end() error {
	select {
	case <-m.Done():
		return m.over()
	default:
		m.Kill()
		return nil
	}
}

func (m *machine) over() error {
	console := m.Console()
	return fmt.Errorf("QEMU ended: %v; the console ends with\n%s", m.Err(), console[max(0, len(console)-2000):])
}
