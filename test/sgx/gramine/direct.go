//go:build linux

package main

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"

	"golang.org/x/sys/unix"

	"privyseal/test/sgx/rig"
)

// direct runs the signed enclave of this folder by the real gramine-direct of $PATH, which is
// Gramine without SGX: it lacks the files of /dev/attestation, and we serve them. It takes the
// place of gramine-sgx, and needs a manifest that rig.WithAttestation has changed.
func direct(m *rig.Machine, args []string) int {
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, unix.SIGTERM)
	cmd := exec.Command("/proc/self/exe", append([]string{"beside", m.Dir}, args...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = rig.Namespaces()
	cmd.SysProcAttr.Setpgid, cmd.SysProcAttr.Pdeathsig = true, unix.SIGKILL
	if err := cmd.Start(); err != nil {
		return ill(err)
	}
	go func() {
		<-terminated
		cmd.Process.Signal(unix.SIGTERM)
	}()
	return status(cmd.Wait())
}

// beside is the process that mounts and serves the files, in mounts of its own.
func beside(m *rig.Machine, args []string) int {
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, unix.SIGTERM)
	folder, err := ofDirect(m, args[0])
	if err != nil {
		return ill(err)
	}
	defer os.RemoveAll(folder)
	e := &enclave{}
	if e.text, err = os.ReadFile(args[0] + ".manifest.sgx"); err != nil {
		return ill(err)
	}
	if e.manifest, err = rig.ParseManifest(e.text); err != nil {
		return ill(err)
	}
	sig, err := os.ReadFile(args[0] + ".sig")
	if err != nil {
		return ill(err)
	}
	if e.report, e.misc, err = rig.Signed(sig); err != nil {
		return ill(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return ill(err)
	}
	at := filepath.Join(folder, rig.AttestationFolder)
	if err := e.attestation(m, at); err != nil {
		return ill(err)
	}
	defer unix.Unmount(at, unix.MNT_DETACH)
	cmd := exec.Command("gramine-direct", args[0])
	cmd.Dir, cmd.Stdout, cmd.Stderr = folder, os.Stdout, os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		return ill(err)
	}
	go func() {
		<-terminated
		cmd.Process.Signal(unix.SIGTERM)
	}()
	return status(cmd.Wait())
}

// ofDirect makes a folder that has what gramine-direct opens: it takes the signed manifest
// under the name of one that is not.
func ofDirect(m *rig.Machine, name string) (folder string, err error) {
	if folder, err = os.MkdirTemp(m.Dir, "direct-"); err != nil {
		return "", err
	}
	for from, to := range map[string]string{name + ".manifest.sgx": name + ".manifest", rig.Program: rig.Program, "policy.json": "policy.json"} {
		data, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, to), data, 0o700)
		}
		if err != nil {
			return "", errors.Join(err, os.RemoveAll(folder))
		}
	}
	return folder, os.Mkdir(filepath.Join(folder, rig.AttestationFolder), 0o700)
}
