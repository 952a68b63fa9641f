package etcd

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"privyseal/internal/config"
	"privyseal/internal/etcd"
	"privyseal/internal/etcd/etcdtest"
	"privyseal/internal/provider"
)

func TestFaultsOfVersions(t *testing.T) {
	for version, faulty := range map[string]bool{
		"3.3.27": true, "3.4.23": true, "3.4.42": false, "3.5.27": true, "3.5.28": false, "3.6.8": true, "3.6.9": false, "3.7.0": false, "4.0.0": false, "2.3.8": true, "": true, "three": true,
	} {
		if got := fault(version); (got != "") != faulty {
			t.Errorf("%q: %q", version, got)
		}
	}
}

// What a member says of itself has a verdict, as has how long it takes to say it.
func TestJudge(t *testing.T) {
	good := etcd.Status{Header: etcd.Header{Member: 7}, Version: "3.6.9", Leader: 8, Size: 12 << 20}
	for name, tt := range map[string]struct {
		change func(*member)
		want   string
	}{
		"good":       {func(*member) {}, "ok m: etcd 3.6.9, follower, 12 MiB, answers in 1ms"},
		"the leader": {func(m *member) { m.Leader = 7 }, "ok m: etcd 3.6.9, leader, 12 MiB, answers in 1ms"},
		"far":        {func(m *member) { m.took = 50 * time.Millisecond }, "ok m: etcd 3.6.9, follower, 12 MiB, answers in 50ms"},
		"too far": {func(m *member) { m.took = 50*time.Millisecond + 1 },
			"-- m: etcd 3.6.9, follower, 12 MiB, answers in 50ms; a member nearby is faster"},
		"old": {func(m *member) { m.Version = "3.6.8" },
			"-- m: etcd 3.6.8, follower, 12 MiB, answers in 1ms; before 3.6.9 etcd can serve an old value as the newest one: update it"},
		"old and too far": {func(m *member) { m.Version, m.took = "3.6.8", 60*time.Millisecond },
			"-- m: etcd 3.6.8, follower, 12 MiB, answers in 60ms; before 3.6.9 etcd can serve an old value as the newest one: update it; a member nearby is faster"},
		"nearly too far for a try": {func(m *member) { m.took = 66 * time.Millisecond },
			"-- m: etcd 3.6.9, follower, 12 MiB, answers in 66ms; a member nearby is faster"},
		"too far for a try": {func(m *member) { m.took = 67 * time.Millisecond },
			"-- m: etcd 3.6.9, follower, 12 MiB, answers in 67ms; a member nearby is faster; one try takes up to 3 times that, and `try` is 200ms -> raise `try` in the config"},
		"learner": {func(m *member) { m.Learner, m.took = true, time.Second },
			"FAIL m: etcd 3.6.9, learner, 12 MiB, answers in 1s; it serves nobody: leave it out of the endpoints"},
		"alone": {func(m *member) { m.Leader, m.took = 0, time.Second },
			"FAIL m: etcd 3.6.9, without a leader, 12 MiB, answers in 1s; it cannot reach a majority of the others"},
	} {
		m := member{endpoint: "m", Status: good, took: time.Millisecond}
		tt.change(&m)
		c := &checked{cluster: &cluster{Try: config.Duration{Duration: 200 * time.Millisecond}}}
		v, next, format, arg := c.judge(&m)
		if next != "" {
			next = " -> " + next
		}
		if got := fmt.Sprintf("%s "+format+"%s", v, arg, next); got != tt.want {
			t.Errorf("%s: %s, not %s", name, got, tt.want)
		}
	}
}

// A database that fills up is told, before etcd 3.6 by the quota that most have.
func TestSpace(t *testing.T) {
	const mib, gib = 1 << 20, 1 << 30
	for _, tt := range []struct {
		size, quota uint64
		want        string
	}{
		{80 * mib, 100 * mib, ""},
		{80*mib + mib, 100 * mib, "-- m: the database has 81 MiB of at most 100 MiB: when it is full, nothing is signed"},
		{3 * gib, 8 * gib, ""},
		{gib, 0, ""},
		{usualQuota / 10 * 8, 0, ""},
		{usualQuota/10*8 + mib, 0, "-- m: the database has 1639 MiB of at most 2048 MiB unless --quota-backend-bytes says otherwise: when it is full, nothing is signed"},
	} {
		c := &checked{Report: &provider.Report{}}
		c.space(member{endpoint: "m", Status: etcd.Status{Size: tt.size, Quota: tt.quota}})
		got := ""
		for _, r := range c.Rows {
			got += fmt.Sprintf("%s %s", r.Verdict, r.Text)
		}
		if got != tt.want {
			t.Errorf("%d of %d: %q, not %q", tt.size, tt.quota, got, tt.want)
		}
	}
}

