package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"privyseal/test/e2e/story"
	"privyseal/test/nitro/e2e/world"
	"privyseal/test/nitro/rig"
	"privyseal/test/tools"
)

// The kernels that AWS ships have the driver of the security module as a module,
// which the program loads. Heartbeat, key and attestation come as ever; `make
// test-kernel` builds such a kernel.
func TestKernelWithModules(t *testing.T) {
	ctx := story.Within(t, 2*time.Minute)
	kernel, driver, err := rig.ModuleKernel()
	switch {
	case err != nil && !testKernels():
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	t.Run("driver of this kernel", func(t *testing.T) {
		w := newWorld(t)
		w.Kernel, w.Driver = kernel, driver
		wholeFlow(ctx, t, w)
	})
	ours, err := rig.Kernel()
	need(t, err)
	for name, wrong := range map[string]struct {
		kernel, driver string
		want           []string // on the console
	}{
		"driver of another kernel": {kernel, driverOfAnother(t, driver), []string{"version magic", "exec format error; build the image with the nsm.ko that was built with its kernel"}},
		"no driver":                {kernel, "", []string{"/dev/nsm: no such file", "build the image with its nsm.ko (--nsm-module)"}},
		"no modules":               {ours, driver, []string{"this kernel takes no modules; build the image without --nsm-module"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.Kernel, w.Driver = wrong.kernel, wrong.driver
			console := endsAtBoot(ctx, t, w, testImage(ctx, t, w))
			for _, want := range wrong.want {
				if !strings.Contains(console, want) {
					t.Errorf("the console does not say %q:\n%s", want, console)
				}
			}
		})
	}
}

// On Graviton it is the same: an image of arm64, in a machine with Graviton2's core.
func TestGraviton(t *testing.T) {
	ctx := story.Within(t, 3*time.Minute)
	w := newWorld(t)
	_, err := rig.QEMUARM64()
	if err == nil {
		w.Kernel, err = rig.KernelARM64()
	}
	need(t, err)
	w.Program = filepath.Join(w.Dir, "arm64", "privyseal-enclave")
	check(t, tools.BuildMeasured(ctx, w.Program, "GOOS=linux", "GOARCH=arm64"))
	wholeFlow(ctx, t, w)
}

// wholeFlow makes a key, signs for a node with it, and attests it.
func wholeFlow(ctx context.Context, t *testing.T, w *world.World) {
	t.Helper()
	im := testImage(ctx, t, w)
	s, chains, err := w.InitChains(ctx, w.InitFlags(im), "unix")
	need(t, err)
	c := chains[0]
	verifiedAtInit(ctx, t, w, im, s, c)
	story.StartSigner(t, s)
	story.StartNode(t, c.Node, c.Addr)
	check(t, c.Node.WaitHeight(ctx, 3))
	check(t, c.VerifyCommits(ctx, 1, 2))
	doc := filepath.Join(w.Dir, "doc")
	_, err = w.Run(ctx, "nitro", "attest", "--home", s.Home, "--nonce", "6e6f6e6365", "--out", doc)
	check(t, err)
	_, err = w.Run(ctx, "verify", doc, "--test-root", w.RootPath(), "--eif", im.Path, "--nonce", "6e6f6e6365", "--chain-id", c.ID)
	check(t, err)
}

// driverOfAnother returns the driver as of a kernel of another version.
func driverOfAnother(t *testing.T, driver string) string {
	t.Helper()
	data, err := os.ReadFile(driver)
	check(t, err)
	const magic = "\x00vermagic=6."
	if bytes.Count(data, []byte(magic)) != 1 {
		t.Fatalf("%s does not name its kernel's version", driver)
	}
	path := filepath.Join(t.TempDir(), "nsm.ko")
	check(t, os.WriteFile(path, bytes.Replace(data, []byte(magic), []byte("\x00vermagic=5."), 1), 0o600))
	return path
}

// endsAtBoot boots an image that ends without a heartbeat, and returns what stood
// on its console.
func endsAtBoot(ctx context.Context, t *testing.T, w *world.World, im *world.Image) string {
	t.Helper()
	image, err := os.ReadFile(im.Path)
	check(t, err)
	dir, err := rig.NewDir()
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	m, err := rig.Start(rig.Config{Image: image, Dir: dir, Root: w.Root})
	check(t, err)
	t.Cleanup(m.Kill)
	if _, err := m.Heartbeat(ctx); err == nil || !strings.Contains(err.Error(), "ended without a heartbeat") {
		t.Errorf("Heartbeat: %v", err)
	}
	return m.Console()
}

// The kernels are the same, bit for bit, whichever folder they are built in. It takes
// as long as building them does: `make test-kernel`.
func TestKernelReproducible(t *testing.T) {
	if !testKernels() {
		t.Skip("it builds kernels; type: make test-kernel")
	}
	for arch, first := range map[string]func() (string, error){"amd64": rig.Kernel, "arm64": rig.KernelARM64} {
		t.Run(arch, func(t *testing.T) {
			kernel, err := first()
			check(t, err)
			reproduce(t, arch, kernel)
		})
	}
}

// reproduce builds a kernel again, with a cache of its own; of the other one it has the
// source, which is Debian's.
func reproduce(t *testing.T, arch, first string) {
	ctx := story.Within(t, 40*time.Minute)
	cache, err := exec.CommandContext(ctx, "../../../scripts/setup", "cache").Output()
	check(t, err)
	other := filepath.Join(t.TempDir(), "quite", "another", "folder")
	check(t, os.MkdirAll(other, 0o700))
	check(t, os.Symlink(filepath.Join(strings.TrimSpace(string(cache)), "linux-source"), filepath.Join(other, "linux-source")))
	file, err := filepath.EvalSymlinks(first)
	check(t, err)
	version := strings.TrimPrefix(filepath.Base(filepath.Dir(file)), arch+"-") // ARCH-VERSION-HASH
	version = version[:strings.LastIndex(version, "-")]
	second := filepath.Join(other, "kernel.img")
	build := exec.CommandContext(ctx, "../../../kernel/build", "--arch", arch, "--version", version, "--out", second)
	// What a caller's environment holds does not matter.
	build.Env = append(os.Environ(), "PRIVYSEAL_CACHE="+other, "LOCALVERSION=-other", "MAKEFLAGS= -- VERSION=7", "KCFLAGS=-O1", "LANG=de_DE.UTF-8")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	a, err := os.ReadFile(first)
	check(t, err)
	b, err := os.ReadFile(second)
	check(t, err)
	if !bytes.Equal(a, b) {
		t.Errorf("%s and %s, %d and %d bytes, differ from byte %d on", first, second, len(a), len(b), firstDifference(a, b))
	}
}

// testKernels says whether the tests that build kernels are asked for.
func testKernels() bool { return os.Getenv("PRIVYSEAL_REQUIRE_KERNELS") == "1" }
