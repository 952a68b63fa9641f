package etcdtest

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Options say what cluster it is; the zero value is one of three members of the newest
// line, with TLS and users.
type Options struct {
	Members int      // 3, unless said
	Line    string   // such as "3.6"; unless said that of PRIVYSEAL_ETCD_LINE, or the newest
	Plain   bool     // neither TLS nor users
	CA      *CA      // whose certificates all have; unless said one of its own
	Flags   []string // of each member, beside ours; the last one counts
	// Certificate changes those of the members before they are signed.
	Certificate []func(*x509.Certificate)
	// Apart is how much later what one member sends another arrives; 0: at once.
	Apart time.Duration
}

// Cluster is a cluster that runs until Stop. Members are numbered from 0.
type Cluster struct {
	CA      *CA
	Root    Files  // the certificate of the user root
	Signer  Files  // the certificate of the user signer, who may read and write below /privyseal/
	Version string // such as v3.7.3

	dir, host string
	bin       string
	options   Options
	token     string
	members   []*member
	links     []*longLink // to members from the others
	prefixes  atomic.Int64
}

// Endpoints returns the URLs of all members, in their order.
func (c *Cluster) Endpoints() (urls []string) {
	for _, m := range c.members {
		urls = append(urls, c.url(m.client))
	}
	return urls
}

// Server returns the certificate of a server at an address, as the members have them.
// Changes to the template are made before it is signed.
func (c *Cluster) Server(t testing.TB, host string, changes ...func(*x509.Certificate)) Files {
	t.Helper()
	files, err := c.CA.server([]string{host}, changes...)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// found makes certificates and members, and starts them for the first time.
func (c *Cluster) found() error {
	c.Stop()
	dir, err := os.MkdirTemp(c.dir, "cluster-")
	if err != nil {
		return err
	}
	ports, err := c.ports(2 * c.options.Members)
	if err == nil {
		c.CA = c.options.CA
	}
	if err == nil && c.CA == nil {
		c.CA, err = newCA(dir)
	}
	if err != nil {
		return err
	}
	c.members = nil
	for i := range c.options.Members {
		m := &member{name: fmt.Sprintf("member%d", i), client: ports[2*i], peer: ports[2*i+1], dir: dir, version: c.Version, log: &tail{}}
		if m.certificate, err = c.CA.server([]string{c.host, "127.0.0.1"}, c.options.Certificate...); err != nil {
			return err
		}
		if err := c.reach(m); err != nil {
			return err
		}
		c.members = append(c.members, m)
	}
	return c.run(c.all(), "--initial-cluster-state", "new")
}

// reach sets by what address the others reach a member.
func (c *Cluster) reach(m *member) error {
	m.reached = m.peer
	if c.options.Apart == 0 {
		return nil
	}
	l, err := newLink(c.host, m.peer, c.options.Apart)
	if err == nil {
		m.reached = l.addr()
		c.links = append(c.links, l)
	}
	return err
}

func (c *Cluster) all() (list []int) {
	for i := range c.members {
		list = append(list, i)
	}
	return list
}

// ports returns addresses that are free. While a member is down nobody may take its port:
// so each cluster has a loopback address of its own, which no connection starts from. Where
// there is only 127.0.0.1, it is that one.
func (c *Cluster) ports(n int) (list []string, err error) {
	c.host = fmt.Sprintf("127.%d.%d.%d", 1+rand.N(254), rand.N(256), 1+rand.N(254))
	l, err := net.Listen("tcp", c.host+":0")
	if err != nil {
		c.host = "127.0.0.1"
	} else {
		l.Close()
	}
	for range n {
		l, err := net.Listen("tcp", c.host+":0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		list = append(list, l.Addr().String())
	}
	return list, nil
}

// run starts members and waits until they serve clients.
func (c *Cluster) run(list []int, flags ...string) error {
	for _, i := range list {
		if err := c.begin(i, flags...); err != nil {
			return err
		}
	}
	for _, i := range list {
		if err := c.members[i].wait(); err != nil {
			return err
		}
	}
	return nil
}

// begin starts a member and waits for nothing.
func (c *Cluster) begin(i int, flags ...string) error {
	m := c.members[i]
	args := []string{"--name", m.name, "--data-dir", m.data(), "--log-outputs", "stderr", "--logger", "zap",
		"--listen-client-urls", c.url(m.client), "--advertise-client-urls", c.url(m.client),
		"--listen-peer-urls", c.url(m.peer), "--initial-advertise-peer-urls", c.url(m.reached),
		"--initial-cluster", c.initial(c.members), "--initial-cluster-token", c.token,
		"--strict-reconfig-check=false", "--heartbeat-interval", "50", "--election-timeout", "500"}
	if !c.options.Plain {
		for _, of := range []string{"", "peer-"} {
			args = append(args, "--"+of+"cert-file", m.certificate.Certificate, "--"+of+"key-file", m.certificate.Key,
				"--"+of+"trusted-ca-file", c.CA.File, "--"+of+"client-cert-auth")
		}
	}
	args = append(append(args, c.options.Flags...), flags...)
	return m.start(filepath.Join(c.bin, "etcd-"+m.version), args)
}

func (c *Cluster) url(hostport string) string {
	if c.options.Plain {
		return "http://" + hostport
	}
	return "https://" + hostport
}

// initial returns the value of etcd's flag --initial-cluster.
func (c *Cluster) initial(members []*member) string {
	var list []string
	for _, m := range members {
		list = append(list, m.name+"="+c.url(m.reached))
	}
	return strings.Join(list, ",")
}

func (c *Cluster) ctl(endpoints []string, args ...string) (string, error) {
	return c.tool("etcdctl", append([]string{"--endpoints", strings.Join(endpoints, ","), "--command-timeout", "30s"}, args...))
}

// isOld reports whether it is etcd 3.4, which has no etcdutl.
func (c *Cluster) isOld() bool { return strings.HasPrefix(c.Version, "v3.4.") }

// tool runs etcdctl or etcdutl.
func (c *Cluster) tool(name string, args []string) (string, error) {
	cmd := exec.Command(filepath.Join(c.bin, name+"-"+c.Version), args...)
	cmd.Env = []string{"HOME=" + c.dir}
	if c.isOld() {
		cmd.Env = append(cmd.Env, "ETCDCTL_API=3")
	}
	if !c.options.Plain {
		cmd.Env = append(cmd.Env, "ETCDCTL_CACERT="+c.CA.File, "ETCDCTL_CERT="+c.Root.Certificate, "ETCDCTL_KEY="+c.Root.Key)
	}
	cmd.SysProcAttr = endsWithUs()
	var out, message bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &message
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, message.Bytes())
	}
	return out.String(), nil
}

// Stop kills the members and waits for their end.
func (c *Cluster) Stop() {
	for _, m := range c.members {
		m.kill()
	}
	for _, l := range c.links {
		l.close()
	}
	c.links = nil
}
