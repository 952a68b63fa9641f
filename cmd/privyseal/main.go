// Command privyseal signs the blocks of CometBFT validators, and never two
// conflicting ones.
//
// This package is the program: its main, the exit statuses, and house.go, the one table
// of providers. The operator's commands are in internal/command, the signer that runs in
// internal/daemon; what is signed is decided in internal/signer and internal/watermark.
//
// Results go to standard output, everything else to standard error. Errors are
// lower-case, start with "privyseal: " and end with the next thing to type.
package main

import (
	"errors"
	"io"
	"os"
	"runtime"

	"privyseal/internal/cli"
	"privyseal/internal/command"
	"privyseal/internal/config"
	"privyseal/internal/daemon"
	"privyseal/internal/home"
	"privyseal/internal/migrate"
	"privyseal/internal/provider"
)

// The main goroutine keeps the first thread of the process, and sleeps on it: the kernel
// hands SIGTERM to that thread, and it would not be served if the thread waited for a file
// server that is gone.
func init() { runtime.LockOSThread() }

func main() {
	go func() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }()
	select {}
}

// run is main without the exit.
func run(args []string, stdout, stderr io.Writer) int {
	b := build()
	root := command.NewRoot(b)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := cli.NoSuchCommand(root, args)
	if err == nil {
		err = root.Execute()
	}
	if err == nil {
		return cli.Done
	}
	if text := err.Error(); text != "" {
		a := b.House(root.PersistentFlags().Lookup("home").Value.String())
		io.WriteString(stderr, command.Complaint(stderr, a.InHome(text)))
	}
	return exitStatus(err)
}

// exitStatus maps an error to the status of the process.
func exitStatus(err error) int {
	var usage cli.UsageError
	var wrong cli.ConfigError
	var mistakes *config.Error
	var act cli.ActError
	var refused *home.Refusal
	var noState *migrate.StateError
	var live *migrate.LiveError
	switch {
	case err == nil:
		return cli.Done
	case daemon.MayPass(err):
		return cli.Failed
	case errors.As(err, &usage):
		return cli.WrongUsage
	case errors.As(err, &wrong), errors.As(err, &mistakes):
		return cli.WrongConfig
	case errors.As(err, &act), errors.As(err, &refused), errors.As(err, &noState), errors.As(err, &live), provider.StateRefused(err):
		return cli.MustAct
	}
	return cli.Failed
}
