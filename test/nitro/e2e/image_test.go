package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"privyseal/internal/hostlink"
	"privyseal/internal/vsock"
	"privyseal/test/e2e/story"
	"privyseal/test/nitro/e2e/world"
	"privyseal/test/nitro/rig"
	"privyseal/test/tools"
)

// The image of production trusts AWS's TLS roots and not ours: the world of
// these tests gets no key out of it, and the operator reads why.
func TestProductionPolicyRefusesTestChain(t *testing.T) {
	ctx := story.Within(t, time.Minute)
	w := newWorld(t)
	flags, err := w.TestRoots()
	check(t, err)
	// Of production, it does not even name the KMS of this world, which is on this host.
	if _, err := w.BuildImage(ctx, "production"); err == nil || !strings.Contains(err.Error(), "only a policy for tests") {
		t.Fatalf("an image of production with a KMS of this host: %v", err)
	}
	// For tests, but with AWS's TLS roots.
	im, err := w.BuildImage(ctx, "amazon", flags[2:]...)
	check(t, err)
	check(t, w.LetIn(ctx, im))
	home := filepath.Join(w.Dir, "home")
	_, err = w.Run(ctx, append([]string{"init", "--home", home, "--chain-id", "chain-1", "--node", "unix:///n.sock"}, w.InitFlags(im)...)...)
	if err == nil {
		t.Fatal("an image with AWS's roots made a key with the test KMS")
	}
	for _, want := range []string{"not KMS by the name and roots of the policy", "unknown authority", "check kms_server_name and tls_roots in the policy"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the operator sees nothing of %q:\n%v", want, err)
		}
	}
	if calls := w.KMS.Calls(); len(calls) > 0 {
		t.Errorf("KMS was called: %+v", calls)
	}
	if _, err := os.Stat(home); err == nil {
		t.Errorf("%s was made", home)
	}

	// With our TLS roots and another attestation root KMS answers, and what the enclave
	// attests is not believed.
	other, err := rig.NewRoot()
	check(t, err)
	path := filepath.Join(w.Dir, "other.pem")
	check(t, os.WriteFile(path, other.PEM(), 0o600))
	check(t, w.Instance.Close())
	im, err = w.BuildImage(ctx, "half", append(flags[:2:2], "--attestation-root", path)...)
	check(t, err)
	check(t, w.LetIn(ctx, im))
	_, err = w.Run(ctx, append([]string{"init", "--home", home, "--chain-id", "chain-1", "--node", "unix:///n.sock"}, w.InitFlags(im)...)...)
	if err == nil || !strings.Contains(err.Error(), "nothing was installed") || !strings.Contains(err.Error(), "root") {
		t.Errorf("a document of the test root, held against another: %v", err)
	}
	if _, err := os.Stat(home); err == nil {
		t.Errorf("%s was made", home)
	}
}

// AF_VSOCK has no permissions: who dials from a port that anybody on the instance
// can have gets no word out of the enclave, also while a host is away.
func TestOnlyAPrivilegedHostGetsIn(t *testing.T) {
	ctx := story.Within(t, time.Minute)
	w := newWorld(t)
	flags, err := w.TestRoots()
	check(t, err)
	im, err := w.BuildImage(ctx, "image", flags...)
	check(t, err)
	image, err := os.ReadFile(im.Path)
	check(t, err)
	dir, err := rig.NewDir()
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	m, err := rig.Start(rig.Config{Image: image, Dir: dir, Root: w.Root, CID: 16})
	check(t, err)
	t.Cleanup(m.Kill)
	_, err = m.Heartbeat(ctx)
	check(t, err)
	h := vsock.Host{CID: 16, Dir: dir}
	hello := hostlink.Request{Hello: &hostlink.Hello{}}
	// The heartbeat comes before the port.
	var host vsock.Conn
	for host == nil && ctx.Err() == nil {
		host, err = h.Dial(ctx, hostlink.ControlPort)
	}
	check(t, err)
	defer host.Close()
	if _, err := hostlink.Call(host, hello); err != nil {
		t.Fatal(err)
	}
	for _, port := range []int{1024, 5000, 1 << 30} {
		other, err := net.Dial("unix", h.Base())
		check(t, err)
		defer other.Close()
		check(t, other.SetDeadline(time.Now().Add(5*time.Minute)))
		fmt.Fprintf(other, "CONNECT %d FROM %d\n", hostlink.ControlPort, port)
		// The kernel takes the connection, the program closes it.
		if line, err := bufio.NewReaderSize(other, 16).ReadString('\n'); err != nil || !strings.HasPrefix(line, "OK ") {
			t.Fatal(line, err)
		}
		if _, err := hostlink.Call(other, hello); err == nil {
			t.Errorf("the enclave answered an unprivileged client at port %d", port)
		} else if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the enclave keeps an unprivileged client at port %d: %v", port, err)
		}
	}
	if _, err := hostlink.Call(host, hello); err != nil {
		t.Errorf("the host, after another program came: %v", err)
	}
}

