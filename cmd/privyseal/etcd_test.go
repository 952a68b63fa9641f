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
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"privyseal/internal/etcd/etcdtest"
)

// Every script is a story of hosts that share a state in an etcd cluster of its own: of three
// members, or what its line "# cluster: members=N days=N FLAG…" says; the days are those of the members' certificates. Each home folder is a host:
// `host NAME` moves there.
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
	w := &etcdWorld{t: t, c: etcdtest.Start(t, clusterOf(t, script)), snapshots: map[string]string{}}
	testscript.Run(t, testscript.Params{
		Files:               []string{script},
		WorkdirRoot:         diskDir(t),
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PRIVYSEAL_RUN", filepath.Join(env.WorkDir, "run"))
			if strings.HasPrefix(filepath.Base(script), "sgx") {
				return errors.Join(w.setup(env), sgxSetup(env))
			}
			return errors.Join(w.setup(env), writeNitroParts(env.WorkDir), nitroSetup(env.Setenv, env.Defer))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "await": await, "replace": replace, "unlisten": unlisten, "cure": typeCure,
			"host": host, "etcd": w.etcd, "mode": mode,
		},
	})
}

// clusterOf returns what cluster a script has.
func clusterOf(t *testing.T, script string) (o etcdtest.Options) {
	text, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	words, is := strings.CutPrefix(line, "# cluster: ")
	if !is {
		return o
	}
	for word := range strings.FieldsSeq(words) {
		key, value, _ := strings.Cut(word, "=")
		n, err := strconv.Atoi(value)
		switch {
		case key == "members" && err == nil:
			o.Members = n
		case key == "days" && err == nil:
			o.Certificate = append(o.Certificate, func(c *x509.Certificate) { c.NotAfter = time.Now().AddDate(0, 0, n) })
		default:
			o.Flags = append(o.Flags, word)
		}
	}
	return o
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
	env.Setenv("ROOT", strings.TrimSuffix(w.c.Root.Certificate, ".pem"))
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

// cure types the commands of etcdctl in what was printed last.
func (w *etcdWorld) cure(ts *testscript.TestScript, words []string) {
	program, err := etcdtest.Program("etcdctl")
	ts.Check(err)
	commands := regexp.MustCompile("`(etcdctl [^`]+)`").FindAllStringSubmatch(ts.ReadFile("stdout")+ts.ReadFile("stderr"), -1)
	if len(commands) == 0 {
		ts.Fatalf("nothing to type in what was printed")
	}
	flags := " --endpoints " + strings.Join(w.c.Endpoints(), ",") + " --cacert " + w.c.CA.File + " --cert " + w.c.Root.Certificate + " --key " + w.c.Root.Key
	for _, c := range commands {
		command := program + strings.TrimPrefix(c[1], "etcdctl")
		if !strings.Contains(command, "--endpoints") { // those of who runs etcd
			command += flags
		}
		for _, a := range words {
			placeholder, value, _ := strings.Cut(a, "=")
			command = regexp.MustCompile(`\b`+placeholder+`\b`).ReplaceAllLiteralString(command, value)
		}
		ts.Check(ts.Exec("sh", "-c", command))
	}
}

// host NAME goes on as another host: one that knows of no signer on the others.
func host(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: host NAME")
	}
	ts.Setenv("PRIVYSEAL_RUN", ts.MkAbs("run-"+args[0]))
}

// etcd does something to the cluster: snapshot NAME, restore NAME, kill N, start N, plain
// VARIABLE (starts one of one member, without TLS), put FILE-WITH-KEY VALUE, copy
// FILE-WITH-KEY KEY, del FILE-WITH-KEY, damage FILE-WITH-KEY, clone FLOOR FLOOR, certify REQUEST FILE, ctl ARGUMENT…, cure WORD=VALUE… (types the commands
// of etcdctl that were printed last, as root, with words in their place), fill [N] (with so
// many values, or until it is full), learner N, renew N, server KIND VARIABLE
// (etcdservers_test.go).
func (w *etcdWorld) etcd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 || len(args) == 1 && args[0] != "cure" && args[0] != "fill" {
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
	case "copy": // the key is in a file, that of the copy in another one, or said
		to := args[2]
		if text, err := os.ReadFile(ts.MkAbs(to)); err == nil {
			to = strings.TrimSpace(string(text))
		}
		w.copy(ts, strings.TrimSpace(ts.ReadFile(args[1])), to)
	case "clone":
		w.clone(ts, args[1], args[2])
	case "damage": // the key is in a file
		w.damage(ts, strings.TrimSpace(ts.ReadFile(args[1])))
	case "del": // the key is in a file
		w.c.Ctl(w.t, "del", strings.TrimSpace(ts.ReadFile(args[1])))
	case "put": // the key is in a file
		w.c.Ctl(w.t, "put", strings.TrimSpace(ts.ReadFile(args[1])), args[2])
	case "cure":
		w.cure(ts, args[1:])
	case "fill":
		if len(args) == 1 {
			w.c.Fill(w.t)
			return
		}
		n, err := strconv.Atoi(args[1])
		ts.Check(err)
		for range n {
			w.c.Ctl(w.t, "put", "/filling", strings.Repeat("x", 120<<10))
		}
	case "renew": // the certificate of a member
		n, err := strconv.Atoi(args[1])
		ts.Check(err)
		w.c.Renew(w.t, n-1)
	case "learner": // instead of a voter
		n, err := strconv.Atoi(args[1])
		ts.Check(err)
		w.c.Remove(w.t, n-1)
		w.c.Join(w.t, n-1, "--learner")
		w.c.Await(w.t, n-1)
	case "server":
		w.server(ts, args[1], args[2])
	case "ctl":
		fmt.Fprint(ts.Stdout(), w.c.Ctl(w.t, args[1:]...))
	default:
		ts.Fatalf("etcd %s", args[0])
	}
}
