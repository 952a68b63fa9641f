//go:build linux

package main

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"privyseal/test/sgx/rig"
)

// launch is tools/gramine.in, up to where it becomes the loader, which then is the process
// of the enclave: what ends this one ends all.
func launch(m *rig.Machine, args []string) int {
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, unix.SIGTERM)
	switch {
	case len(args) == 0 || args[0] == "":
		say("Usage: gramine-sgx [<application>] <args>...")
		return 2
	case args[0] == "--version":
		os.Stdout.WriteString("Gramine 1.9 (8e0e17e3c7869f13b32d89b722281fc3c494731f)\n")
		return 0
	}
	if _, err := os.Stat(args[0] + ".manifest.sgx"); err != nil {
		say("Invalid application path specified (%s.manifest.sgx does not exist).\n"+
			"The path should point to application configuration files, so that they can be\n"+
			"found after appending corresponding extensions.", args[0])
		return 2
	}
	// The pipe takes the one SIGTERM inside.
	r, w, err := os.Pipe()
	if err != nil {
		return ill(err)
	}
	cmd := exec.Command("/proc/self/exe", append([]string{"inside", m.Dir}, args...)...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = os.Stdout, os.Stderr, []*os.File{r}
	cmd.SysProcAttr = rig.Namespaces()
	// A group of its own: a signal to ours comes by way of us.
	cmd.SysProcAttr.Setpgid, cmd.SysProcAttr.Pdeathsig = true, unix.SIGKILL
	if err := cmd.Start(); err != nil {
		return ill(err)
	}
	r.Close()
	go func() {
		<-terminated // the next one is swallowed (libos/src/bookkeep/libos_signal.c)
		w.Write([]byte{1})
	}()
	return status(cmd.Wait())
}

// status is the exit status for how a child ended. One that was killed takes us along.
func status(err error) int {
	exit, ok := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return 0
	case !ok:
		return ill(err)
	}
	w := exit.Sys().(syscall.WaitStatus)
	if w.Signaled() && w.Signal() == unix.SIGKILL {
		unix.Kill(os.Getpid(), unix.SIGKILL)
	}
	if w.Signaled() { // libos/src/sys/libos_exit.c
		return 128 + int(w.Signal())
	}
	return w.ExitStatus()
}
