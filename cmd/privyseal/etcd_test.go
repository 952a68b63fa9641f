package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"privyseal/internal/etcd/etcdtest"
)

// Every script is a story of hosts that share a state in an etcd cluster of its own. Each
// home folder is a host: `host NAME` moves there.
func TestEtcdScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/etcd/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatal(err)
	}
	for _, script := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(script), ".txtar"), func(t *testing.T) {
			t.Parallel()
			playEtcd(t, script)
		})
	}
}

func playEtcd(t *testing.T, script string) {
	w := &etcdWorld{t: t, c: etcdtest.Start(t, etcdtest.Options{}), snapshots: map[string]string{}}
	testscript.Run(t, testscript.Params{
		Files:               []string{script},
		WorkdirRoot:         diskDir(t),
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PRIVYSEAL_RUN", filepath.Join(env.WorkDir, "run"))
			return errors.Join(w.setup(env), writeNitroParts(env.WorkDir), nitroSetup(env.Setenv, env.Defer))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "await": await, "replace": replace, "unlisten": unlisten, "cure": typeCure,
			"host": host, "etcd": w.etcd, "mode": mode,
		},
	})
}

// etcdWorld is the cluster of a script.
type etcdWorld struct {
	t         *testing.T
	c         *etcdtest.Cluster
	snapshots map[string]string
}

// setup puts the files of our user beside the script, and the flags that name the cluster
// into $ETCD, as words for a shell.
func (w *etcdWorld) setup(env *testscript.Env) error {
	var err error
	ours := w.c.CA.Client(w.t, "signer", func(c *x509.Certificate) { c.NotAfter = c.NotAfter.AddDate(1, 0, 0) })
	for name, from := range map[string]string{"ca.pem": ours.CA, "client.pem": ours.Certificate, "client.key": ours.Key} {
		text, readErr := os.ReadFile(from)
		err = errors.Join(err, readErr, os.WriteFile(filepath.Join(env.WorkDir, name), text, 0o600))
	}
	for i, url := range w.c.Endpoints() {
		env.Setenv(fmt.Sprintf("E%d", i+1), url)
	}
	at, urlErr := url.Parse(w.c.Endpoints()[0])
	if urlErr != nil {
		return urlErr
	}
	env.Setenv("SERVER", at.Hostname())
	env.Setenv("CLUSTER", regexp.MustCompile(`"cluster_id":"([0-9a-f]+)"`).FindStringSubmatch(w.c.Ctl(w.t, "member", "list", "--write-out=json", "--hex"))[1])
	env.Setenv("OTHER_CA", etcdtest.NewCA(w.t).File)
	for name, of := range map[string]etcdtest.Files{
		"SHORT": w.c.Signer, "EXPIRED": w.c.CA.Client(w.t, "signer", etcdtest.Expired), "NOBODY": w.c.CA.Client(w.t, "nobody"),
		"STRANGER": etcdtest.NewCA(w.t).Client(w.t, "signer"),
		"EARLY":    w.c.CA.Client(w.t, "signer", etcdtest.Early),
	} {
		env.Setenv(name, strings.TrimSuffix(of.Certificate, ".pem"))
	}
	return err
}

// host NAME goes on as another host: one that knows of no signer on the others.
func host(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: host NAME")
	}
	ts.Setenv("PRIVYSEAL_RUN", ts.MkAbs("run-"+args[0]))
}

// etcd does something to the cluster: snapshot NAME, restore NAME, kill N, start N, plain
// VARIABLE (starts one of one member, without TLS), put FILE-WITH-KEY VALUE, certify REQUEST
// FILE, ctl ARGUMENT…, server KIND VARIABLE (etcdservers_test.go).
func (w *etcdWorld) etcd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: etcd snapshot|restore|ctl …")
	}
	switch args[0] {
	case "snapshot":
		w.snapshots[args[1]] = w.c.Snapshot(w.t)
	case "restore":
		w.c.Restore(w.t, w.snapshots[args[1]], etcdtest.Restored{})
	case "kill", "start":
		n, err := strconv.Atoi(args[1])
		ts.Check(err)
		if args[0] == "kill" {
			w.c.Kill(n - 1)
		} else {
			w.c.Restart(w.t, n-1)
		}
	case "plain":
		ts.Setenv(args[1], etcdtest.Start(w.t, etcdtest.Options{Members: 1, Plain: true}).Endpoints()[0])
	case "certify": // a certificate request, to a file
		ts.Check(os.WriteFile(ts.MkAbs(args[2]), w.c.CA.Certify(w.t, []byte(ts.ReadFile(args[1]))), 0o600))
	case "put": // the key is in a file
		w.c.Ctl(w.t, "put", strings.TrimSpace(ts.ReadFile(args[1])), args[2])
	case "server":
		w.server(ts, args[1], args[2])
	case "ctl":
		fmt.Fprint(ts.Stdout(), w.c.Ctl(w.t, args[1:]...))
	default:
		ts.Fatalf("etcd %s", args[0])
	}
}