// Each kind of alarm is a row, with its members and what ends it.
func TestAlarms(t *testing.T) {
	const full = "make room: `etcdctl --endpoints http://m compaction 5 --physical`, then `etcdctl --endpoints http://m defrag`, then `etcdctl --endpoints http://m alarm disarm`"
	for name, tt := range map[string]struct {
		raised []etcd.Alarm
		want   string
	}{
		"none":    {nil, ""},
		"full":    {[]etcd.Alarm{{Member: 1, Kind: "NOSPACE"}}, "FAIL the alarm NOSPACE is raised, by member 0000000000000001: nothing can be signed -> " + full + "\n"},
		"corrupt": {[]etcd.Alarm{{Member: 2, Kind: "CORRUPT"}}, "FAIL the alarm CORRUPT is raised, by member 0000000000000002: nothing can be signed -> " + page + "\n"},
		"both, one of two members": {[]etcd.Alarm{{Member: 1, Kind: "NOSPACE"}, {Member: 2, Kind: "CORRUPT"}, {Member: 3, Kind: "NOSPACE"}},
			"FAIL the alarm CORRUPT is raised, by member 0000000000000002: nothing can be signed -> " + page + "\n" +
				"FAIL the alarm NOSPACE is raised, by member 0000000000000001 and 0000000000000003: nothing can be signed -> " + full + "\n"},
	} {
		c := &checked{Report: &provider.Report{}, cluster: &cluster{Endpoints: []string{"http://m"}}}
		c.judgeAlarms(etcd.Alarms{Alarms: tt.raised}, 5)
		got := ""
		for _, r := range c.Rows {
			got += fmt.Sprintf("%s %s -> %s\n", r.Verdict, r.Text, r.Cure)
		}
		if got != tt.want {
			t.Errorf("%s: %s, not %s", name, got, tt.want)
		}
	}
}

// roles reads what a user has: ROLE MAY KEYS of a case of testdata/rights.txt.
func (h *held) add(t *testing.T, words []string) {
	t.Helper()
	role := words[0]
	if !slices.Contains(h.roles, role) {
		h.roles = append(h.roles, role)
	}
	switch {
	case len(words) == 1:
	case words[1] == "?":
		h.unknown = append(h.unknown, finding{provider.Unsure, fmt.Sprintf("role %q is not known", role), ""})
	default:
		p := etcd.Permission{Read: strings.Contains(words[1], "read"), Write: strings.Contains(words[1], "write"), Key: strings.ReplaceAll(words[2], "KEY", strings.Repeat("0", 64))}
		if from, to, is := strings.Cut(p.Key, ".."); is {
			p.Key, p.End = from, cmp.Or(to, "\x00")
		} else if from, is := strings.CutSuffix(p.Key, "*"); is {
			p.Key, p.End = from, from[:len(from)-1]+string(from[len(from)-1]+1)
		}
		h.perms = append(h.perms, permission{role, p})
	}
}

