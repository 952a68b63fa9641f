package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"privyseal/internal/config"
	"privyseal/internal/dynamostore/dynamotest"
	"privyseal/internal/etcd/etcdtest"
	"privyseal/internal/provider"
	"privyseal/internal/watermark"
)

// A move that is killed in any call which changes a file or sends something never leaves
// the state alive in both stores, and goes on when it is typed again.
func TestMoveKilledInEveryCall(t *testing.T) {
	needStrace(t)
	c := etcdtest.Start(t, etcdtest.Options{})
	flags := []string{"--etcd-ca-file", c.Signer.CA, "--etcd-certificate-file", c.Signer.Certificate, "--etcd-key-file", c.Signer.Key}
	for _, url := range c.Endpoints() {
		flags = append(flags, "--etcd-endpoints", url)
	}
	at := func(home string) []string { // below a prefix, a chain has one key
		return append(slices.Clone(flags), "--etcd-prefix", "/privyseal/"+filepath.Base(filepath.Dir(home))+"/"+filepath.Base(home))
	}
	killMoves(t, "etcd", at, []killing{
		{"to etcd", "etcd", func(t *testing.T, home string) { types(t, home, "init", "--node", "unix:///n") }},
		{"to etcd, where others have it", "etcd", func(t *testing.T, home string) {
			types(t, home, "init", "--node", "unix:///n")
			here := os.Getenv("PRIVYSEAL_RUN")
			t.Setenv("PRIVYSEAL_RUN", home+"-run") // another host
			types(t, home+"-other", append([]string{"init", "--node", "unix:///n", "--import-key", home + "/keys/c-1.key", "--after-height", "3", "--yes", "--store", "etcd"}, at(home)...)...)
			t.Setenv("PRIVYSEAL_RUN", here)
		}},
		{"to a file", "file", func(t *testing.T, home string) {
			types(t, home, append([]string{"init", "--node", "unix:///n", "--store", "etcd"}, at(home)...)...)
		}},
	})
}

// The same with a table of DynamoDB: the strict stub, without TLS.
func TestMoveToDynamoDBKilledInEveryCall(t *testing.T) {
	needStrace(t)
	stub := dynamotest.New(t)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request, err := io.ReadAll(r.Body)
		if err != nil { // the move was killed as it asked
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(request))
		stub.Config.Handler.ServeHTTP(w, r)
	}))
	t.Cleanup(plain.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	at := func(string) []string {
		return []string{"--dynamodb-table", dynamotest.Table, "--dynamodb-region", "eu-central-1", "--dynamodb-endpoint", plain.URL}
	}
	killMoves(t, "dynamodb", at, []killing{
		{"to DynamoDB", "dynamodb", func(t *testing.T, home string) { types(t, home, "init", "--node", "unix:///n") }},
		{"to a file", "file", func(t *testing.T, home string) {
			types(t, home, append([]string{"init", "--node", "unix:///n", "--store", "dynamodb"}, at(home)...)...)
		}},
	})
}

func needStrace(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		if os.Getenv("PRIVYSEAL_REQUIRE_ETCD") == "1" {
			t.Fatal(err)
		}
		t.Skip("strace is missing; `scripts/setup debian` brings it")
	}
}

// killing is a move, and how its home begins.
type killing struct {
	name, to string
	begin    func(t *testing.T, home string)
}

// killMoves kills moves between a file and a store that hosts share, whose flags are at.
func killMoves(t *testing.T, shared string, at func(home string) []string, list []killing) {
	for _, tt := range list {
		t.Run(tt.name, func(t *testing.T) {
			m := &killedMove{t: t, dir: diskDir(t), to: tt.to, shared: shared, flags: at, begin: tt.begin}
			for _, call := range []string{"fsync", "fdatasync", "renameat", "linkat", "unlinkat", "write"} {
				step := 1
				if call == "write" { // most of which are of TLS and of the runtime
					step = 5
				}
				for n := 1; m.killed(call, n); n += step {
				}
			}
			if m.cut == 0 {
				t.Error("no move was cut off")
			}
			t.Logf("%d moves were cut off, %d of them between the two states", m.cut, m.between)
		})
	}
}

// types runs a command for the chain c-1 of a home, which succeeds.
func types(t *testing.T, home string, args ...string) {
	t.Helper()
	var out bytes.Buffer
	args = append(args, "--home", home, "--chain-id", "c-1")
	if status := run(args, io.Discard, &out); status != 0 {
		t.Fatalf("%s: %d: %s", strings.Join(args, " "), status, out.String())
	}
}

