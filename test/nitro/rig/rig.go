// Package rig is the world around an enclave, for tests: it boots an enclave
// image in QEMU and plays what AWS has there: the hypervisor that reads and
// measures the image, vsock, the security module that signs attestation
// documents, and KMS. The documents are signed under a test root.
//
// QEMU emulates the processor (no KVM) and nothing else of this: the devices are
// here, on the other side of vhost-user sockets. vsock ends in unix sockets, named
// as Firecracker names them; AF_VSOCK of the machine that runs the tests is never
// touched. scripts/setup qemu brings QEMU.
//
// It shares no code with what it tests: it reads and measures images, makes and
// checks documents, signatures of requests and key policies by itself.
package rig

import (
	"os"
	"path/filepath"

	"privyseal/test/tools"
)

// QEMU returns the emulator that Start uses. The error wraps tools.ErrMissing.
func QEMU() (string, error) {
	return tools.Program("qemu-system-x86_64", "scripts/setup qemu")
}

// QEMUARM64 returns the emulator that Start uses for images of arm64. The error wraps
// tools.ErrMissing.
func QEMUARM64() (string, error) {
	return tools.Program("qemu-system-aarch64", "scripts/setup qemu-arm64")
}

// firmware returns what boots a machine of arm64 by EFI.
func firmware() (string, error) {
	dir, err := tools.Cache()
	return filepath.Join(dir, "qemu-arm64", "usr", "share", "qemu-efi-aarch64", "QEMU_EFI.fd"), err
}

// QEMUNitro returns the QEMU that reads images itself. The error wraps tools.ErrMissing.
func QEMUNitro() (string, error) {
	return tools.Program("qemu-nitro", "scripts/setup qemu-nitro")
}

// Kernel returns the bzImage that kernel/build made last. The error wraps tools.ErrMissing.
func Kernel() (string, error) {
	return tools.Program("nitro-kernel-amd64", "kernel/build --arch amd64")
}

// KernelARM64 returns the Image that kernel/build made last. The error wraps tools.ErrMissing.
func KernelARM64() (string, error) {
	return tools.Program("nitro-kernel-arm64", "kernel/build --arch arm64")
}

// ModuleKernel returns a bzImage that needs a driver for the security module, as
// AWS's kernels do, and that driver. The error wraps tools.ErrMissing.
func ModuleKernel() (kernel, driver string, err error) {
	if kernel, err = tools.Program("nitro-kernel-module-amd64", "make test-kernel"); err != nil {
		return "", "", err
	}
	// They lie side by side; in bin is a link to the one.
	file, err := filepath.EvalSymlinks(kernel)
	return kernel, filepath.Join(filepath.Dir(file), "nsm.ko"), err
}

// NewDir makes a folder for one enclave, with a path that is short enough for the
// names of unix sockets.
func NewDir() (string, error) { return os.MkdirTemp("", "enclave") }
