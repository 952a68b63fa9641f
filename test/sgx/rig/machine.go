// Package rig is the world around an SGX enclave, for tests: machines with a CPU that seals
// and an Intel that certifies it, and the commands of Gramine 1.9 by which the unmodified
// program cmd/privyseal-sgx runs there without SGX.
//
//	m, err := rig.New(dir)          // a machine, and gramine-sgx and gramine-sgx-sign in m.Path()
//	other, err := m.Other(dir2)     // another CPU of the same Intel
//	err = m.UpdateMicrocode()
//
// What is real: the program as it is shipped, the layout and the signature of manifest and
// SIGSTRUCT, quotes down to their last byte (internal/sgx/sgxtest), the way from the program
// to host and CPU (files of Gramine below /dev/attestation, TCP on loopback), and what the
// system calls of Gramine lack. What is not: nothing hides the program's memory from the
// host, MRENCLAVE is a hash over the manifest and not over pages, and seal keys are an HMAC
// in place of EGETKEY. No enclave of a real CPU has these quotes: their root is a test's.
//
// It needs Linux, /dev/fuse, and root or namespaces of users: [Available].
package rig

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"privyseal/internal/sgx/sgxtest"
)

// Machine is a machine with SGX in a folder, for all processes that run there.
type Machine struct {
	Dir string `json:"-"`
	// Intel has certified the CPU; its fields say in which state it is.
	Intel *sgxtest.Intel `json:"-"`
	// Secret is what keys of this CPU are made of; no other has it.
	Secret []byte
	// What is broken: no driver, no AESM service, no quoting enclave behind that service.
	NoDriver, NoAESM, NoQuotes bool
}

const (
	machineFile = "machine.json"
	intelFile   = "intel.json"
	signerFile  = "enclave-key.pem"
)

var le = binary.LittleEndian

// New makes a machine in an empty folder, and an Intel that has certified it. The commands
// are built.
func New(dir string) (*Machine, error) {
	intel, err := sgxtest.New(time.Now())
	if err != nil {
		return nil, err
	}
	m, err := newMachine(dir, intel)
	if err != nil {
		return nil, err
	}
	signer, err := sgxtest.NewSigner()
	if err != nil {
		return nil, err
	}
	return m, errors.Join(os.WriteFile(m.SignerKey(), signer.PEM(), 0o600), m.install())
}

// Other makes another machine of the same Intel, whose CPU seals otherwise. It has the same
// commands.
func (m *Machine) Other(dir string) (*Machine, error) {
	intel, err := m.Intel.Platform(func(i *sgxtest.Intel) { rand.Read(i.PPID[:]) })
	if err != nil {
		return nil, err
	}
	other, err := newMachine(dir, intel)
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(m.SignerKey())
	if err != nil {
		return nil, err
	}
	program := filepath.Join(other.Dir, "gramine")
	return other, errors.Join(os.WriteFile(other.SignerKey(), key, 0o600), os.Link(filepath.Join(m.Dir, "gramine"), program), other.scripts(program))
}

func newMachine(dir string, intel *sgxtest.Intel) (*Machine, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	m := &Machine{Dir: dir, Intel: intel, Secret: make([]byte, 32)}
	rand.Read(m.Secret)
	for _, sub := range []string{"bin", "root"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	return m, m.Save()
}

// Load returns the machine of a folder.
func Load(dir string) (*Machine, error) {
	m := &Machine{Dir: dir}
	data, err := os.ReadFile(filepath.Join(dir, machineFile))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, m); err != nil {
		return nil, err
	}
	if data, err = os.ReadFile(filepath.Join(dir, intelFile)); err != nil {
		return nil, err
	}
	m.Intel, err = sgxtest.Load(data)
	return m, err
}

// Save makes changes known to what runs there: AESM and quotes at once, the rest with the
// next launch.
func (m *Machine) Save() error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	intel, err := m.Intel.Save()
	if err != nil {
		return err
	}
	return errors.Join(replace(filepath.Join(m.Dir, machineFile), data), replace(filepath.Join(m.Dir, intelFile), intel))
}

// replace keeps a reader from half a file.
func replace(name string, data []byte) error {
	return errors.Join(os.WriteFile(name+".part", data, 0o600), os.Rename(name+".part", name))
}

// UpdateMicrocode raises the CPU's SVN, as an update does at the next start of the machine:
// Intel certifies it again, and all seal keys are others.
func (m *Machine) UpdateMicrocode() error {
	intel, err := m.Intel.Platform(func(i *sgxtest.Intel) { i.CPUSVN[0]++ })
	if err != nil {
		return err
	}
	m.Intel = intel
	return m.Save()
}

// SealKey is what EGETKEY gives to an enclave: 16 bytes by the CPU, its SVN, who the enclave
// is by the policy ("mrenclave" or "mrsigner"), its product, SVN, and whether it is debugged
// (Gramine: sgx_get_seal_key in pal/src/host/linux-sgx/enclave_framework.c).
func (m *Machine) SealKey(policy string, e sgxtest.Enclave) []byte {
	h := hmac.New(sha256.New, m.Secret)
	fmt.Fprintf(h, "seal, %s\n", policy)
	h.Write(m.Intel.CPUSVN[:])
	if policy == "mrenclave" {
		h.Write(e.MRENCLAVE[:])
	} else {
		h.Write(e.MRSIGNER[:])
	}
	for _, n := range []uint16{e.ProductID, e.SVN, uint16(e.Attributes[0] & 2)} {
		h.Write(le.AppendUint16(nil, n))
	}
	return h.Sum(nil)[:16]
}

// Collateral is what it takes to verify the quotes of the machine, in one file, and RootPEM
// the root for `--test-root`.
func (m *Machine) Collateral() ([]byte, error) { return m.Intel.Collateral() }

// RootPEM returns the root of the machine's Intel.
func (m *Machine) RootPEM() []byte { return m.Intel.RootPEM() }

// SignerKey is the file of the key that enclaves are signed with.
func (m *Machine) SignerKey() string { return filepath.Join(m.Dir, signerFile) }

// Path returns the folder with gramine-sgx and gramine-sgx-sign, for PATH.
func (m *Machine) Path() string { return filepath.Join(m.Dir, "bin") }

// Root returns where the root of an enclave is mounted, for its own processes alone.
func (m *Machine) Root() string { return filepath.Join(m.Dir, "root") }

// install builds the commands.
func (m *Machine) install() error {
	program := filepath.Join(m.Dir, "gramine")
	build := exec.Command("go", "build", "-o", program, "privyseal/test/sgx/gramine")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build gramine-sgx: %w\n%s", err, out)
	}
	return m.scripts(program)
}

func (m *Machine) scripts(program string) error {
	var all []error
	for _, name := range []string{"gramine-sgx", "gramine-sgx-sign"} {
		script := fmt.Sprintf("#!/bin/sh\nexec %q %s %q \"$@\"\n", program, name, m.Dir)
		all = append(all, os.WriteFile(filepath.Join(m.Path(), name), []byte(script), 0o700))
	}
	return errors.Join(all...)
}
