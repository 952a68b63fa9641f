// Command nitrocli takes nitro-cli's place in tests: it takes the same arguments
// and prints the same JSON, and boots enclaves in QEMU by way of test/nitro/rig, so
// that the shipped program can be run unchanged. rig.NewInstance sets it up.
//
// Shapes, texts and exit codes: src/common/json_output.rs, document_errors.rs and
// lib.rs of aws-nitro-enclaves-cli 1.4.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"privyseal/test/nitro/rig"
)

// failure is an error with nitro-cli's number, which is its exit code too.
type failure struct {
	code int
	text string
}

func (f failure) Error() string { return f.text }

const (
	missingArgument     = 1
	invalidArgument     = 3
	fileFailure         = 19
	insufficientCPUs    = 22
	memoryTooSmall      = 26
	memoryUnavailable   = 27
	startFailure        = 33
	bootFailure         = 36
	noEnclaveProcess    = 39
	socketNotFound      = 40
	consoleNotConnected = 44
)

func main() {
	if len(os.Args) < 4 || os.Args[1] != "--rig" {
		fmt.Fprintln(os.Stderr, "usage: nitrocli --rig DIR COMMAND …; rig.NewInstance writes a script that says so")
		os.Exit(2)
	}
	commands := map[string]func(*cli, []string) error{
		"run-enclave": (*cli).run, "describe-enclaves": (*cli).describe, "terminate-enclave": (*cli).terminate,
		"console": (*cli).console, "enclave-process": (*cli).serve,
	}
	command := commands[os.Args[3]]
	if command == nil {
		fmt.Fprintf(os.Stderr, "error: unrecognized subcommand '%s'\n", os.Args[3])
		os.Exit(2)
	}
	i, err := rig.LoadInstance(os.Args[2])
	if err == nil {
		err = command(&cli{i}, os.Args[4:])
	}
	if err == nil {
		return
	}
	code := 0
	if f, ok := errors.AsType[failure](err); ok {
		code = f.code
	}
	fmt.Fprintf(os.Stderr, "[ E%02d ] %v\n\nFor more details, please visit https://docs.aws.amazon.com/enclaves/latest/user/cli-errors.html#E%02d\n", code, err, code)
	os.Exit(max(code, 1))
}

type cli struct{ *rig.Instance }

func print(v any) error {
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// flags parses arguments; an unknown one ends the program as clap does.
func flags(name string, args []string, define func(*flag.FlagSet)) {
	set := flag.NewFlagSet(name, flag.ExitOnError)
	define(set)
	set.Parse(args)
	if set.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "error: unexpected argument '%s' found\n", set.Arg(0))
		os.Exit(2)
	}
}

// runArguments are those of run-enclave, and what the enclave's process gets.
type runArguments struct {
	Image, Name  string
	Memory, CPUs int
	CID          uint
	Debug        bool
}

func (c *cli) run(args []string) error {
	var a runArguments
	flags("run-enclave", args, func(f *flag.FlagSet) {
		f.StringVar(&a.Image, "eif-path", "", "")
		f.StringVar(&a.Name, "enclave-name", "", "")
		f.IntVar(&a.Memory, "memory", 0, "")
		f.IntVar(&a.CPUs, "cpu-count", 0, "")
		f.UintVar(&a.CID, "enclave-cid", 0, "")
		f.BoolVar(&a.Debug, "debug-mode", false, "")
	})
	if a.Image == "" || a.Memory == 0 || a.CPUs == 0 {
		return failure{missingArgument, "Missing mandatory argument. User must provide `eif-path`, `memory` and `cpu-count`."}
	}
	unlock, err := c.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	running, err := c.Enclaves()
	if err != nil {
		return err
	}
	if err := c.admit(&a, running); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "Start allocating memory...")
	e, err := c.spawn(a)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "Started enclave with enclave-cid: %d, memory: %d MiB, cpu-ids: %v\n", e.EnclaveCID, e.MemoryMiB, e.CPUIDs)
	return print(struct {
		EnclaveName, EnclaveID string
		ProcessID              int
		EnclaveCID             uint
		NumberOfCPUs           int
		CPUIDs                 []int
		MemoryMiB              int
	}{e.EnclaveName, e.EnclaveID, e.ProcessID, e.EnclaveCID, e.NumberOfCPUs, e.CPUIDs, e.MemoryMiB})
}