// Two copies of the source in folders of other names and lengths give the same
// image, bit for bit. Nothing that the first build left helps the second.
func TestReproducible(t *testing.T) {
	ctx := story.Within(t, 3*time.Minute)
	kernel, err := rig.Kernel()
	need(t, err)
	policy := policyFile(ctx, t)
	var first []byte
	for name, environment := range map[string][]string{"one": nil, "quite/another/folder": {"GOCACHE=" + t.TempDir()}} {
		dir := filepath.Join(t.TempDir(), name)
		source := filepath.Join(dir, "source")
		copySource(t, source)
		p := filepath.Join(dir, "privyseal-enclave")
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", p, "./cmd/privyseal-enclave")
		cmd.Dir = source
		cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), environment...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		image := filepath.Join(dir, "privyseal.eif")
		_, err := output(ctx, "nitro", "build", "--kernel", kernel, "--program", p, "--policy", policy, "--out", image)
		check(t, err)
		data, err := os.ReadFile(image)
		check(t, err)
		if first == nil {
			first = data
		} else if !bytes.Equal(first, data) {
			t.Errorf("%d bytes and %d bytes differ from byte %d on", len(first), len(data), firstDifference(first, data))
		}
	}
}

func firstDifference(a, b []byte) int {
	for i := range a {
		if i == len(b) || a[i] != b[i] {
			return i
		}
	}
	return len(a)
}

// copySource copies what the enclave's program is built from.
func copySource(t *testing.T, to string) {
	t.Helper()
	root := filepath.Join("..", "..", "..")
	for _, name := range []string{"go.mod", "go.sum"} {
		check(t, copyFile(filepath.Join(root, name), filepath.Join(to, name)))
	}
	for _, name := range []string{"internal", "cmd/privyseal-enclave"} {
		check(t, os.CopyFS(filepath.Join(to, name), os.DirFS(filepath.Join(root, name))))
	}
}

func copyFile(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	_, err = io.Copy(out, in)
	return err
}

// The image for Graviton is built and measured. TestGraviton boots one.
func TestARM64(t *testing.T) {
	ctx := story.Within(t, 3*time.Minute)
	amd64, err := rig.Kernel()
	need(t, err)
	kernel, err := rig.KernelARM64()
	need(t, err)
	dir := t.TempDir()
	program := filepath.Join(dir, "privyseal-enclave")
	check(t, tools.BuildMeasured(ctx, program, "GOOS=linux", "GOARCH=arm64"))
	image := filepath.Join(dir, "arm64.eif")
	built, err := output(ctx, "nitro", "build", "--kernel", kernel, "--program", program, "--policy", policyFile(ctx, t), "--out", image)
	check(t, err)
	measured, err := output(ctx, "nitro", "measure", image)
	check(t, err)
	same(t, "nitro measure", world.PCRs(measured), world.PCRs(built))
	// Bit 0 of the header's flags (aws-nitro-enclaves-image-format, defs).
	header, err := os.ReadFile(image)
	check(t, err)
	if header[7]&1 != 1 {
		t.Errorf("the image's flags %x do not say arm64", header[6:8])
	}
	// A kernel of the one and a program of the other do not make an image.
	if out, err := output(ctx, "nitro", "build", "--kernel", amd64, "--program", program, "--policy", policyFile(ctx, t), "--out", image+".2"); err == nil {
		t.Errorf("an amd64 kernel with an arm64 program became an image\n%s", out)
	}
}

// policyFile makes the policy of production.
func policyFile(ctx context.Context, t *testing.T) string {
	t.Helper()
	policy, err := output(ctx, "nitro", "image-policy", "--kms-key", world.Key)
	check(t, err)
	path := filepath.Join(t.TempDir(), "policy.json")
	check(t, os.WriteFile(path, []byte(policy), 0o600))
	return path
}
