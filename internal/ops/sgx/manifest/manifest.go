// Package manifest is what an operator does for an SGX enclave before there is one: writes its
// policy, and the folder that `gramine-sgx-sign` measures and signs and `gramine-sgx` runs.
//
// It signs nothing, runs nothing, and needs no SGX: what it writes may be made anywhere. What
// the folder has is trusted only for its measurement, which `privyseal sgx measure` prints.
package manifest

import (
	"fmt"

	"privyseal/internal/looplink"
	"privyseal/internal/policy"
	"privyseal/internal/sgxhost"
)

// identity is what the signer says of an enclave, beside its measurement.
type identity struct {
	product, svn uint16 // ISVPRODID, ISVSVN
}

// text returns the manifest of Gramine 1.9. Each line is measured; what is not there, Gramine
// has at its strictest.
//
//   - The host gives neither arguments nor variables but looplink's, and no files: there is no
//     sgx.allowed_files, and the root is in memory.
//   - A trace of the program's stack would go to the host.
//   - Without use_exinfo a nil dereference is no panic of Go, but the end, without a word.
//   - With edmm_enable Go's address space takes a million page operations to start, and no less
//     memory.
func (i identity) text() []byte {
	return fmt.Appendf(nil, `libos.entrypoint = "/%[1]s"

[loader]
argv = ["%[1]s"]
log_level = "error"

[loader.env]
GOMAXPROCS = "2"
GOTRACEBACK = "none"
%[2]s = { passthrough = true }

[sys]
enable_sigterm_injection = true
disallow_subprocesses = true

[fs]
root = { type = "tmpfs" }
mounts = [
  { path = "/%[1]s", uri = "file:%[1]s" },
  { path = "/%[3]s", uri = "file:%[3]s" },
]

[sgx]
debug = false
edmm_enable = false
enclave_size = "2G"
max_threads = 32
use_exinfo = true
remote_attestation = "dcap"
isvprodid = %[4]d
isvsvn = %[5]d
trusted_files = ["file:%[1]s", "file:%[3]s"]
`, sgxhost.ProgramFile, looplink.Variable, policy.File, i.product, i.svn)
}
