// Command bench measures privyseal beside what it has to be compared with, in
// one run on one disk, and prints a table: doc/performance.md explains each row.
//
// It is not a test: a slow machine, or a busy one, is no fault of the program, so
// a missed bound is said and the exit status is 0. It fails only if it cannot
// measure.
//
// It trusts the privyseal and the node that it is given. Everything that it
// makes is in a folder of its own, which it removes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is what the measurements share.
type bench struct {
	privyseal string // path of the binary
	root      string // of the repository, for scripts/setup
	dir       string // an empty folder on the disk under measurement
	sockets   string // an empty folder with a short name; sockets need no disk
}

// sections are the measurements in the order of the table.
var sections = []struct {
	name string
	run  func(*bench, context.Context) ([]row, error)
}{
	{"latency", (*bench).latency},
	{"neighbours", (*bench).neighbours},
	{"chain", (*bench).chain},
	{"memory", (*bench).memory},
	{"start", (*bench).start},
	{"watched", (*bench).watched},
	{"many", (*bench).many},
	{"crowded", (*bench).crowded},
	{"yubihsm", (*bench).slow},
	{"clients", (*bench).clients},
	{"vault", (*bench).vault},
	{"sgx", (*bench).sgx},
	{"etcd", (*bench).etcd},
	{"hosts", (*bench).hosts},
	{"gaps", (*bench).gaps},
	{"distance", (*bench).distance},
}

// names returns the names of all sections, as -only has them.
func names() string {
	list := make([]string, len(sections))
	for i, s := range sections {
		list[i] = s.name
	}
	return strings.Join(list, ",")
}

func run() error {
	privyseal := flag.String("privyseal", "", "the binary to measure; required")
	dir := flag.String("dir", ".", "a folder on the disk to measure on")
	root := flag.String("root", filepath.Join("..", ".."), "the repository")
	only := flag.String("only", names(), "what to measure, separated by commas")
	device := flag.String("sign-on", "", "do nothing but sign on the YubiHSM at this address: what the section clients runs")
	partner := flag.String("echo-to", "", "do nothing but send back what comes from this address: what the section sgx runs")
	flag.Parse()
	if *device != "" {
		return signOn(*device, os.Stdin, os.Stdout)
	}
	if *partner != "" {
		return echo(*partner)
	}
	if *privyseal == "" || flag.NArg() > 0 {
		flag.Usage()
		return errors.New("say what to measure: -privyseal PATH")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()

	b := &bench{}
	var err error
	if b.privyseal, err = filepath.Abs(*privyseal); err != nil {
		return err
	}
	if b.root, err = filepath.Abs(*root); err != nil {
		return err
	}
	disk, err := diskOf(*dir)
	if err != nil {
		return err
	}
	remove, err := b.makeFolders(*dir)
	if err != nil {
		return err
	}
	defer remove()
	os.Setenv("PRIVYSEAL_RUN", b.sockets) // not the host's own memory of its signers
	fmt.Println(machine(disk))

	var rows []row
	for _, s := range sections {
		if !slices.Contains(strings.Split(*only, ","), s.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "bench: %s …\n", s.name)
		more, err := s.run(b, ctx)
		if err != nil {
			return fmt.Errorf("cannot measure %s: %w", s.name, err)
		}
		rows = append(rows, more...)
	}
	return printTable(os.Stdout, rows)
}

func (b *bench) makeFolders(parent string) (remove func(), err error) {
	if b.dir, err = os.MkdirTemp(parent, "bench-"); err != nil {
		return nil, err
	}
	if b.dir, err = filepath.Abs(b.dir); err != nil {
		return nil, err
	}
	if b.sockets, err = os.MkdirTemp("", "bench-"); err != nil {
		return nil, errors.Join(err, os.RemoveAll(b.dir))
	}
	return func() {
		os.RemoveAll(b.dir)
		os.RemoveAll(b.sockets)
	}, nil
}

// path returns where a thing called name is on the measured disk.
func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// socket returns the address of a unix socket.
func (b *bench) socket(name string) string { return filepath.Join(b.sockets, name) }

// output runs a command to its end. Its error holds what the command printed.
func output(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
