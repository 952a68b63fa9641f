// Package nitrohosttest is a nitro-cli for tests: the test binary itself, which hands its
// arguments to the test that runs, and prints what that answers.
package nitrohosttest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// socket is the variable that makes a test binary play nitro-cli.
const socket = "PRIVYSEAL_TEST_NITRO_CLI"

// Answer is what nitro-cli prints, and its exit status.
type Answer struct {
	Stdout, Stderr string
	Code           int
}

// Main is the TestMain of a package whose tests use this one.
func Main(m *testing.M) {
	if path := os.Getenv(socket); path != "" {
		os.Exit(play(path))
	}
	os.Exit(m.Run())
}

func play(path string) int {
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "AWS_") {
			fmt.Fprintln(os.Stderr, "nitro-cli was given", v)
			return 99
		}
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 98
	}
	defer conn.Close()
	var a Answer
	if err := errors.Join(json.NewEncoder(conn).Encode(os.Args[1:]), json.NewDecoder(conn).Decode(&a)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 97
	}
	fmt.Fprint(os.Stdout, a.Stdout)
	fmt.Fprint(os.Stderr, a.Stderr)
	return a.Code
}

// Serve answers each call of nitro-cli until the test ends, and returns nitro-cli's path. dir
// is a folder whose path is short enough for sockets.
func Serve(t *testing.T, dir string, answer func(args []string) Answer) (path string) {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "cli"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	t.Setenv(socket, l.Addr().String())
	t.Setenv("AWS_SECRET_ACCESS_KEY", "never for nitro-cli")
	t.Setenv("GORACE", "atexit_sleep_ms=0") // each nitro-cli would take a second to end
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				var args []string
				if json.NewDecoder(conn).Decode(&args) == nil && len(args) > 0 {
					json.NewEncoder(conn).Encode(answer(args))
				}
			}()
		}
	}()
	return path
}
