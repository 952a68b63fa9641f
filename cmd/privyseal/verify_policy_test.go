package main

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"privyseal/internal/claims"
	"privyseal/internal/eif"
	"privyseal/internal/ops/nitro/image"
	"privyseal/internal/policy"
)

const testKeyARN = "arn:aws:kms:eu-central-1:111122223333:key/00000000-1111-2222-3333-444444444444"

// testImage returns an image as `nitro build` lays it out, with a kernel that is none.
func testImage(t *testing.T, arch eif.Arch, p *policy.Policy, program string) *eif.Image {
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

func productionPolicy(t *testing.T) *policy.Policy {
	t.Helper()
	p, err := policy.ForAWS(testKeyARN, false)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The registers do not see where one section ends and the next begins. An image whose
// sections are cut elsewhere measures the same, boots something else, and is not ours.
func TestSectionBoundaries(t *testing.T) {
	const kernel, cmdline, first = 0, 1, 3 // the metadata stand between
	for _, arch := range []eif.Arch{eif.AMD64, eif.ARM64} {
		im := testImage(t, arch, productionPolicy(t), "\x7fELF a program")
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
	im := testImage(t, eif.AMD64, productionPolicy(t), "\x7fELF a program")
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

// attested is a world of documents below a test root.
type attested struct{ dir, root, document string }

func newAttested(t *testing.T, m eif.Measurements, p *policy.Policy) attested {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	if err := newAuthority(root, "test.nitro-enclaves"); err != nil {
		t.Fatal(err)
	}
	module, err := newTestModule(root, m)
	if err != nil {
		t.Fatal(err)
	}
	data, err := claims.Claims{
		Purpose: claims.PurposeAttest, Boot: strings.Repeat("0", 32), Chain: "chain-1", KeyType: "ed25519",
		Key: "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", KMSKey: p.KMSKey, Origin: "generated", Seq: 7, Mark: "1/0/prevote",
	}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := module.Attest(data, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "document.b64")
	if err := os.WriteFile(file, []byte(base64.StdEncoding.EncodeToString(raw)), 0o600); err != nil {
		t.Fatal(err)
	}
	return attested{dir, root + ".pem", file}
}

// write puts a file beside the document.
func (a attested) write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (a attested) verify(t *testing.T, args ...string) string {
	t.Helper()
	cmd := newVerifyCommand()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(append([]string{a.document, "--test-root", a.root}, args...))
	if err := cmd.Execute(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, &out)
	}
	return out.String()
}

// Whoever names the policy reads what it permits, however the policy is named.
func TestVerifySaysWhatThePolicyPermits(t *testing.T) {
	for name, tt := range map[string]struct {
		change      func(*policy.Policy)
		want, never []string
	}{
		"strict": {func(p *policy.Policy) {}, []string{
			"  = kms_key: " + testKeyARN + ", at kms.eu-central-1.amazonaws.com:443",
			"  = chains: any that", "  = public_keys: any that",
		}, []string{"allow_", "state_floor", "max_height"}},
		"raw signing and a floor": {func(p *policy.Policy) {
			p.AllowSignBytes, p.AllowRawBytes, p.StateFloor = true, true, map[string]int64{"chain-1": 1}
		}, []string{
			"  = allow_sign_bytes: a node may have bytes of its own choice signed", "  = allow_raw_bytes: ",
			"  = state_floor of chain-1: nothing is signed at or below 1; a lost state may be made again above it",
		}, nil},
		"bounds": {func(p *policy.Policy) { p.Chains, p.MaxHeight = []string{"chain-1", "chain-2"}, 5 }, []string{
			"  = chains: chain-1, chain-2\n", "  = max_height: nothing is signed above 5\n",
		}, []string{"allow_", "state_floor"}},
	} {
		p := productionPolicy(t)
		tt.change(p)
		im := testImage(t, eif.AMD64, p, "\x7fELF a program")
		a := newAttested(t, im.Measure(), p)
		data, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		byParts := []string{"--pcr1", im.Measure().PCR1.String(), "--policy", a.write(t, "policy.json", data)}
		for _, args := range [][]string{byParts, {"--eif", a.write(t, "a.eif", im.Encode())}} {
			text := a.verify(t, args...)
			for _, want := range tt.want {
				if !strings.Contains(text, want) {
					t.Errorf("%s, %s: there is no %q:\n%s", name, args[0], want, text)
				}
			}
			for _, never := range tt.never {
				if strings.Contains(text, never) {
					t.Errorf("%s, %s: there is %q:\n%s", name, args[0], never, text)
				}
			}
		}
		if text := a.verify(t, "--pcr0", im.Measure().PCR0.String()); strings.Contains(text, "policy permits") {
			t.Errorf("%s: PCR0 alone says what the policy permits:\n%s", name, text)
		}
	}
}

// A file at hand proves that the document is of that file. What program is in there,
// PCR1 of a release says.
func TestVerifySaysWhoseProgram(t *testing.T) {
	const compare = "compare PCR1 with the release's"
	program, err := os.ReadFile(os.Args[0]) // a Go program, and not the enclave's
	if err != nil {
		t.Fatal(err)
	}
	p := productionPolicy(t)
	data, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, program := range map[string]string{"no Go program": "\x7fELF a program", "another Go program": string(program)} {
		im := testImage(t, eif.AMD64, p, program)
		a := newAttested(t, im.Measure(), p)
		file, pcr1 := a.write(t, "a.eif", im.Encode()), im.Measure().PCR1.String()
		if got := image.OtherProgram(im); (got != "") != (name == "another Go program") || got != "" && !strings.Contains(got, compare) {
			t.Errorf("%s: measure and check say %q", name, got)
		}
		text := a.verify(t, "--eif", file)
		if !strings.Contains(text, compare) {
			t.Errorf("%s: a file says nothing of its program:\n%s", name, text)
		}
		if got := strings.Contains(text, `it says of itself that it is "privyseal/cmd/privyseal"`); got != (name == "another Go program") {
			t.Errorf("%s: %v:\n%s", name, got, text)
		}
		if text := a.verify(t, "--pcr0", im.Measure().PCR0.String()); !strings.Contains(text, compare) {
			t.Errorf("%s: PCR0 says nothing of its program:\n%s", name, text)
		}
		parts := []string{"--pcr1", pcr1, "--policy", a.write(t, "policy.json", data)}
		for _, args := range [][]string{parts, append(parts, "--eif", file)} {
			if text := a.verify(t, args...); strings.Contains(text, "compare PCR1") {
				t.Errorf("%s: PCR1 was named:\n%s", name, text)
			}
		}
	}
	im := testImage(t, eif.AMD64, p, "\x7fELF a program")
	im.Sections[1].Data = append(im.Sections[1].Data, " x"...)
	a := newAttested(t, im.Measure(), p)
	if text := a.verify(t, "--eif", a.write(t, "a.eif", im.Encode())); !strings.Contains(text, "does not lay an image out like this one") || strings.Contains(text, "permits") {
		t.Errorf("another layout:\n%s", text)
	}
}

// One file for both roots stays one for both.
func TestPolicyFileOfOneRoot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(path, []byte(policy.AWSRoots()), 0o600); err != nil {
		t.Fatal(err)
	}
	f := image.PolicyFileFlags{KmsKey: testKeyARN, TlsRoots: path, AttestationRoot: path}
	p, err := f.Policy()
	if err != nil {
		t.Fatal(err)
	}
	if p.TLSRoots != policy.AWSRoots() || p.AttestationRoot != policy.AWSRoots() {
		t.Errorf("a root was dropped: %d and %d bytes", len(p.TLSRoots), len(p.AttestationRoot))
	}
}

// Of several registers that contradict the image, the first is named, always.
func TestContradictionIsTheSameEachTime(t *testing.T) {
	p := productionPolicy(t)
	im := testImage(t, eif.AMD64, p, "\x7fELF a program")
	path := filepath.Join(t.TempDir(), "a.eif")
	if err := os.WriteFile(path, im.Encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	other := strings.Repeat("aa", 48)
	f := imageFlags{eif: path, pcr0: other, pcr3: "x", pcr4: "y", pcr8: "z"}
	for range 50 {
		if _, err := f.read(); err == nil || !strings.Contains(err.Error(), "--pcr0 and --eif name different images") {
			t.Fatalf("%v", err)
		}
	}
}

// An image of somebody else whose policy points into the host that runs it is refused
// before anything of it runs, whatever command reads it.
func TestImageThatPointsIntoItsHost(t *testing.T) {
	p := productionPolicy(t)
	good, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	im := testImage(t, eif.AMD64, p, "\x7fELF a program")
	for _, endpoint := range []string{"169.254.169.254:80", "127.0.0.1:22", "localhost:443", "[::ffff:169.254.169.254]:443", "kms.eu-central-1.amazonaws.com:80"} {
		second, err := eif.FileRamdisk(policy.File, bytes.ReplaceAll(good, []byte("kms.eu-central-1.amazonaws.com:443"), []byte(endpoint)))
		if err != nil {
			t.Fatal(err)
		}
		crafted, err := eif.Build(eif.Source{Arch: eif.AMD64, Kernel: im.Kernel(), Cmdline: im.Cmdline(), Ramdisks: [][]byte{im.Ramdisks()[0], second}})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "crafted.eif")
		if err := os.WriteFile(path, crafted.Encode(), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := (&enclaveFlags{}).readImage(path); err == nil || !strings.Contains(err.Error(), "kms_endpoint: ") {
			t.Errorf("%s: init and start: %v", endpoint, err)
		}
		if _, err := (&imageFlags{eif: path}).read(); err == nil || !strings.Contains(err.Error(), "kms_endpoint: ") {
			t.Errorf("%s: verify and key seal: %v", endpoint, err)
		}
	}
}

// The registers do not tell a command line from the end of a kernel, so an enclave may
// run without ours. What its words decide is decided by the kernel's configuration too.
func TestNothingStandsOnTheCommandLineOnly(t *testing.T) {
	config, err := os.ReadFile("../../kernel/nitro.config")
	if err != nil {
		t.Fatal(err)
	}
	for word, instead := range map[string]struct{ has, lacks string }{
		"panic=1":             {"CONFIG_PANIC_TIMEOUT=1", "CONFIG_PANIC_TIMEOUT=0"},
		"pci=off":             {"", "CONFIG_PCI=y"},
		"nomodules":           {"", "CONFIG_MODULES=y"},
		"reboot=k":            {"", ""}, // how it ends, not whether
		"console=ttyS0":       {"", ""}, // of debug mode
		"random.trust_cpu=on": {"CONFIG_HW_RANDOM=y", ""},
		"i8042.noaux":         {"", "CONFIG_SERIO_I8042=y"},
		"i8042.nomux":         {"", "CONFIG_SERIO_I8042=y"},
		"i8042.nopnp":         {"", "CONFIG_SERIO_I8042=y"},
		"i8042.dumbkbd":       {"", "CONFIG_SERIO_I8042=y"},
	} {
		lines := "\n" + string(config)
		if instead.has != "" && !strings.Contains(lines, "\n"+instead.has+"\n") {
			t.Errorf("%s: the kernel has no %s", word, instead.has)
		}
		if instead.lacks != "" && strings.Contains(lines, "\n"+instead.lacks+"\n") {
			t.Errorf("%s: the kernel has %s", word, instead.lacks)
		}
		for arch, cmdline := range image.Cmdlines() {
			cmdline = strings.ReplaceAll(" "+cmdline+" ", " "+word+" ", " ")
			if arch == eif.ARM64 && strings.HasPrefix(word, "i8042") {
				continue
			}
			if len(cmdline) == len(image.Cmdlines()[arch])+2 {
				t.Errorf("%s is not on the command line of %s any more", word, arch)
			}
		}
	}
	for arch, cmdline := range image.Cmdlines() {
		if n := len(strings.Fields(cmdline)); n > 10 {
			t.Errorf("%s has %d words, and this table 10", arch, n)
		}
	}
	if !strings.Contains(string(config), "\nCONFIG_PANIC_ON_OOPS=y\n") {
		t.Error("the kernel goes on after an oops")
	}
}
