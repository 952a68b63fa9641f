package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"privyseal/test/nitro/manners"
	"privyseal/test/nitro/rig"
)

// runArguments are those of run-enclave, and what the enclave's process gets.
type runArguments struct {
	Image, Name  string
	Memory, CPUs int
	CID          uint
	Debug        bool
}

// word is what the process of an enclave sends to the nitro-cli that started it: text for
// stderr, and at its end the enclave, or why there is none.
type word struct {
	Stderr  string
	Enclave *rig.Enclave
	Failed  *manners.Failure
}

// run launches: the arm of run-enclave in src/main.rs.
func (c *cli) run(args []string) error {
	var a runArguments
	flags("run-enclave", args, func(f *flag.FlagSet) {
		f.StringVar(&a.Image, "eif-path", "", "")
		f.StringVar(&a.Name, "enclave-name", "", "")
		f.IntVar(&a.Memory, "memory", 0, "")
		f.IntVar(&a.CPUs, "cpu-count", 0, "")
		f.UintVar(&a.CID, "enclave-cid", 0, "")
		f.BoolVar(&a.Debug, "debug-mode", false, "")
	}, "eif-path", "memory", "cpu-count")
	if a.CID != 0 && a.CID < 4 {
		return manners.ReservedCID(a.CID)
	}
	names, err := c.names()
	if err != nil {
		return err
	}
	// new_enclave_name in src/lib.rs.
	if a.Name == "" {
		a.Name = strings.TrimSuffix(filepath.Base(a.Image), ".eif")
	}
	for i, name := 1, a.Name; slices.Contains(names, a.Name); i++ {
		a.Name = fmt.Sprintf("%s_%d", name, i)
	}
	e, err := c.spawn(a)
	if err != nil {
		return err
	}
	return print(struct {
		EnclaveName, EnclaveID string
		ProcessID              int
		EnclaveCID             uint
		NumberOfCPUs           int
		CPUIDs                 []int
		MemoryMiB              int
	}{e.EnclaveName, e.EnclaveID, e.ProcessID, e.EnclaveCID, e.NumberOfCPUs, e.CPUIDs, e.MemoryMiB})
}

// spawn starts the process that holds the enclave, prints what it says, and waits for its
// end of the launch: enclave_proc_spawn and enclave_process_handle_all_replies in
// src/enclave_proc_comm.rs.
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
	for d := json.NewDecoder(bufio.NewReader(read)); ; {
		var w word
		if err := d.Decode(&w); err != nil {
			return nil, fmt.Errorf("the enclave's process said nothing: %w", err)
		}
		switch {
		case w.Enclave != nil:
			return w.Enclave, nil
		case w.Failed != nil:
			text, status := w.Failed.Process()
			fmt.Fprint(os.Stderr, text)
			return nil, said(status)
		}
		fmt.Fprint(os.Stderr, w.Stderr)
	}
}