// What the rights of a user are worth: testdata/rights.txt, to proof-read.
func TestRights(t *testing.T) {
	text, err := os.ReadFile("testdata/rights.txt")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ = bytes.Cut(text, []byte("\ncase "))
	for one := range strings.SplitSeq(string(text), "\ncase ") {
		name, rest, _ := strings.Cut(one, "\n")
		t.Run(name, func(t *testing.T) {
			var h held
			chains := []string{"c-1"}
			var want []string
			for line := range strings.Lines(rest) {
				line, words := strings.TrimSpace(line), strings.Fields(line)
				switch {
				case len(words) == 0 || words[0] == "#":
				case words[0] == "chains":
					chains = words[1:]
				case words[0] == "=":
					want = append(want, strings.TrimPrefix(line, "= "))
				default:
					h.add(t, words)
				}
			}
			var got []string
			for _, f := range h.judge("u", "/p", chains) {
				row := string(f.verdict) + " " + f.text
				if f.next != "" {
					row += " -> " + f.next
				}
				got = append(got, row)
			}
			if !slices.Equal(got, want) {
				t.Errorf("got:\n%s\nnot:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// What is said to do about a way that leads to no member: of whose certificate it is, whose
// clock, and which root.
func TestAdvice(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	c := &cluster{CAFile: "ca.pem", CertificateFile: "own.pem"}
	failed := func(err error) error { return fmt.Errorf("cannot connect: %w", err) }
	verify := func(err error) error { return failed(&tls.CertificateVerificationError{Err: err}) }
	alert := func(text string) error { return failed(&net.OpError{Op: "remote error", Err: errors.New(text)}) }
	fine, old, early := [2]int{-1, 1}, [2]int{-2, -1}, [2]int{1, 2}
	for _, tt := range []struct {
		err  error
		own  [2]int // valid from and until so many days from now
		want string
		ends bool // asking it again is of no use
	}{
		{verify(x509.CertificateInvalidError{Reason: x509.Expired}), fine, "the clock of this host", true},
		{verify(x509.CertificateInvalidError{Reason: x509.Expired}), old, "the clock of this host", true},
		{verify(x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign}), fine, "", true},
		{verify(x509.HostnameError{Certificate: &x509.Certificate{}, Host: "a"}), fine, "for this name", true},
		{verify(x509.UnknownAuthorityError{}), fine, "ca_file, which is ca.pem", true},
		{failed(tls.RecordHeaderError{}), fine, "--advertise-client-urls", false},
		{failed(context.DeadlineExceeded), fine, "", false},
		{failed(context.DeadlineExceeded), old, "our certificate own.pem ended at 2026-04-30 12:00 UTC: put a new one there", false},
		{failed(context.DeadlineExceeded), early, "the clock of this host with `date`: our certificate own.pem is valid from 2026-05-02 12:00 UTC on, and it is 2026-05-01 12:00 UTC", false},
		{alert("tls: expired certificate"), old, "put a new one there", true},
		{alert("tls: expired certificate"), early, "the clock of this host", true},
		{alert("tls: expired certificate"), fine, "the clock of the member with `date`: our certificate own.pem is valid until 2026-05-02 12:00 UTC", true},
		{alert("tls: unknown certificate authority"), fine, "--trusted-ca-file of the member", true},
		{alert("tls: no application protocol"), fine, "--advertise-client-urls", true},
		{alert("tls: bad certificate"), fine, "`openssl x509 -noout -text -in own.pem`", true},
		{failed(&net.OpError{Op: "dial", Err: errors.New("connection refused")}), fine, "", false},
	} {
		own := &x509.Certificate{NotBefore: now.AddDate(0, 0, tt.own[0]), NotAfter: now.AddDate(0, 0, tt.own[1])}
		if got := c.advice(tt.err, own, now); !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") {
			t.Errorf("%v, ours %v: %q, not %q", tt.err, tt.own, got, tt.want)
		}
		if isRefusal(tt.err) != tt.ends {
			t.Errorf("%v ends it: %v", tt.err, !tt.ends)
		}
	}
}

// A cluster that keeps old values is found, whatever it does else; one that compacts is fine.
func TestCompaction(t *testing.T) {
	c := etcdtest.Shared(t)
	for range 4 {
		c.Ctl(t, "put", "/filling", "x")
	}
	rows := func(prefix string, kept uint64) (list []string) {
		d := etcd.Dialer{TLS: c.Signer.Config}
		conn, err := d.Dial(t.Context(), c.Endpoints()[0])
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		status, err := conn.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		look := &checked{Report: &provider.Report{}, cluster: &cluster{Prefix: prefix}, kept: kept}
		look.compaction(t.Context(), member{conn: conn, Status: status})
		for _, row := range look.Rows {
			list = append(list, string(row.Verdict)+" "+row.Text+" -> "+row.Cure)
		}
		return list
	}
	keeps := "-- values of 3 revisions ago are still kept: the database grows until it is full -> start etcd with --auto-compaction-retention=1h"
	if got := rows("/privyseal", 3); !slices.Equal(got, []string{keeps}) {
		t.Errorf("%q", got)
	}
	if got := rows("/privyseal", 1<<40); got != nil {
		t.Errorf("where there were fewer: %q", got)
	}
	if got := rows("/others", 3); len(got) != 1 || !strings.Contains(got[0], "is not known: ") || !strings.Contains(got[0], "permission denied") {
		t.Errorf("without rights: %q", got)
	}
	c.Compact(t)
	if got := rows("/privyseal", 3); got != nil {
		t.Errorf("compacted: %q", got)
	}
}
