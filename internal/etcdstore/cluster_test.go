package etcdstore_test

import (
	"crypto/tls"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"privyseal/internal/etcd"
	"privyseal/internal/etcd/etcdtest"
	"privyseal/internal/etcdstore"
)

// clusterState is what a story has done to the cluster, and what is to be undone.
type clusterState struct {
	begin    string // a snapshot
	snapshot string
	disks    etcdtest.Disks
	noted    []byte // a value
	dead     []int  // to be restarted
	gone     bool   // not all members are what they were
	paused   []int
	fast     func()
	revoked  bool

	mu     sync.Mutex
	fates  map[string][]etcdtest.Fate // of the next calls that go through a proxy
	sticks map[string]bool            // the last fate is that of all calls from then on
	via    []*etcdtest.Proxy
}

var fates = map[string]etcdtest.Fate{"Pass": etcdtest.Pass, "Lose": etcdtest.Lose, "LoseAnswer": etcdtest.LoseAnswer, "Cut": etcdtest.Cut,
	"CutAnswer": etcdtest.CutAnswer, "CutHalf": etcdtest.CutHalf, "Hold": etcdtest.Hold, "Double": etcdtest.Double}

// nextLine is to what etcd is updated: one minor version at a time.
var nextLine = map[string]string{"3.5": "3.6", "3.6": "3.7"}

