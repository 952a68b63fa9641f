// Command nitrocli takes nitro-cli's place in tests: it takes the same arguments
// and prints the same JSON, and boots enclaves in QEMU by way of test/nitro/rig, so
// that the shipped program can be run unchanged. rig.NewInstance sets it up.
//
// What it does and says is that of aws-nitro-enclaves-cli 1.5.0: test/nitro/manners has
// the errors, and each file here names the source that it follows. AWS's CBOR between
// nitro-cli and the processes of enclaves is lines of text here.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"

	"privyseal/test/nitro/manners"
	"privyseal/test/nitro/rig"
)

// cli is one call of nitro-cli.
type cli struct{ *rig.Instance }

// said is a failure that has been printed.
type said int

func (s said) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

func main() {
	if len(os.Args) < 4 || os.Args[1] != "--rig" {
		fmt.Fprintln(os.Stderr, "usage: nitrocli --rig DIR COMMAND …; rig.NewInstance writes a script that says so")
		os.Exit(2)
	}
	commands := map[string]func(*cli, []string) error{
		"run-enclave": (*cli).run, "describe-enclaves": (*cli).describe, "terminate-enclave": (*cli).terminate,
		"console": (*cli).console, "enclave-process": (*cli).process,
	}
	command := commands[os.Args[3]]
	switch {
	case os.Args[3] == "--version":
		fmt.Println("Nitro CLI 1.5.0")
		return
	case command == nil:
		fmt.Fprintf(os.Stderr, "error: unrecognized subcommand '%s'\n\nUsage: nitro-cli [COMMAND]\n\nFor more information, try '--help'.\n", os.Args[3])
		os.Exit(2)
	}
	i, err := rig.LoadInstance(os.Args[2])
	if err == nil {
		err = command(&cli{i}, os.Args[4:])
	}
	os.Exit(end(err))
}

// end prints why a call failed, and returns the exit status.
func end(err error) int {
	if err == nil {
		return 0
	}
	if s, ok := errors.AsType[said](err); ok {
		return int(s)
	}
	if f, ok := errors.AsType[manners.Failure](err); ok {
		text, status := f.CLI()
		fmt.Fprint(os.Stderr, text)
		return status
	}
	fmt.Fprintln(os.Stderr, "the rig:", err)
	return 100
}

// print is serde_json::to_string_pretty on a line of its own.
func print(v any) error {
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// flags parses arguments. One that is not known, and a required one that is missing, end
// the program as clap does: create_app in src/lib.rs.
func flags(name string, args []string, define func(*flag.FlagSet), required ...string) {
	set := flag.NewFlagSet(name, flag.ContinueOnError)
	set.SetOutput(new(nothing))
	define(set)
	err := set.Parse(args)
	if err == nil && set.NArg() > 0 {
		err = fmt.Errorf("unexpected argument '%s' found", set.Arg(0))
	}
	given := map[string]bool{}
	set.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for _, r := range required {
		if err == nil && !given[r] {
			err = fmt.Errorf("the following required arguments were not provided:\n  --%s <%s>", r, r)
		}
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\n\nUsage: nitro-cli %s\n\nFor more information, try '--help'.\n", err, name)
		os.Exit(2)
	}
}

type nothing struct{}

func (*nothing) Write(p []byte) (int, error) { return len(p), nil }
