//go:build linux

// Command gramine takes the place of gramine-sgx and gramine-sgx-sign in tests: it takes
// the same arguments and files, prints the same lines, and runs the program of a manifest
// without SGX, so that it is the shipped one, unchanged. Package rig sets it up, and says
// what of it is real.
//
// Where the real Gramine is installed, the command "direct" runs an enclave in its
// gramine-direct instead, with the files of /dev/attestation beside it.
//
// What it does and says is that of Gramine 1.9; each file names the sources that it follows.
// It is three processes: the one that was called, which hands on a SIGTERM and the exit
// status; one in namespaces of its own, which checks, mounts and serves /dev/attestation;
// and the program, below a root that has nothing else.
package main

import (
	"fmt"
	"os"
	"runtime"

	"privyseal/test/sgx/rig"
)

// Its children end with the thread that made them: all is made by the first one.
func init() { runtime.LockOSThread() }

// ofRig is the exit status of what would be no failure of Gramine.
const ofRig = 100

func main() {
	commands := map[string]func(*rig.Machine, []string) int{"gramine-sgx": launch, "inside": inside, "enter": enter, "gramine-sgx-sign": sign,
		"direct": direct, "beside": beside}
	if len(os.Args) < 3 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: gramine COMMAND DIR …; rig.New writes scripts that say so")
		os.Exit(2)
	}
	m, err := rig.Load(os.Args[2])
	if err != nil {
		os.Exit(ill(err))
	}
	os.Exit(commands[os.Args[1]](m, os.Args[3:]))
}

// lines is where Gramine's own lines go, and the rig's.
var lines = os.Stderr

// ill says that the rig does not work, and returns its exit status.
func ill(err error) int {
	fmt.Fprintln(lines, "the rig:", err)
	return ofRig
}

// say prints a line of Gramine itself: with log_always or log_error, on its stderr.
func say(format string, a ...any) { fmt.Fprintf(lines, format+"\n", a...) }
