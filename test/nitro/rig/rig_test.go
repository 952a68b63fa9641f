package rig

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"privyseal/internal/eif"
	"privyseal/internal/nitro"
	"privyseal/internal/vsock"
	"privyseal/test/tools"
)

// require fails where everything has to be tested, and skips elsewhere.
func require(t *testing.T, err error) {
	t.Helper()
	switch {
	case errors.Is(err, tools.ErrMissing) && os.Getenv("PRIVYSEAL_REQUIRE_NITRO") == "":
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
}

// probe is test/nitro/probe for an architecture.
func probe(arch eif.Arch) ([]byte, error) {
	dir, err := os.MkdirTemp("", "probe")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "probe")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "privyseal/test/nitro/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+string(arch))
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return os.ReadFile(path)
}

// buildProbe builds an image of test/nitro/probe.
func buildProbe(arch eif.Arch, cmdline string) (*eif.Image, error) {
	find := Kernel
	if arch == eif.ARM64 {
		find = KernelARM64
	}
	path, err := find()
	if err != nil {
		return nil, err
	}
	kernel, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	program, err := probe(arch)
	if err != nil {
		return nil, err
	}
	first, err := eif.ProgramRamdisk(program, nil)
	if err != nil {
		return nil, err
	}
	second, err := eif.FileRamdisk("policy", []byte("a policy\n"))
	if err != nil {
		return nil, err
	}
	return eif.Build(eif.Source{
		Arch: arch, Kernel: kernel, Ramdisks: [][]byte{first, second}, Cmdline: cmdline,
		About: eif.Description{Name: "probe", Version: "1", Tool: "test", ToolVersion: "1", OperatingSystem: "Linux", KernelVersion: "6.12"},
	})
}

// probeImage is the image of most tests.
var probeImage = sync.OnceValues(func() (*eif.Image, error) {
	return buildProbe(eif.AMD64, "console=ttyS0 quiet random.trust_cpu=on")
})

const (
	testRole     = "arn:aws:iam::123456789012:role/validator"
	testInstance = "i-0123456789abcdef0"
)

// boot starts the probe and waits for its heartbeat.
func boot(t *testing.T, c Config) (*Machine, *eif.Image, vsock.Host) {
	t.Helper()
	im, err := probeImage()
	require(t, err)
	m, h := bootImage(t, c, im)
	return m, im, h
}

func bootImage(t *testing.T, c Config, im *eif.Image) (*Machine, vsock.Host) {
	t.Helper()
	dir, err := NewDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c.Image, c.Dir, c.Role, c.Instance = im.Encode(), dir, testRole, testInstance
	m, err := Start(c)
	require(t, err)
	t.Cleanup(m.Kill)
	took, err := m.Heartbeat(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("heartbeat after %v", took)
	return m, vsock.Host{CID: 16, Dir: dir}
}

func newRoot(t *testing.T) *Root {
	t.Helper()
	root, err := NewRoot()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// ask has the probe do something.
func ask(t *testing.T, h vsock.Host, command string) ([]byte, error) {
	t.Helper()
	c, err := h.Dial(t.Context(), 7001)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintln(c, command)
	reply, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	kind, rest, _ := strings.Cut(strings.TrimSuffix(string(reply), "\n"), " ")
	if kind != "ok" {
		return nil, errors.New(rest)
	}
	return hex.DecodeString(rest)
}

func mustAsk(t *testing.T, h vsock.Host, command string) []byte {
	t.Helper()
	b, err := ask(t, h, command)
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return b
}

// TestEnclave is the first proof of everything below privyseal: image, kernel,
// security module, vsock, documents.
func TestEnclave(t *testing.T) {
	root := newRoot(t)
	m, im, h := boot(t, Config{Root: root})

	t.Run("registers", func(t *testing.T) {
		sameRegisters(t, h, im)
		if _, err := ask(t, h, "pcr 32"); err == nil || !strings.Contains(err.Error(), "InvalidIndex") {
			t.Errorf("PCR32: %v", err)
		}
	})
	t.Run("document", func(t *testing.T) {
		raw := mustAsk(t, h, "attest 00ff 6e6f6e6365 -")
		doc, err := nitro.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		anchor, err := nitro.ParseAnchor(root.PEM())
		if err != nil {
			t.Fatal(err)
		}
		if err := doc.Verify(anchor, time.Now()); err != nil {
			t.Fatal(err)
		}
		p := im.Measure()
		want := nitro.Expect{PCRs: map[int][]byte{0: p.PCR0[:], 1: p.PCR1[:], 2: p.PCR2[:]}, UserData: []byte{0, 255}, Nonce: []byte("nonce")}
		if err := want.Check(doc); err != nil {
			t.Error(err)
		}
		if doc.PublicKey != nil || doc.ModuleID != m.ModuleID {
			t.Errorf("public key %x, module %s", doc.PublicKey, doc.ModuleID)
		}
		other, err := nitro.ParseAnchor(newRoot(t).PEM())
		if err != nil {
			t.Fatal(err)
		}
		if doc, err := nitro.Parse(raw); err != nil || doc.Verify(other, time.Now()) == nil {
			t.Errorf("another root verifies the document, %v", err)
		}
	})
	t.Run("entropy", func(t *testing.T) {
		if a, b := mustAsk(t, h, "random"), mustAsk(t, h, "random"); len(a) != 1000 || bytes.Equal(a, b) {
			t.Errorf("%d bytes, the same twice: %v", len(a), bytes.Equal(a, b))
		}
		if got := string(mustAsk(t, h, "read /sys/class/misc/hw_random/rng_current")); got != "nsm-hwrng\n" {
			t.Errorf("the kernel's entropy comes from %q", got)
		}
	})
	t.Run("policy ramdisk", func(t *testing.T) {
		if got := string(mustAsk(t, h, "read /policy")); got != "a policy\n" {
			t.Errorf("the second ramdisk holds %q", got)
		}
	})
	t.Run("vsock in the guest", func(t *testing.T) { mustAsk(t, h, "selftest") })
	t.Run("host dials", func(t *testing.T) {
		data := bytes.Repeat([]byte("privyseal"), 1<<20/9)
		echoed(t, h, data)
		if _, err := h.Dial(t.Context(), 4242); err == nil {
			t.Error("a port where nobody listens was dialled")
		}
	})
	t.Run("many connections at once", func(t *testing.T) {
		var wg sync.WaitGroup
		for i := range 32 {
			wg.Go(func() { echoed(t, h, bytes.Repeat([]byte{byte(i)}, 10_000+i)) })
		}
		wg.Wait()
	})
	t.Run("guest dials", func(t *testing.T) {
		l, err := h.Listen(5005)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					io.Copy(c, c)
					c.Close()
				}()
			}
		}()
		t.Logf("%s", mustAsk(t, h, "dial 5005 1048576"))
	})
	t.Run("reboot ends it", func(t *testing.T) { ends(t, m, h, "reboot") })
}

