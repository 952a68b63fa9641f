package image_test

import (
	"bytes"
	"testing"

	"privyseal/internal/eif"
	"privyseal/internal/ops/nitro/image"
	"privyseal/internal/ops/nitro/nitrotest"
)

// The registers do not see where one section ends and the next begins. An image whose
// sections are cut elsewhere measures the same, boots something else, and is not ours.
func TestSectionBoundaries(t *testing.T) {
	const kernel, cmdline, first = 0, 1, 3 // the metadata stand between
	for _, arch := range []eif.Arch{eif.AMD64, eif.ARM64} {
		im := nitrotest.Image(t, arch, nitrotest.ProductionPolicy(t), "\x7fELF a program")
		if im.Sections[kernel].Type != eif.Kernel || im.Sections[cmdline].Type != eif.Cmdline || im.Sections[first].Type != eif.Ramdisk {
			t.Fatalf("the sections stand elsewhere: %v", im.Sections)
		}
		if p, err := image.Policy(im); p == nil || err != nil {
			t.Fatalf("%s: the image itself: %v, %v", arch, p, err)
		}
		size := func(i int) int { return len(im.Sections[i].Data) }
		shifts := map[string][]byte{}
		// shift moves n bytes over the boundary behind section i: down the file if n > 0.
		shift := func(name string, i, next, n int) {
			both := append(bytes.Clone(im.Sections[i].Data), im.Sections[next].Data...)
			other := *im
			other.Sections = append([]eif.Section(nil), im.Sections...)
			other.Sections[i].Data, other.Sections[next].Data = both[:size(i)-n], both[size(i)-n:]
			shifts[name] = other.Encode()
		}
		shift("all of the command line behind the kernel", kernel, cmdline, -size(cmdline))
		shift("the first word of it", kernel, cmdline, -len("reboot=k "))
		shift("all but its last byte", kernel, cmdline, 1-size(cmdline))
		shift("one byte of it", kernel, cmdline, -1)
		shift("the kernel's last byte in front of it", kernel, cmdline, 1)
		shift("the first file of the ramdisk behind it", cmdline, first, -bytes.Index(im.Sections[first].Data[10:], []byte("070701"))-10)
		shift("one byte of the ramdisk behind it", cmdline, first, -1)
		shift("its end in front of the ramdisk", cmdline, first, len(" random.trust_cpu=on"))
		for name, file := range shifts {
			other, err := eif.Parse(file)
			if err != nil {
				t.Errorf("%s, %s: %v", arch, name, err)
				continue
			}
			if other.Measure() != im.Measure() {
				t.Errorf("%s, %s: it measures otherwise, and is no test", arch, name)
			}
			if p, err := image.Policy(other); p != nil || err != nil {
				t.Errorf("%s, %s: taken for ours (%v)", arch, name, err)
			}
		}
	}
}

// A ramdisk more or less, or another order, is not ours either.
func TestOtherLayouts(t *testing.T) {
	im := nitrotest.Image(t, eif.AMD64, nitrotest.ProductionPolicy(t), "\x7fELF a program")
	for name, change := range map[string]func([][]byte) [][]byte{
		"another command line": nil,
		"three ramdisks":       func(d [][]byte) [][]byte { return append(d, d[1]) },
		"only the program":     func(d [][]byte) [][]byte { return d[:1] },
		"the other order":      func(d [][]byte) [][]byte { return [][]byte{d[1], d[0]} },
		"two policies":         func(d [][]byte) [][]byte { return [][]byte{d[1], d[1]} },
		"another archive":      func(d [][]byte) [][]byte { return [][]byte{append(bytes.Clone(d[0]), d[0]...), d[1]} },
	} {
		src := eif.Source{Arch: eif.AMD64, Kernel: im.Kernel(), Cmdline: image.Cmdlines()[eif.AMD64], Ramdisks: im.Ramdisks()}
		if change != nil {
			src.Ramdisks = change(im.Ramdisks())
		} else {
			src.Cmdline += " init=/bin/sh"
		}
		other, err := eif.Build(src)
		if err != nil {
			t.Fatal(err)
		}
		if p, _ := image.Policy(other); p != nil {
			t.Errorf("%s: taken for ours", name)
		}
	}
}