type killedMove struct {
	t            *testing.T
	dir, to      string
	shared       string // the store that is no file
	flags        func(home string) []string
	begin        func(t *testing.T, home string)
	homes        int
	cut, between int
}

// killed begins with another home, kills a move in the n-th call of a name, and goes on with
// it. It reports whether there was such a call.
func (m *killedMove) killed(name string, n int) bool {
	m.homes++
	home := filepath.Join(m.dir, fmt.Sprint(m.homes))
	m.begin(m.t, home)
	types(m.t, home, "state", "raise", "--after-height", "7", "--yes")
	from := loadHome(m.t, home)

	cmd := exec.Command("strace", append([]string{"-f", "-qq", "-o", "/dev/null", "-e", "trace=" + name, "-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", name, n), "privyseal"}, append(m.words(home), "--home", home, "--chain-id", "c-1")...)...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	text, err := cmd.CombinedOutput()
	exit, _ := errors.AsType[*exec.ExitError](err)
	cut := exit != nil && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
	if err != nil && !cut {
		m.t.Fatalf("%s %d: %v: %s", name, n, err, text)
	}
	if cut {
		m.cut++
		m.atMostOne(home, from, fmt.Sprintf("killed in %s %d", name, n))
		m.again(home)
	}
	m.moved(home, from, fmt.Sprintf("after %s %d", name, n))
	return cut
}

// words are those of the move.
func (m *killedMove) words(home string) []string {
	words := []string{"state", "move", "--to", m.to, "--yes"}
	if _, there := loadHome(m.t, home).Tables[m.shared]["main"]; m.to == m.shared && !there {
		words = append(words, m.flags(home)...)
	}
	return words
}

// again types the move once more. One that was killed as the last thing was done already.
func (m *killedMove) again(home string) {
	m.t.Helper()
	var out bytes.Buffer
	status := run(append(m.words(home), "--home", home, "--chain-id", "c-1"), io.Discard, &out)
	if done := strings.Contains(out.String(), "already"); status != 0 && !done {
		m.t.Fatalf("again: %d: %s", status, out.String())
	}
}

func loadHome(t *testing.T, home string) *config.Config {
	t.Helper()
	c, err := build().House(home).Kinds.Load(filepath.Join(home, config.FileName))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// look returns whether the state that a config names can be used, and why not.
func (m *killedMove) look(c *config.Config) (provider.Info, error) {
	m.t.Helper()
	house := build().House(c.Path("."))
	public, err := house.Providers.Public(c, c.Chains[0])
	if err != nil {
		m.t.Fatal(err)
	}
	state, err := house.Stores.State(c, c.Chains[0], watermark.ID{ChainID: "c-1", Key: public.ID()})
	if err != nil {
		m.t.Fatal(err)
	}
	info, err := state.Inspect(context.Background())
	return info, errors.Join(err, info.Problem)
}

// target returns the config as it is to be.
func (m *killedMove) target(from *config.Config) *config.Config {
	to := *from
	to.Chains = append([]config.Chain{}, from.Chains...)
	to.Chains[0].Store, to.Chains[0].StoreTable = m.to, ""
	if m.to == m.shared {
		to.Chains[0].StoreTable = "main"
		to.Tables = loadHome(m.t, from.Path(".")).Tables
	}
	return &to
}

// atMostOne fails if this host could sign by both states.
func (m *killedMove) atMostOne(home string, from *config.Config, when string) {
	m.t.Helper()
	to := m.target(from)
	if m.to == m.shared && to.Tables[m.shared]["main"] == nil {
		return // it has not begun
	}
	_, before := m.look(from)
	_, after := m.look(to)
	if before == nil && after == nil {
		m.t.Fatalf("%s: the state lives in both stores", when)
	}
	if before != nil && after != nil {
		m.between++
	}
}

// moved fails unless the state is at the target alone, as the config says.
func (m *killedMove) moved(home string, from *config.Config, when string) {
	m.t.Helper()
	now := loadHome(m.t, home)
	info, err := m.look(now)
	if err != nil || info.Saved.Mark.Height != 7 || now.Chains[0].Store != m.to {
		m.t.Fatalf("%s: store %q, at %v: %v", when, now.Chains[0].Store, info.Saved.Mark, err)
	}
	if _, err := m.look(from); !errors.Is(err, provider.ErrExported) {
		m.t.Fatalf("%s: what it came from: %v", when, err)
	}
	if left, _ := filepath.Glob(filepath.Join(home, "state", "*.moving")); len(left) > 0 {
		m.t.Fatalf("%s: %q is left", when, left)
	}
}
