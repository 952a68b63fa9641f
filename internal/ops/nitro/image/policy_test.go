package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"privyseal/internal/eif"
	"privyseal/internal/policy"
)

// One file for both roots stays one for both.
func TestImagePolicyOfOneRoot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(path, []byte(policy.AWSRoots()), 0o600); err != nil {
		t.Fatal(err)
	}
	f := imagePolicyFlags{kmsKey: "arn:aws:kms:eu-central-1:111122223333:key/00000000-1111-2222-3333-444444444444", tlsRoots: path, attestationRoot: path}
	p, err := f.policy()
	if err != nil {
		t.Fatal(err)
	}
	if p.TLSRoots != policy.AWSRoots() || p.AttestationRoot != policy.AWSRoots() {
		t.Errorf("a root was dropped: %d and %d bytes", len(p.TLSRoots), len(p.AttestationRoot))
	}
}

// The registers do not distinguish a command line from the end of a kernel, so an enclave may
// run without ours. What its words decide is decided by the kernel's configuration too.
func TestNothingStandsOnTheCommandLineOnly(t *testing.T) {
	config, err := os.ReadFile("../../../../kernel/nitro.config")
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
		for arch, cmdline := range Cmdlines() {
			cmdline = strings.ReplaceAll(" "+cmdline+" ", " "+word+" ", " ")
			if arch == eif.ARM64 && strings.HasPrefix(word, "i8042") {
				continue
			}
			if len(cmdline) == len(Cmdlines()[arch])+2 {
				t.Errorf("%s is not on the command line of %s any more", word, arch)
			}
		}
	}
	for arch, cmdline := range Cmdlines() {
		if n := len(strings.Fields(cmdline)); n > 10 {
			t.Errorf("%s has %d words, and this table 10", arch, n)
		}
	}
	if !strings.Contains(string(config), "\nCONFIG_PANIC_ON_OOPS=y\n") {
		t.Error("the kernel goes on after an oops")
	}
}
