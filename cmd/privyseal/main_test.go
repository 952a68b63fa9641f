package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"privyseal/internal/filestore/filestoretest"
	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/privval"
	"privyseal/internal/privval/privvaltest"
)

// patience bounds the wait for what has to happen, however busy the machine is.
// Nothing is asserted of it.
const patience = time.Minute

// The test binary is privyseal and, under the name node, what a node does.
func TestMain(m *testing.M) {
	testscript.Main(alone{m}, map[string]func(){
		"privyseal": main, "node": node,
		"nitro-cli": fakenitrocli, "nitro-cli-by-hand": nitroCLI, "enclave": fakeenclave, "aws-encrypt": awsencrypt,
		"hide-a-program": hideAProgram, "aws": awsCLI,
	})
}

// scratch is a folder for what several tests share.
var scratch string

// alone runs the tests with a host that remembers nothing of earlier ones.
type alone struct{ testscript.TestingM }

func (a alone) Run() int {
	dir, err := os.MkdirTemp("", "privyseal-run-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	os.Setenv("PRIVYSEAL_RUN", filepath.Join(dir, "run"))
	if err := os.Mkdir(filepath.Join(dir, "run"), 0o700); err != nil {
		log.Fatal(err)
	}
	scratch = dir
	return a.TestingM.Run()
}

// Every script is a story of commands in a folder of its own.
func TestScripts(t *testing.T) {
	device := yubihsmtest.New(t, yubihsmtest.Options{}) // $YUBIHSM
	device.ProvisionAuth(t, 4, "four", yubihsmtest.CanSignEdDSA)
	device.ProvisionEd25519(t, 7)
	const makes = yubihsmtest.CanSignEdDSA | yubihsmtest.CanGenerateAsymmetric | yubihsmtest.CanPutAsymmetric | yubihsmtest.CanAttest | yubihsmtest.CanGetOpaque
	device.Provision(t, yubihsmtest.Object{Type: yubihsmtest.AuthenticationKey, ID: 2, Algorithm: yubihsmtest.AES128Auth, Capabilities: makes, Delegated: makes}, []byte("two"))
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		WorkdirRoot:         diskDir(t),
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PRIVYSEAL_RUN", filepath.Join(env.WorkDir, "run"))
			env.Setenv("YUBIHSM", device.URL())
			return errors.Join(writeAttestations(env.WorkDir, device), copyOld(filepath.Join(env.WorkDir, "old")), writeNitroParts(env.WorkDir), nitroVectors(env.WorkDir),
				nitroSetup(env.Setenv, env.Defer))
		},
		Condition: func(name string) (bool, error) {
			switch name {
			case "root":
				return os.Geteuid() == 0, nil
			case "vectors":
				_, err := os.Stat("../../../shared/vectors/nitro")
				if err != nil && os.Getenv("PRIVYSEAL_REQUIRE_VECTORS") != "1" {
					return false, nil
				}
				return true, err
			case "shm":
				info, err := os.Stat("/dev/shm")
				return err == nil && info.IsDir(), nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":    exits,
			"await":    await,
			"replace":  replace,
			"unlisten": unlisten,
			"mode":     mode,
			"cure":     typeCure,
		},
	})
}

// writeAttestations writes what a real device attests, recorded.pem, and the certificates
// above a simulated one, root.pem and sub-ca.pem.
func writeAttestations(dir string, d *yubihsmtest.Device) error {
	recorded, err := os.ReadFile("../../internal/yubico/testdata/device-31650425_p256-key-0x7e57_of-blechschmidt-secsy-pki.pem")
	root, middle := d.Root()
	for name, c := range map[string]*x509.Certificate{"root.pem": root, "sub-ca.pem": middle} {
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	return errors.Join(err, os.WriteFile(filepath.Join(dir, "recorded.pem"), recorded, 0o600))
}

// copyOld puts the installations of other signers into dir, as they are on a
// host where they were stopped an hour ago.
func copyOld(dir string) error {
	if err := os.CopyFS(dir, os.DirFS("../../internal/migrate/testdata")); err != nil {
		return err
	}
	stopped := time.Now().Add(-time.Hour)
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		return errors.Join(os.Chmod(path, 0o600), os.Chtimes(path, stopped, stopped))
	})
}

