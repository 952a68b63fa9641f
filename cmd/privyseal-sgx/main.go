// Command privyseal-sgx is the program of an SGX enclave, run by Gramine. It has no flags, and
// reads one variable of the environment, by which the host says where it listens: what it
// may do stands in the measured policy beside it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"privyseal/internal/enclave/sgx"
)

func main() {
	// Gramine hands on one SIGTERM.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	debug.SetTraceback("single")
	if err := sgx.Start(ctx, version()); err != nil {
		fmt.Fprintln(os.Stderr, "privyseal-sgx:", err)
		os.Exit(1)
	}
}

// version is that of the module: MRENCLAVE is what identifies the measured program.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "devel"
	}
	return info.Main.Version
}
