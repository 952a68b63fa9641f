package etcd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"privyseal/internal/cure"
	"privyseal/internal/etcd"
	"privyseal/internal/provider"
)

const (
	checkPatience = 3 * time.Second // for one member
	slowTrip      = 50 * time.Millisecond
	tryTrips      = 3 // of one try at most: TCP and TLS, or a write that a member passes on to its leader
	renewBefore   = 14 * 24 * time.Hour
	// Those who renew the certificates of members are not always who runs a signer.
	membersRenewBefore = 30 * 24 * time.Hour
	// keptRevisions are more than a cluster keeps that compacts itself every hour.
	keptRevisions = 500_000
)

// page is where the steps of an operator stand.
const page = "doc/several-hosts.md has the steps"

// check adds rows about each cluster of the config.
func check(ctx context.Context, r *provider.Report) {
	tables := r.Config.Tables[table]
	for _, name := range slices.Sorted(maps.Keys(tables)) {
		c := &checked{Report: r, cluster: tables[name].(*cluster).at(r.Config.Path), line: r.Config.Line(table, name), name: "etcd " + name, called: name, kept: keptRevisions}
		c.all(ctx)
	}
}

// checked is a cluster that is looked at.
type checked struct {
	*provider.Report
	*cluster
	line   int
	name   string // of its rows
	called string // in the config
	kept   uint64 // revisions, of a cluster that compacts itself
	seen   []member
	user   string // by which etcd knows us; "" without TLS
}

func (c *checked) add(v provider.Verdict, next, format string, args ...any) {
	c.Add(v, c.line, c.name, fmt.Sprintf(format, args...), next)
}

func (c *checked) all(ctx context.Context) {
	if why := c.unseen(); why != "" {
		c.add(provider.Unsure, "", "%s", why)
		return
	}
	if !c.plain() && !c.certificate() {
		return
	}
	for _, e := range c.Endpoints {
		c.member(ctx, e)
	}
	defer func() {
		for _, m := range c.seen {
			m.conn.Close()
		}
	}()
	if len(c.seen) == 0 || !c.oneCluster() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	c.certificates(time.Now())
	for _, m := range c.seen {
		c.space(m)
	}
	for _, look := range []func(context.Context, member){c.members, c.alarms, c.compaction, c.others, c.permissions} {
		look(ctx, c.seen[0])
	}
}

// certificate looks at ours, and reports whether it can be used.
func (c *checked) certificate() bool {
	config, err := c.tls()
	if err != nil {
		c.add(provider.Bad, "", "%v", err)
		return false
	}
	own := config.Certificates[0].Leaf
	c.user = own.Subject.CommonName
	now := time.Now()
	switch left := own.NotAfter.Sub(now); {
	case now.Before(own.NotBefore):
		c.add(provider.Bad, "look at the clock of this host with `date`", "our certificate %s is valid from %s on, and it is %s", c.CertificateFile, own.NotBefore.UTC().Format(day), now.UTC().Format(day))
	case left < 0:
		c.add(provider.Bad, "put a new one in its place; no restart is needed", "our certificate %s ended at %s", c.CertificateFile, own.NotAfter.UTC().Format(day))
	case left < renewBefore:
		c.add(provider.Unsure, "put a new one in its place; no restart is needed", "our certificate %s ends at %s", c.CertificateFile, own.NotAfter.UTC().Format(day))
	default:
		c.add(provider.Good, "", "our certificate, of user %q, is valid until %s", c.user, own.NotAfter.UTC().Format(day))
	}
	return true
}

// member connects to one, and asks it how it is.
func (c *checked) member(ctx context.Context, endpoint string) {
	ctx, cancel := context.WithTimeoutCause(ctx, checkPatience, fmt.Errorf("no answer within %v", checkPatience))
	defer cancel()
	m, err := c.ask(ctx, endpoint)
	if err != nil {
		c.add(provider.Bad, "", "%v", err)
		return
	}
	c.seen = append(c.seen, m)
	c.add(c.judge(&m))
}