// diskDir returns a folder on a disk, which is removed after the test.
func diskDir(t *testing.T) string {
	t.Helper()
	return filestoretest.Folder(t)
}

// cure [with=WORDS] [PLACEHOLDER=VALUE…] types the last command (that has these words) that is
// in backticks in what the last one has printed, its placeholders replaced, as an operator
// pastes it.
func typeCure(ts *testscript.TestScript, neg bool, args []string) {
	commands := regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(ts.ReadFile("stdout")+ts.ReadFile("stderr"), -1)
	if len(args) > 0 && strings.HasPrefix(args[0], "with=") {
		words := strings.TrimPrefix(args[0], "with=")
		commands = slices.DeleteFunc(commands, func(c []string) bool { return !strings.Contains(c[1], words) })
		args = args[1:]
	}
	if len(commands) == 0 {
		ts.Fatalf("nothing to type in what was printed")
	}
	command := commands[len(commands)-1][1]
	for _, a := range args {
		placeholder, value, _ := strings.Cut(a, "=")
		if !regexp.MustCompile(`\b` + placeholder + `\b`).MatchString(command) {
			ts.Fatalf("no %s in %s", placeholder, command)
		}
		command = regexp.MustCompile(`\b`+placeholder+`\b`).ReplaceAllLiteralString(command, value)
	}
	if err := ts.Exec("sh", "-c", command); (err != nil) != neg {
		ts.Fatalf("%s: %v", command, err)
	}
}

// exits STATUS COMMAND… runs the command and compares its exit status.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS COMMAND [ARGUMENT…]")
	}
	status := 0
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("cannot run %s: %v", args[1], err)
	}
	if want := args[0]; want != strconv.Itoa(status) {
		ts.Fatalf("exit status %d, want %s", status, want)
	}
}

// await PATTERN COMMAND… runs the command until its output has the pattern.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: await TEXT COMMAND [ARGUMENT…]")
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		_ = ts.Exec(args[1], args[2:]...) // it may fail until it does not
		if strings.Contains(ts.ReadFile("stdout"), args[0]) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("%s never printed %q", args[1], args[0])
}

// replace FILE OLD NEW changes a text in a file, which must be there.
func replace(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: replace FILE OLD NEW")
	}
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	if !bytes.Contains(data, []byte(args[1])) {
		ts.Fatalf("%s does not hold %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(path, bytes.Replace(data, []byte(args[1]), []byte(args[2]), 1), 0o600))
}

// unlisten FILE switches the metrics of a config off: their port may be another
// program's, or another test's.
func unlisten(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: unlisten FILE")
	}
	ts.Check(noListen(ts.MkAbs(args[0])))
}

func noListen(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	changed := listenLine.ReplaceAll(text, []byte(`listen = ""`))
	if bytes.Equal(changed, text) {
		return fmt.Errorf("%s does not say where to listen", path)
	}
	return os.WriteFile(path, changed, 0o600)
}

var listenLine = regexp.MustCompile(`(?m)^listen = "[^"]*"`)

// mode FILE MODE compares the mode of a file.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode FILE MODE")
	}
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[1] {
		ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
	}
}

// node SOCKET CHAIN-ID HEIGHT… waits for a signer on a unix socket, has it sign
// a prevote for nil at each height, prints a line for each answer, and pings
// until the signer goes or SIGINT comes.
func node() {
	if err := runNode(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		os.Exit(1)
	}
}

func runNode(socket, chainID string, heights []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	defer l.Close()
	context.AfterFunc(ctx, func() { l.Close() })
	conn, err := l.Accept()
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	requests := []privval.Request{{Kind: privval.KindPubKey, ChainID: chainID}}
	for _, text := range heights {
		height, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return err
		}
		requests = append(requests, privval.Request{Kind: privval.KindPrevote, ChainID: chainID, Height: height})
	}
	for _, req := range requests {
		resp, err := privvaltest.Call(conn, r, req)
		if err != nil {
			return err
		}
		answer := "signed"
		if resp.Refused != "" {
			answer = resp.Refused
		}
		fmt.Printf("%s %d: %s\n", req.Kind, req.Height, answer)
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if _, err := privvaltest.Call(conn, r, privval.Request{Kind: privval.KindPing}); err != nil {
				return nil // the signer was stopped
			}
		}
	}
}