// admit checks what nitro-cli and the driver check, and chooses name and CID.
func (c *cli) admit(a *runArguments, running []rig.Enclave) error {
	info, err := os.Stat(a.Image)
	if err != nil {
		return failure{fileFailure, fmt.Sprintf("File operation failure. Such error appears when the system fails to perform the requested file operations: %v", err)}
	}
	mib := (info.Size() + 1<<20 - 1) >> 20
	memory, cpus := c.MemoryMiB, c.CPUs
	names, cids := []string{}, []uint{}
	for _, e := range running {
		memory -= e.MemoryMiB
		cpus -= e.NumberOfCPUs
		names = append(names, e.EnclaveName)
		cids = append(cids, e.EnclaveCID)
	}
	switch {
	case a.CID != 0 && a.CID < 4:
		return failure{invalidArgument, fmt.Sprintf("Invalid argument provided. The CID %d is reserved.", a.CID)}
	case a.Memory < 64:
		return failure{memoryTooSmall, "Insufficient memory requested. The minimum memory allowed is 64 MiB."}
	case int64(a.Memory) < 4*mib:
		return failure{memoryTooSmall, fmt.Sprintf("Insufficient memory requested. User provided `memory` is %d MB, but based on the EIF file size, the minimum memory should be %d MB", a.Memory, 4*mib)}
	case a.Memory > memory:
		return failure{memoryUnavailable, fmt.Sprintf("Insufficient memory available. User provided `memory` is %d MB, which is more than the available hugepage memory.", a.Memory)}
	case a.CPUs > cpus:
		return failure{insufficientCPUs, fmt.Sprintf("Insufficient CPUs available in the pool. User provided `cpu-count` is %d, which is more than the configured CPU pool size.", a.CPUs)}
	case slices.Contains(cids, a.CID):
		return failure{startFailure, "Enclave start ioctl failure: CID already in use"}
	}
	if a.Name == "" {
		a.Name = strings.TrimSuffix(filepath.Base(a.Image), ".eif")
	}
	for i, name := 0, a.Name; slices.Contains(names, a.Name); a.Name = fmt.Sprintf("%s_%d", name, i) {
		i++
	}
	for next := uint(16); a.CID == 0; next++ {
		if !slices.Contains(cids, next) {
			a.CID = next
		}
	}
	return nil
}

// spawn starts the process that holds the enclave, and waits for the heartbeat.
func (c *cli) spawn(a runArguments) (*rig.Enclave, error) {
	encoded, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	cmd := exec.Command(os.Args[0], "--rig", c.Dir, "enclave-process", string(encoded))
	cmd.ExtraFiles = []*os.File{write}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	write.Close()
	reply, err := io.ReadAll(read)
	if err != nil {
		return nil, err
	}
	var e rig.Enclave
	if err := json.Unmarshal(reply, &e); err != nil {
		cmd.Wait()
		return nil, failure{bootFailure, fmt.Sprintf("Enclave boot failure. Such error appears when attempting to receive the `ready` signal from a freshly booted enclave: %s", reply)}
	}
	return &e, nil
}

// serve is the process that holds an enclave until it ends or is ended.
func (c *cli) serve(args []string) error {
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	syscall.CloseOnExec(3) // QEMU would hold it open
	ready := os.NewFile(3, "ready")
	var a runArguments
	if err := json.Unmarshal([]byte(args[0]), &a); err != nil {
		return err
	}
	m, e, err := c.start(a)
	if err != nil {
		fmt.Fprint(ready, err)
		return err
	}
	defer c.Forget(e)
	if err := json.NewEncoder(ready).Encode(e); err != nil {
		m.Kill()
		return err
	}
	ready.Close()
	for {
		select {
		case <-m.Done():
			return nil
		case <-terminated:
			m.Kill()
			return nil
		case <-time.After(time.Second):
			if !rig.Alive(c.Owner) {
				m.Kill()
				return nil
			}
		}
	}
}

