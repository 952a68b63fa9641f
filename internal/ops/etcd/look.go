package etcd

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
	"time"

	"privyseal/internal/config"
	"privyseal/internal/etcd"
	"privyseal/internal/provider"
)

// member is what one has said.
type member struct {
	endpoint string
	conn     *etcd.Conn
	etcd.Status
	took    time.Duration
	expires time.Time // its certificate; zero without TLS
}

// questions are how often a member is asked how it is: the first time has to warm up.
const questions = 3

// ask connects to a member, and asks it how it is. The caller closes the connection.
func (c *cluster) ask(ctx context.Context, endpoint string) (member, error) {
	m := member{endpoint: endpoint}
	d := c.dialer()
	if own := d.TLS; own != nil {
		d.TLS = func() (*tls.Config, error) {
			config, err := own()
			if err == nil {
				config.VerifyConnection = func(s tls.ConnectionState) error {
					m.expires = s.PeerCertificates[0].NotAfter
					return nil
				}
			}
			return config, err
		}
	}
	var err error
	if m.conn, err = d.Dial(ctx, endpoint); err != nil {
		return m, c.explain(err)
	}
	for range questions {
		start := time.Now()
		if m.Status, err = m.conn.Status(ctx); err != nil {
			m.conn.Close()
			return m, err
		}
		m.took = time.Since(start)
	}
	return m, nil
}

// lookPatience bounds a look at one member, and what one of them is asked of all. Who is
// slower serves no signer.
const lookPatience = 2 * time.Second

// look implements Look of [provider.Store].
func look(ctx context.Context, c *config.Config, name string) provider.Cluster {
	seen := provider.Cluster{Store: table, Name: name}
	section, ok := c.Tables[table][name].(*cluster)
	if !ok {
		seen.Problem = fmt.Sprintf("there is no [%s.%s]", table, name)
		return seen
	}
	at := section.at(c.Path)
	if seen.Problem = at.unseen(); seen.Problem != "" {
		return seen
	}
	if !at.plain() {
		if own, err := at.own(); err == nil {
			seen.Expires = own.Leaf.NotAfter
		} // else no member is reached, and each says why
	}
	at.lookAt(ctx, &seen)
	return seen
}

// unseen says why this host cannot look at the cluster, "" if it can.
func (c *cluster) unseen() string {
	if !c.plain() && c.elsewhere() {
		return c.KeyFile + " is not a key in PEM but a wrapped one: only the enclave that has the key reaches the cluster"
	}
	return ""
}

// lookAt asks all members at the same time, and one of them for the rest.
func (c *cluster) lookAt(ctx context.Context, seen *provider.Cluster) {
	asked, failed := c.askEach(ctx)
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	for i, m := range asked {
		if failed[i] == nil {
			if seen.Voters == 0 {
				m.add(ctx, seen)
			}
			m.conn.Close()
		}
		seen.Members = append(seen.Members, m.shown(failed[i]))
	}
}

// askEach asks each member. One that hangs takes all of its time, and not that of others.
func (c *cluster) askEach(ctx context.Context) (asked []member, failed []error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lookPatience, fmt.Errorf("no answer within %v", lookPatience))
	defer cancel()
	asked, failed = make([]member, len(c.Endpoints)), make([]error, len(c.Endpoints))
	var group sync.WaitGroup
	for i, e := range c.Endpoints {
		group.Go(func() { asked[i], failed[i] = c.ask(ctx, e) })
	}
	group.Wait()
	return asked, failed
}

// shown returns a member as metrics have it. A learner serves nobody.
func (m *member) shown(failed error) provider.ClusterMember {
	s := provider.ClusterMember{Address: m.endpoint, Expires: m.expires}
	switch {
	case failed != nil:
		s.Failed = failed.Error()
		return s
	case m.Learner:
		s.Failed = "it is a learner, which serves nobody"
	}
	s.Version, s.Leader, s.Led = m.Version, m.Leader == m.Header.Member, m.Leader != 0
	s.Took, s.Size, s.Quota = m.took.Seconds(), m.Size, m.Quota
	return s
}

// add adds what one member knows of all. What it does not answer stays unknown.
func (m *member) add(ctx context.Context, seen *provider.Cluster) {
	if list, err := m.conn.Members(ctx); err == nil {
		seen.Voters = voters(list)
	}
	if list, err := m.conn.Alarms(ctx); err == nil {
		seen.Alarms = []string{}
		for _, a := range list.Alarms {
			seen.Alarms = append(seen.Alarms, fmt.Sprintf("%s of member %016x", a.Kind, a.Member))
		}
	}
}

// voters counts the members without the learners.
func voters(list etcd.Members) (n int) {
	for _, of := range list.Members {
		if !of.Learner {
			n++
		}
	}
	return n
}
