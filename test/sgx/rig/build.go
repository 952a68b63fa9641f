package rig

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// The names of an enclave's files in its folder.
const (
	Program = "privyseal-sgx"
	Name    = "privyseal"
)

// Place puts program, policy and manifest into the folder of an enclave, which it makes. A
// manifest of "" is Template.
func Place(folder, program string, policy []byte, manifest string) error {
	if manifest == "" {
		manifest = Template
	}
	data, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(folder, 0o700),
		os.WriteFile(filepath.Join(folder, Program), data, 0o755),
		os.WriteFile(filepath.Join(folder, "policy.json"), policy, 0o644),
		os.WriteFile(filepath.Join(folder, Name+".manifest"), []byte(manifest), 0o644))
}

// Sign signs the enclave of a folder with the machine's key, by gramine-sgx-sign.
func (m *Machine) Sign(folder string) error {
	cmd := exec.Command(filepath.Join(m.Path(), "gramine-sgx-sign"), "--manifest", Name+".manifest", "--output", Name+".manifest.sgx", "--date", "0000-00-00")
	cmd.Dir = folder
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot sign: %w\n%s", err, out)
	}
	return nil
}

// AttestationFolder is where WithAttestation has the files of /dev/attestation, in the folder
// of an enclave.
const AttestationFolder = "attestation"

// WithAttestation returns a manifest, as `privyseal sgx manifest` writes it, with which the
// program runs under gramine-direct: what SGX has of itself, it gets from files of the host.
func WithAttestation(manifest []byte) ([]byte, error) {
	for after, line := range map[string]string{
		"\nmounts = [\n":            `  { path = "/dev/attestation", uri = "file:` + AttestationFolder + "\" },\n",
		"\nenclave_size = \"2G\"\n": `allowed_files = ["file:` + AttestationFolder + "/\"]\n",
	} {
		before, behind, found := bytes.Cut(manifest, []byte(after))
		if !found {
			return nil, fmt.Errorf("the manifest has no line %q", after)
		}
		manifest = slices.Concat(before, []byte(after+line), behind)
	}
	return manifest, nil
}

// Template is a manifest that runs the program.
const Template = `libos.entrypoint = "/privyseal-sgx"

[loader]
argv = ["privyseal-sgx"]
log_level = "error"

[loader.env]
GOMAXPROCS = "2"
GOTRACEBACK = "none"
PRIVYSEAL_HOST = { passthrough = true }

[sys]
enable_sigterm_injection = true
disallow_subprocesses = true

[fs]
root = { type = "tmpfs" }
mounts = [
  { path = "/privyseal-sgx", uri = "file:privyseal-sgx" },
  { path = "/policy.json", uri = "file:policy.json" },
]

[sgx]
debug = false
edmm_enable = false
enclave_size = "2G"
max_threads = 32
use_exinfo = true
remote_attestation = "dcap"
isvprodid = 1
isvsvn = 1
trusted_files = ["file:privyseal-sgx", "file:policy.json"]
`