func (c *cli) start(a runArguments) (*rig.Machine, *rig.Enclave, error) {
	image, err := os.ReadFile(a.Image)
	if err != nil {
		return nil, nil, err
	}
	cpus := make([]int, a.CPUs)
	for i := range cpus {
		cpus[i] = 1 + 2*i
	}
	return c.Boot(image, rig.Enclave{
		EnclaveName: a.Name, ProcessID: os.Getpid(), EnclaveCID: a.CID,
		NumberOfCPUs: a.CPUs, CPUIDs: cpus, MemoryMiB: a.Memory, State: "RUNNING",
		Flags: map[bool]string{false: "NONE", true: "DEBUG_MODE"}[a.Debug],
	})
}

func (c *cli) describe(args []string) error {
	flags("describe-enclaves", args, func(f *flag.FlagSet) { f.Bool("metadata", false, "") })
	running, err := c.Enclaves()
	if err != nil {
		return err
	}
	return print(running)
}

func (c *cli) terminate(args []string) error {
	var id, name string
	var all bool
	flags("terminate-enclave", args, func(f *flag.FlagSet) {
		f.StringVar(&id, "enclave-id", "", "")
		f.StringVar(&name, "enclave-name", "", "")
		f.BoolVar(&all, "all", false, "")
	})
	running, err := c.Enclaves()
	if err != nil {
		return err
	}
	found := false
	for _, e := range running {
		if !all && e.EnclaveID != id && e.EnclaveName != name {
			continue
		}
		found = true
		syscall.Kill(e.ProcessID, syscall.SIGTERM)
		for rig.Alive(e.ProcessID) {
			time.Sleep(5 * time.Millisecond) // a process that is not a child of ours cannot be waited for
		}
		fmt.Fprintf(os.Stderr, "Successfully terminated enclave %s.\n", e.EnclaveID)
		err := print(struct {
			EnclaveName, EnclaveID string
			Terminated             bool
		}{e.EnclaveName, e.EnclaveID, true})
		if err != nil {
			return err
		}
	}
	if !found && !all {
		return failure{socketNotFound, "Failed to connect to enclave process. Such error appears when the enclave does not exist."}
	}
	return nil
}

// console copies the console of an enclave in debug mode, until it ends.
func (c *cli) console(args []string) error {
	var id, name string
	flags("console", args, func(f *flag.FlagSet) {
		f.StringVar(&id, "enclave-id", "", "")
		f.StringVar(&name, "enclave-name", "", "")
		f.Int("disconnect-timeout", 0, "")
	})
	running, err := c.Enclaves()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(running, func(e rig.Enclave) bool { return e.EnclaveID == id || name != "" && e.EnclaveName == name })
	switch {
	case i < 0:
		return failure{noEnclaveProcess, "Enclave process connection failure."}
	case running[i].Flags != "DEBUG_MODE":
		return failure{consoleNotConnected, "Enclave console connection failure: The enclave was not started with the debug flag set, include '--debug-mode' in the run-enclave command"}
	}
	fmt.Printf("Connecting to the console for enclave %d...\nSuccessfully connected to the console.\n", running[i].EnclaveCID)
	shown := 0
	for {
		alive := rig.Alive(running[i].ProcessID)
		all, err := os.ReadFile(c.ConsoleFile(running[i].EnclaveID))
		if err != nil {
			return err
		}
		if _, err := io.Copy(os.Stdout, bytes.NewReader(all[shown:])); err != nil {
			return err
		}
		shown = len(all)
		if !alive {
			return nil
		}
		time.Sleep(50 * time.Millisecond) // a growing file cannot be waited for
	}
}