// member is the number of one: it leads, it follows, or it is named.
func member(w *world, name string) int {
	switch name {
	case "leader":
		return w.c.Leader(w.t)
	case "follower":
		return w.c.Follower(w.t)
	}
	n, err := strconv.Atoi(name)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// change does to the cluster what a line says.
func (s *clusterState) change(w *world, words []string) {
	rest := words[1:]
	switch words[0] {
	case "kill":
		for _, name := range rest {
			i := member(w, name)
			w.c.Kill(i)
			s.dead = append(s.dead, i)
		}
	case "pause":
		i := member(w, rest[0])
		w.c.Pause(w.t, i)
		s.paused = append(s.paused, i)
	case "slow":
		by, _ := time.ParseDuration(rest[1])
		s.fast = w.c.SlowSyncs(w.t, member(w, rest[0]), by)
	case "restart":
		w.c.Kill(0, 1, 2)
		w.c.Restart(w.t, 0, 1, 2)
	case "update":
		w.c.Update(w.t, member(w, rest[0]), nextLine[os.Getenv("PRIVYSEAL_ETCD_LINE")])
	case "mend":
		s.mend(w)
	case "noise": // others write, and what was committed before is on the disk of each
		w.c.Ctl(w.t, "put", "/noise", "x")
	case "defrag":
		w.c.Ctl(w.t, "defrag")
	case "fill":
		w.c.Fill(w.t)
	case "room":
		w.c.MakeRoom(w.t)
	case "revoke":
		w.c.Ctl(w.t, "user", "revoke-role", "signer", "signer")
		s.revoked = true
	case "grant":
		s.grant(w)
	case "fate": // METHOD FATE…
		s.fate(rest[0], rest[1:])
	case "release":
		for _, p := range s.via {
			p.Release(w.t)
		}
	default:
		s.restore(w, words)
	}
}

// restore sets the cluster back, or makes it another one.
func (s *clusterState) restore(w *world, words []string) {
	rest := words[1:]
	switch words[0] {
	case "notes":
		s.noted = w.value().Bytes
	case "reverts":
		w.put(s.noted)
	case "snapshot":
		s.snapshot = w.c.Snapshot(w.t)
	case "restore":
		r := etcdtest.Restored{}
		if len(rest) > 0 && rest[0] == "token" {
			r.Token = w.prefix[strings.LastIndex(w.prefix, "/")+1:] + "-" + rest[1]
		} else if len(rest) > 0 {
			r.Bump = 1000
		}
		w.c.Restore(w.t, s.snapshot, r)
	case "copy":
		var list []int
		for _, name := range rest {
			list = append(list, member(w, name))
		}
		s.disks = w.c.Copy(w.t, list...)
	case "putback":
		s.gone = true
		var others []int
		for _, name := range rest {
			others = append(others, member(w, name))
		}
		w.c.PutBack(w.t, s.disks, others...)
	case "force":
		i := member(w, rest[0])
		s.dead, s.gone = nil, true
		w.c.ForceNew(w.t, i)
	case "join":
		s.joins(w, member(w, rest[0]), rest[1:]...)
	case "remove":
		s.gone = true
		w.c.Remove(w.t, member(w, rest[0]))
	case "elects":
		w.c.Leader(w.t)
	case "serves":
		w.c.Await(w.t, member(w, rest[0]))
	case "promote":
		w.c.Promote(w.t, member(w, rest[0]))
	case "exchange": // a member for one with another identity
		for _, name := range rest {
			i := member(w, name)
			s.gone = true
			w.c.Remove(w.t, i)
			w.c.Join(w.t, i)
		}
	default:
		w.t.Fatalf("a line that says %q", words)
	}
}

func (s *clusterState) fate(method string, names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fates == nil {
		s.fates, s.sticks = map[string][]etcdtest.Fate{}, map[string]bool{}
	}
	s.fates[method], s.sticks[method] = nil, false
	for _, name := range names {
		if s.sticks[method] = name == "on"; name != "on" {
			s.fates[method] = append(s.fates[method], fates[name])
		}
	}
}

func (s *clusterState) fateOf(method string) etcdtest.Fate {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.fates[method]
	if len(list) == 0 {
		return etcdtest.Pass
	}
	if len(list) > 1 || !s.sticks[method] {
		s.fates[method] = list[1:]
	}
	return list[0]
}

func (s *clusterState) grant(w *world) {
	if s.revoked {
		w.c.Ctl(w.t, "user", "grant-role", "signer", "signer")
	}
	s.revoked = false
}

// joins has a member begin without anything, under a new identity.
func (s *clusterState) joins(w *world, i int, flags ...string) {
	s.gone = true
	w.c.Kill(i)
	w.c.Join(w.t, i, flags...)
}

// mend undoes what was done to members, and waits until the cluster serves.
func (s *clusterState) mend(w *world) {
	for _, i := range s.paused {
		w.c.Continue(w.t, i)
	}
	if s.fast != nil {
		s.fast()
	}
	switch {
	case s.gone:
		w.c.Restore(w.t, s.begin, etcdtest.Restored{})
	case len(s.dead) > 0:
		w.c.Restart(w.t, s.dead...)
	}
	s.paused, s.fast, s.dead = nil, nil, nil
	s.gone = false
	w.c.Leader(w.t)
	s.grant(w)
}

// endpoints are the members in another order, or what stands before them.
func (w *world) endpoints(words []string) (list []string) {
	for _, word := range words {
		switch word {
		case "balancer":
			list = append(list, balancer(w.t, w.c.Endpoints(), unlimited))
		case "foreign":
			list = append(list, w.foreign().Endpoints()[0])
		case "torn":
			list = append(list, balancer(w.t, w.c.Endpoints(), torn))
		case "spreader":
			list = append(list, spreader(w.t, w.c))
		case "proxies":
			for i := range w.c.Endpoints() {
				p := w.c.Proxy(w.t, i, w.c.Signer)
				p.Rule(w.cluster.fateOf)
				w.cluster.via = append(w.cluster.via, p)
				list = append(list, p.URL)
			}
		default:
			list = append(list, w.c.Endpoints()[member(w, word)])
		}
	}
	return list
}

// foreign is another cluster, whose certificates are of the same authority.
func (w *world) foreign() *etcdtest.Cluster {
	if w.other == nil {
		w.other = etcdtest.Start(w.t, etcdtest.Options{Members: 1, CA: w.c.CA})
	}
	return w.other
}

// shows gives a host another certificate, which counts from its next connection on.
func (w *world) shows(p *player, what string) {
	files := w.c.Signer
	switch what {
	case "expired":
		files = w.c.CA.Client(w.t, "signer", etcdtest.Expired)
	case "nobody":
		files = w.c.CA.Client(w.t, "nobody")
	case "stranger":
		files = etcdtest.NewCA(w.t).Client(w.t, "signer")
		files.CA = w.c.CA.File
	case "wrong-ca":
		files.CA = etcdtest.NewCA(w.t).File
	}
	p.shows.Store(&files)
}

// root asks the leader as etcd's user root.
func (w *world) root() *etcd.Conn {
	w.t.Helper()
	d := etcd.Dialer{TLS: func() (*tls.Config, error) { return w.c.Root.Config() }}
	c, err := d.Dial(w.t.Context(), w.c.Endpoints()[w.c.Leader(w.t)])
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) value() etcd.Value {
	w.t.Helper()
	c := w.root()
	defer c.Close()
	r, err := c.Range(w.t.Context(), etcdstore.Key(w.prefix, id), 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return r.Value
}

// put writes the value as another program would.
func (w *world) put(value []byte) {
	w.t.Helper()
	now, c := w.value(), w.root()
	defer c.Close()
	r, err := c.Txn(w.t.Context(), etcd.Txn{Key: etcdstore.Key(w.prefix, id), Old: now.Bytes, Revision: now.Modified, New: value})
	if err != nil || !r.Won {
		w.t.Fatal(err)
	}
}
