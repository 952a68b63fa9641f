// Command privyseal-enclave is the first and only process of a Nitro enclave,
// measured with the image. It has no flags and reads no environment: what it may
// do stands in the measured policy beside it.
package main

import (
	"fmt"
	"os"
	"runtime/debug"

	"privyseal/internal/enclave/nitro"
)

func main() {
	// A panic ends the first process, and with it the enclave. The trace goes to
	// the console, which a production enclave does not have.
	defer nitro.Halt()
	debug.SetTraceback("single")
	if err := nitro.Start(version()); err != nil {
		fmt.Fprintln(os.Stderr, "privyseal-enclave:", err)
	}
}

// version is that of the module: PCR1 is what identifies the measured program.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "devel"
	}
	return info.Main.Version
}