// judge returns the row of a member that answers.
func (c *checked) judge(m *member) (v provider.Verdict, next, format string, arg any) {
	role, wrong := "follower", ""
	switch {
	case m.Learner:
		v, role, wrong = provider.Bad, "learner", "; it serves nobody: leave it out of the endpoints"
	case m.Leader == 0:
		v, role, wrong = provider.Bad, "without a leader", "; it cannot reach a majority of the others"
	default:
		v = provider.Good
		if f := fault(m.Version); f != "" { // an old value is worse than one that comes late
			v, wrong = provider.Unsure, "; "+f
		}
		if m.took > slowTrip {
			v, wrong = provider.Unsure, wrong+"; a member nearby is faster"
		}
		if try := c.Try.Duration; tryTrips*m.took > try {
			v, next, wrong = provider.Unsure, "raise `try` in the config", fmt.Sprintf("%s; one try takes up to %d times that, and `try` is %v", wrong, tryTrips, try)
		}
	}
	if m.Leader == m.Header.Member {
		role = "leader"
	}
	return v, next, "%s", fmt.Sprintf("%s: etcd %s, %s, %s, answers in %v%s", m.endpoint, m.Version, role, cure.Size(m.Size), m.took.Round(10*time.Microsecond), wrong)
}

// repaired is the first version of each line without faults that matter here: old values
// served as the newest ones (etcd issue 20418), and data lost in a crash.
var repaired = map[string]int{"3.4": 42, "3.5": 28, "3.6": 9}

// fault says what is wrong with a version.
func fault(version string) string {
	var major, minor, patch int
	if n, _ := fmt.Sscanf(version, "%d.%d.%d", &major, &minor, &patch); n < 3 {
		return "its version is not known here"
	}
	line := fmt.Sprintf("%d.%d", major, minor)
	if needs, known := repaired[line]; known && patch < needs {
		return fmt.Sprintf("before %s.%d etcd can serve an old value as the newest one: update it", line, needs)
	}
	if major < 3 || major == 3 && minor < 4 {
		return "it is too old: update it"
	}
	return ""
}

// certificates looks at those of the members. One that has ended is not one that answers.
func (c *checked) certificates(now time.Time) {
	if c.plain() {
		return
	}
	soonest, due := c.seen[0].expires, false
	for _, m := range c.seen {
		if m.expires.Before(soonest) {
			soonest = m.expires
		}
		if m.expires.Sub(now) < membersRenewBefore {
			due = true
			c.add(provider.Unsure, "put a new one into its --cert-file; no restart is needed", "%s: its certificate ends at %s", m.endpoint, m.expires.UTC().Format(day))
		}
	}
	if !due {
		c.add(provider.Good, "", "the certificates of the members are valid until %s", soonest.UTC().Format(day))
	}
}

// oneCluster refuses endpoints of several clusters.
func (c *checked) oneCluster() bool {
	err := oneCluster(c.seen)
	if err != nil {
		c.add(provider.Bad, leaveOut, "%v", err)
	}
	return err == nil
}

// members looks at how many there are.
func (c *checked) members(ctx context.Context, m member) {
	list, err := m.conn.Members(ctx)
	if err != nil {
		c.add(provider.Unsure, "", "who belongs to the cluster is not known: %v", err)
		return
	}
	switch voters := voters(list); {
	case voters == 1:
		c.add(provider.Unsure, "make it three members", "there is one member: if it or its disk is lost, nothing is signed any more")
	case voters%2 == 0:
		c.add(provider.Unsure, "make it three or five members", "there are %d members, which stand no more losses than %d", voters, voters-1)
	case len(c.Endpoints) < voters:
		c.add(provider.Unsure, "name them all in endpoints", "there are %d members, and %s here", voters, cure.Count(len(c.Endpoints), "endpoint"))
	default:
		c.add(provider.Good, "", "%d members, of which %d may be lost", voters, voters/2)
	}
}

// alarms looks for those that stop every write.
func (c *checked) alarms(ctx context.Context, m member) {
	list, err := m.conn.Alarms(ctx)
	if err != nil {
		c.add(provider.Unsure, "", "whether there are alarms is not known: %v", err)
		return
	}
	c.judgeAlarms(list, m.Header.Revision)
}

