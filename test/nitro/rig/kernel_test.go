package rig

import (
	"strings"
	"testing"

	"privyseal/internal/eif"
)

// AWS's own command lines (blobs/*/cmdline of aws-nitro-enclaves-cli 1.5).
const (
	amazonAMD64 = "reboot=k panic=30 pci=off nomodules console=ttyS0 i8042.noaux i8042.nomux i8042.nopnp i8042.dumbkbd random.trust_cpu=on"
	amazonARM64 = "reboot=k panic=30 pci=off nomodules console=ttyS0 random.trust_cpu=on root=/dev/ram0"
)

// How the hypervisor describes an enclave's machine is not documented. The kernels find
// vsock and the security module in each way that AWS's kernels are configured for.
func TestMachines(t *testing.T) {
	for _, tt := range []struct {
		name, cmdline string
		arch          eif.Arch
		config        Config
		console       string // what the kernel says of it
	}{
		{"amd64, command line", amazonAMD64, eif.AMD64, Config{}, "virtio_mmio.device="},
		{"amd64, ACPI", amazonAMD64, eif.AMD64, Config{ACPI: true}, "ACPI: Interpreter enabled"},
		{"arm64, device tree", amazonARM64, eif.ARM64, Config{}, "Machine model: linux,dummy-virt"},
		{"arm64, EFI and ACPI", amazonARM64, eif.ARM64, Config{ACPI: true, MemoryMiB: 256}, "ACPI: Interpreter enabled"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			im, err := buildProbe(tt.arch, tt.cmdline)
			require(t, err)
			tt.config.Root, tt.config.CPUs = newRoot(t), 2 // the least on Intel and AMD
			m, h := bootImage(t, tt.config, im)
			if !strings.Contains(m.Console(), tt.console) {
				t.Errorf("the kernel does not say %q:\n%s", tt.console, m.Console())
			}
			if got := string(mustAsk(t, h, "read /sys/devices/system/cpu/online")); got != "0-1\n" {
				t.Errorf("the processors are %s", got)
			}
			sameRegisters(t, h, im)
			mustAsk(t, h, "attest - - -")
			echoed(t, h, []byte("there and back"))
			// Nobody has looked there; on arm64 pci=off is not known.
			if got := string(mustAsk(t, h, "read /proc/bus/pci/devices")); got != "" && tt.arch == eif.AMD64 {
				t.Errorf("these devices were found on PCI:\n%s", got)
			}
			ends(t, m, h, "reboot")
		})
	}
}

// A program that has ended, and one that wants more memory than there is, end the enclave
// at once, whatever the command line says of it: nothing.
func TestKernelGivesUp(t *testing.T) {
	for command, says := range map[string]string{
		"panic":  "Kernel panic - not syncing: Attempted to kill init!",
		"devour": "Kernel panic - not syncing: System is deadlocked on memory",
	} {
		t.Run(command, func(t *testing.T) {
			m, _, h := boot(t, Config{Root: newRoot(t)})
			ends(t, m, h, command)
			for _, want := range []string{says, "Rebooting in 1 seconds"} {
				if !strings.Contains(m.Console(), want) {
					t.Errorf("the console does not say %q:\n%s", want, m.console.tail())
				}
			}
		})
	}
}