// ends has the probe do what ends the machine, and expects that it does.
func ends(t *testing.T, m *Machine, h vsock.Host, command string) {
	t.Helper()
	c, err := h.Dial(t.Context(), 7001)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintln(c, command)
	select {
	case <-m.Done():
	case <-time.After(5 * time.Minute):
		t.Fatalf("it runs on; the console ends with\n%s", m.console.tail())
	}
	if err := m.Err(); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("unix", m.Base()); err == nil {
		t.Error("its socket is still served")
	}
}

// sameRegisters expects that the kernel reads what we computed.
func sameRegisters(t *testing.T, h vsock.Host, im *eif.Image) {
	t.Helper()
	want := im.Measure()
	for i, pcr := range map[int][48]byte{
		0: want.PCR0, 1: want.PCR1, 2: want.PCR2, 8: want.PCR8,
		3: nitro.ParentPCR(testRole), 4: nitro.ParentPCR(testInstance),
	} {
		if got := mustAsk(t, h, fmt.Sprint("pcr ", i)); !bytes.Equal(got, pcr[:]) {
			t.Errorf("PCR%d is %x, want %x", i, got, pcr)
		}
	}
}

// TestQEMUMeasuresTheSame has another implementation read and measure the image.
func TestQEMUMeasuresTheSame(t *testing.T) {
	_, im, h := boot(t, Config{QEMUReads: true})
	sameRegisters(t, h, im)
	echoed(t, h, []byte("the same devices on another machine"))
}

func TestDebugModeHasZeroRegisters(t *testing.T) {
	root := newRoot(t)
	_, _, h := boot(t, Config{Root: root, Debug: true})
	for _, i := range []int{0, 1, 2, 8} {
		if got := mustAsk(t, h, fmt.Sprint("pcr ", i)); !bytes.Equal(got, make([]byte, 48)) {
			t.Errorf("PCR%d is %x", i, got)
		}
	}
	anchor, err := nitro.ParseAnchor(root.PEM())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := nitro.Parse(mustAsk(t, h, "attest - - -"))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Verify(anchor, time.Now()); err == nil || !strings.Contains(err.Error(), "debug mode") {
		t.Errorf("a document of debug mode: %v", err)
	}
}

func TestBrokenImagesDoNotBoot(t *testing.T) {
	im, err := probeImage()
	require(t, err)
	good := im.Encode()
	dir, err := NewDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for name, image := range map[string][]byte{"empty": nil, "cut": good[:len(good)-1], "changed": append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1)} {
		if m, err := Start(Config{Image: image, Dir: dir}); err == nil {
			m.Kill()
			t.Errorf("the %s image was started", name)
		}
	}
}

// A program that ends at once is recognised by the missing heartbeat.
func TestEnclaveThatDiesAtBoot(t *testing.T) {
	im, err := probeImage()
	require(t, err)
	dir, err := NewDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m, err := Start(Config{Image: im.Encode(), Dir: dir, Append: "rdinit=/nothing init=/nothing"})
	require(t, err)
	t.Cleanup(m.Kill)
	if _, err := m.Heartbeat(t.Context()); err == nil || !strings.Contains(err.Error(), "ended without a heartbeat") {
		t.Errorf("Heartbeat: %v", err)
	}
}

// echoed sends data to the probe and expects the same back; the end goes with it.
func echoed(t *testing.T, h vsock.Host, data []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := h.Dial(ctx, 7000)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	c.SetDeadline(deadline)
	go func() {
		c.Write(data)
		c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d of %d bytes came back, %v", len(got), len(data), err)
	}
}
