// Package etcdtest runs real etcd clusters for tests, on loopback: with certificates and
// rights of their own, members that are killed, stopped, slowed down and restored, and a
// proxy that loses, delays and doubles what is sent to one of them. No program imports it.
package etcdtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// ErrMissing says that scripts/setup has not brought etcd.
var ErrMissing = errors.New("etcd is missing")

// errNoStrace says that nothing here makes a disk slow.
var errNoStrace = errors.New("no strace")

// Start runs a cluster until the test ends. Without etcd the test is skipped, or fails
// where PRIVYSEAL_REQUIRE_ETCD is 1.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	c, err := Launch(t.TempDir(), o)
	skipOrFail(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			for _, m := range c.members {
				t.Logf("the last that %s said:\n%s", m.name, m.log)
			}
		}
		c.Stop()
	})
	return c
}

func skipOrFail(t testing.TB, err error) {
	t.Helper()
	if (errors.Is(err, ErrMissing) || errors.Is(err, errNoStrace)) && os.Getenv("PRIVYSEAL_REQUIRE_ETCD") != "1" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// shared is the cluster of a test program.
var shared struct {
	main bool // Main runs
	once sync.Once
	c    *Cluster
	dir  string
	err  error
}

// Main runs the tests of a package of which some share a cluster, for TestMain. It returns
// the exit status.
func Main(m *testing.M) int {
	shared.main = true
	defer func() {
		if shared.c != nil {
			shared.c.Stop()
		}
		os.RemoveAll(shared.dir)
	}()
	return m.Run()
}

// Shared returns the cluster that the tests of this package share: three members, with TLS
// and users. It runs until Main returns. Who harms it repairs it.
func Shared(t testing.TB) *Cluster {
	t.Helper()
	if !shared.main {
		t.Fatal("the package has no TestMain that calls etcdtest.Main")
	}
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "etcdtest-"); shared.err == nil {
			shared.c, shared.err = Launch(shared.dir, Options{})
		}
	})
	skipOrFail(t, shared.err)
	return shared.c
}

// Prefix returns one below /privyseal/ that nobody else has, without a slash at the end.
func (c *Cluster) Prefix() string { return fmt.Sprintf("/privyseal/%d", c.prefixes.Add(1)) }

// Launch runs a cluster whose files lie in dir. The caller stops it.
func Launch(dir string, o Options) (*Cluster, error) {
	if o.Members == 0 {
		o.Members = 3
	}
	if o.Line == "" {
		o.Line = os.Getenv("PRIVYSEAL_ETCD_LINE")
	}
	bin, version, err := programs(o.Line)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Version: version, bin: bin, dir: dir, options: o, token: "etcdtest"}
	// A port that is free now may be taken when etcd asks for it.
	for range 5 {
		if err = c.found(); err == nil || !strings.Contains(err.Error(), "address already in use") {
			break
		}
	}
	if err == nil && !o.Plain {
		err = c.users()
	}
	if err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

// programs returns the folder with etcd's programs, and the version of a line.
func programs(line string) (bin, version string, err error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", "", err
	}
	setup := filepath.Join(dir, "scripts", "setup")
	for !isFile(setup) {
		if dir == filepath.Dir(dir) {
			return "", "", errors.New("no folder above this one has scripts/setup")
		}
		dir = filepath.Dir(dir)
		setup = filepath.Join(dir, "scripts", "setup")
	}
	list, err := exec.Command(setup, "list-etcd").Output()
	if err != nil {
		return "", "", fmt.Errorf("cannot run %s: %w", setup, err)
	}
	cure := "scripts/setup etcd"
	for i, known := range strings.Fields(string(list)) {
		if version == "" && (line == "" || strings.HasPrefix(known, "v"+line+".")) {
			version = known
			if i > 0 {
				cure = "scripts/setup etcd-lines"
			}
		}
	}
	out, err := exec.Command(setup, "bin").Output()
	if err != nil || version == "" {
		return "", "", fmt.Errorf("%s knows no etcd of the line %q: %w", setup, line, err)
	}
	bin = strings.TrimSpace(string(out))
	if !isFile(filepath.Join(bin, "etcd-"+version)) {
		return "", "", fmt.Errorf("%w in version %s; `%s` brings it", ErrMissing, version, cure)
	}
	return bin, version, nil
}

// Program returns the path of a program of etcd's newest line, such as etcdctl: ErrMissing.
func Program(name string) (string, error) {
	bin, version, err := programs("")
	return filepath.Join(bin, name+"-"+version), err
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// users makes the users root and signer, and has etcd ask for rights from then on.
func (c *Cluster) users() (err error) {
	for name, of := range map[string]*Files{"root": &c.Root, "signer": &c.Signer} {
		*of, err = c.CA.issue(clientTemplate(name))
		if err != nil {
			return err
		}
	}
	for _, line := range []string{
		"user add root --no-password", "role add root", "user grant-role root root",
		"user add signer --no-password", "role add signer", "user grant-role signer signer",
		"role grant-permission signer --prefix=true readwrite /privyseal/",
		"auth enable",
	} {
		if _, err := c.ctl(c.Endpoints(), strings.Fields(line)...); err != nil {
			return err
		}
	}
	return nil
}