// judgeAlarms adds a row for each kind, with what ends it.
func (c *checked) judgeAlarms(list etcd.Alarms, revision uint64) {
	raised := map[string][]string{}
	for _, a := range list.Alarms {
		raised[a.Kind] = append(raised[a.Kind], fmt.Sprintf("%016x", a.Member))
	}
	for _, kind := range slices.Sorted(maps.Keys(raised)) {
		next := page
		if kind == "NOSPACE" {
			next = c.makeRoom(revision)
		}
		c.add(provider.Bad, next, "the alarm %s is raised, by member %s: nothing can be signed", kind, strings.Join(raised[kind], " and "))
	}
}

// makeRoom returns the commands that an operator types where etcd has no space any more: to
// forget all values before a revision, to give their space back, and to end the alarm.
func (c *checked) makeRoom(revision uint64) string {
	flags := []string{"etcdctl", "--endpoints", strings.Join(c.Endpoints, ",")}
	as := ""
	if !c.plain() {
		flags = append(flags, "--cacert", c.CAFile, "--cert", "ROOT_CERTIFICATE", "--key", "ROOT_KEY")
		as = ", with the certificate of etcd's user root"
	}
	command := func(words ...string) string { return cure.Command(slices.Concat(flags, words)...) }
	return fmt.Sprintf("make room%s: %s, then %s, then %s", as, command("compaction", strconv.FormatUint(revision, 10), "--physical"), command("defrag"), command("alarm", "disarm"))
}

// usualQuota is that of etcd without --quota-backend-bytes. Before 3.6 a member does not say its own.
const usualQuota = 2 << 30

// space looks at how full the database is.
func (c *checked) space(m member) {
	quota, unless := m.Quota, ""
	if quota == 0 {
		quota, unless = usualQuota, " unless --quota-backend-bytes says otherwise"
	}
	if m.Size > quota/10*8 {
		c.add(provider.Unsure, "have etcd compact by itself, and defragment it; "+page, "%s: the database has %s of at most %s%s: when it is full, nothing is signed", m.endpoint, cure.Size(m.Size), cure.Size(quota), unless)
	}
}

// compaction looks whether old values go.
func (c *checked) compaction(ctx context.Context, m member) {
	now := m.Header.Revision
	if now <= c.kept {
		return
	}
	_, err := m.conn.Range(ctx, c.Prefix+"/", now-c.kept)
	if e, answered := errors.AsType[*etcd.Error](err); answered && strings.Contains(e.Message, "compacted") {
		return
	} else if err != nil {
		c.add(provider.Unsure, "", "whether old values are compacted is not known: %v", err)
	} else {
		c.add(provider.Unsure, "start etcd with --auto-compaction-retention=1h", "values of %d revisions ago are still kept: the database grows until it is full", c.kept)
	}
}

// others looks who else has keys below the prefix. Where the rights are too few, that is a row
// of permissions.
func (c *checked) others(ctx context.Context, m member) {
	for _, chain := range c.chains() {
		below, err := c.below(ctx, m.conn, chain)
		if err == nil && len(below.marks) > 1 {
			c.add(provider.Unsure, "see which of them this one is with "+cure.Command("privyseal", "state", "show", "--home", c.Config.Path("."))+", and give each validator a prefix of its own", "%d keys have a mark for %s: two validators, or a signer with a wrong key: %s", len(below.marks), chain, strings.Join(below.marks, " and "))
		}
		if err == nil && len(below.foreign) > 0 {
			c.add(provider.Unsure, "give privyseal a prefix of its own", "another program has keys below %s/, such as %q", c.Prefix, below.foreign[0])
		}
	}
}

// permissions looks at what etcd lets our user do.
func (c *checked) permissions(ctx context.Context, m member) {
	if c.user == "" {
		c.add(provider.Unsure, "", "without TLS etcd knows no users: whoever reaches it may change the mark")
		return
	}
	held, err := rights(ctx, m.conn, c.user)
	if err != nil {
		c.add(provider.Unsure, "", "what user %q may do is not known, and maybe everybody may do everything: %v", c.user, err)
		return
	}
	for _, f := range held.judge(c.user, c.Prefix, c.chains()) {
		c.add(f.verdict, f.next, "%s", f.text)
	}
}

// chains are those whose marks are in the cluster.
func (c *checked) chains() (ids []string) {
	for _, ch := range c.Config.Chains {
		if ch.Store == table && ch.StoreTable == c.called {
			ids = append(ids, ch.ID)
		}
	}
	return ids
}
