// Package world is an operator's world with SGX enclaves, for the tests in test/sgx/e2e and
// the demo: the shipped programs, a machine of test/sgx/rig, whoever keeps the recovery key,
// and real nodes of test/e2e/rig.
//
// It drives privyseal through its command line alone, as an operator does by doc/sgx.md.
package world

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	noderig "privyseal/test/e2e/rig"
	"privyseal/test/enclave"
	"privyseal/test/sgx/rig"
)

// World is one machine, and the desk of whoever keeps the recovery key and signs enclaves.
// Its folders are removed by Close.
type World struct {
	enclave.Site
	Machine *rig.Machine
	// Launcher takes the place of the machine's gramine-sgx; "" does not.
	Launcher string
	// RecoveryKey is a file on the desk, and Recovery its public half.
	RecoveryKey, Recovery string

	count int // of folders and files with numbers in their names
}

// New makes a world.
func New(ctx context.Context, p enclave.Programs) (w *World, err error) {
	w = &World{}
	if err := rig.Available(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			w.Close()
			w = nil
		}
	}()
	if w.Site, err = enclave.NewSite(p, "sgx"); err != nil {
		return w, err
	}
	if w.Machine, err = rig.New(filepath.Join(w.Dir, "machine")); err != nil {
		return w, err
	}
	if err := w.trust(); err != nil {
		return w, err
	}
	w.RecoveryKey = filepath.Join(w.Dir, "recovery.key")
	out, err := w.Run(ctx, "sgx", "recovery-key", w.RecoveryKey)
	w.Recovery = strings.TrimSpace(out)
	return w, err
}

// RootPath and Collateral are the files that verify the machine's quotes.
func (w *World) RootPath() string { return filepath.Join(w.Dir, "root.pem") }

// Collateral is the file of Intel's collateral.
func (w *World) Collateral() string { return filepath.Join(w.Dir, "platform.json") }

// trust writes what Intel says of the machine now.
func (w *World) trust() error {
	bundle, err := w.Machine.Collateral()
	return errors.Join(err, os.WriteFile(w.RootPath(), w.Machine.RootPEM(), 0o600), os.WriteFile(w.Collateral(), bundle, 0o600))
}

// next returns a path that is new.
func (w *World) next(name string) string {
	w.count++
	return filepath.Join(w.Dir, fmt.Sprintf("%s-%d", name, w.count))
}

// Enclave makes and signs the folder of an enclave, with a policy of the flags.
func (w *World) Enclave(ctx context.Context, flags ...string) (folder string, err error) {
	folder, err = w.Unsigned(ctx, flags...)
	if err != nil {
		return "", err
	}
	return folder, w.Machine.Sign(folder)
}

// Unsigned makes the folder of an enclave, for gramine-sgx-sign.
func (w *World) Unsigned(ctx context.Context, flags ...string) (folder string, err error) {
	policy, err := w.Run(ctx, append([]string{"sgx", "policy", "--recovery-key", w.Recovery, "--attestation-root", w.RootPath()}, flags...)...)
	if err != nil {
		return "", err
	}
	file := w.next("policy")
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		return "", err
	}
	folder = w.next("enclave")
	_, err = w.Run(ctx, "sgx", "manifest", "--policy", file, "--program", w.Programs.Enclave, "--out", folder)
	return folder, err
}

// Sigstruct is the file that says which enclave a folder has.
func Sigstruct(folder string) string { return filepath.Join(folder, rig.Name+".sig") }

// InitFlags are those of `privyseal init` for an enclave of the machine.
func (w *World) InitFlags(folder string) []string {
	launcher := w.Launcher
	if launcher == "" {
		launcher = filepath.Join(w.Machine.Path(), "gramine-sgx")
	}
	return []string{"--provider", "sgx", "--sgx-folder", folder, "--sgx-gramine-sgx", launcher, "--sgx-collateral", w.Collateral()}
}

// Move puts another CPU into the machine: where the program runs, nothing changes but that
// seal keys and the platform's certificate are others.
func (w *World) Move() error {
	other, err := w.Machine.Other(w.next("machine"))
	if err != nil {
		return err
	}
	w.Machine.Secret, w.Machine.Intel = other.Secret, other.Intel
	return errors.Join(w.Machine.Save(), w.trust())
}

// UpdateMicrocode updates the machine's microcode, and Intel's word on it.
func (w *World) UpdateMicrocode() error {
	return errors.Join(w.Machine.UpdateMicrocode(), w.trust())
}

// Recover brings the key of a chain back, by the steps of a person who has the recovery key
// elsewhere. More flags go to `privyseal sgx recover`.
func (w *World) Recover(ctx context.Context, s *noderig.Signer, c *enclave.Chain, folder string, more ...string) (string, error) {
	doc, wrapKey, external := w.next("wrap"), w.next("wrap-key"), w.next("external")
	if _, err := w.Run(ctx, "sgx", "cloud-wrap", "--home", s.Home, "--wrap-key", wrapKey, "--out", doc); err != nil {
		return "", err
	}
	backup := filepath.Join(s.Home, "keys", c.ID+".backup")
	if _, err := w.Run(ctx, "sgx", "open-backup", backup, "--recovery-key", w.RecoveryKey, "--to", doc, "--collateral", w.Collateral(), "--test-root", w.RootPath(), "--sigstruct", Sigstruct(folder),
		"--backup-of", c.Key.Base64(), "--out", external); err != nil {
		return "", err
	}
	return w.Run(ctx, append([]string{"sgx", "recover", "--home", s.Home, "--chain-id", c.ID, "--wrap-key", wrapKey, "--encrypted-key", external, "--yes"}, more...)...)
}

// Verify verifies a document of a chain's key, or of the identity if c is nil, as somebody
// elsewhere does.
func (w *World) Verify(ctx context.Context, doc, folder string, c *enclave.Chain, more ...string) (string, error) {
	args := append([]string{"verify", doc, "--collateral", w.Collateral(), "--test-root", w.RootPath(), "--sigstruct", Sigstruct(folder)}, more...)
	if c != nil {
		args = append(args, "--chain-id", c.ID, "--public-key", c.Key.Base64())
	}
	return w.Run(ctx, args...)
}
