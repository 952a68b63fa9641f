package nitrotest

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"privyseal/internal/eif"
	"privyseal/internal/ops/nitro/image"
	"privyseal/internal/policy"
)

// KeyARN names a KMS key that does not exist.
const KeyARN = "arn:aws:kms:eu-central-1:111122223333:key/00000000-1111-2222-3333-444444444444"

// Image returns an image as `nitro build` lays it out, with something in place of a kernel.
func Image(t *testing.T, arch eif.Arch, p *policy.Policy, program string) *eif.Image {
	t.Helper()
	kernel := append(make([]byte, 0x202), "HdrS and the rest of a kernel"...)
	if arch == eif.ARM64 {
		kernel = append(make([]byte, 0x38), "ARM\x64 and the rest of a kernel"...)
	}
	first, err := eif.ProgramRamdisk([]byte(program), nil)
	if err != nil {
		t.Fatal(err)
	}
	second, err := image.PolicyRamdisk(p)
	if err != nil {
		t.Fatal(err)
	}
	im, err := eif.Build(eif.Source{Arch: arch, Kernel: kernel, Cmdline: image.Cmdlines()[arch], Ramdisks: [][]byte{first, second}})
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// ProductionPolicy returns a policy as AWS's endpoint and roots make it.
func ProductionPolicy(t *testing.T) *policy.Policy {
	t.Helper()
	p, err := policy.ForAWS(KeyARN, false)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// CraftedImages writes images of somebody else whose policies point into the host that
// runs them, and returns their paths by endpoint.
func CraftedImages(t *testing.T) map[string]string {
	t.Helper()
	p := ProductionPolicy(t)
	good, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	im := Image(t, eif.AMD64, p, "\x7fELF a program")
	paths := map[string]string{}
	for _, endpoint := range []string{"169.254.169.254:80", "127.0.0.1:22", "localhost:443", "[::ffff:169.254.169.254]:443", "kms.eu-central-1.amazonaws.com:80"} {
		second, err := eif.FileRamdisk(policy.File, bytes.ReplaceAll(good, []byte("kms.eu-central-1.amazonaws.com:443"), []byte(endpoint)))
		if err != nil {
			t.Fatal(err)
		}
		crafted, err := eif.Build(eif.Source{Arch: eif.AMD64, Kernel: im.Kernel(), Cmdline: im.Cmdline(), Ramdisks: [][]byte{im.Ramdisks()[0], second}})
		if err != nil {
			t.Fatal(err)
		}
		paths[endpoint] = filepath.Join(t.TempDir(), "crafted.eif")
		if err := os.WriteFile(paths[endpoint], crafted.Encode(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return paths
}
