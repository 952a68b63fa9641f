package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"privyseal/internal/etcd"
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

// What a permission is for: all keys below /p/, and whether for any other.
func TestRights(t *testing.T) {
	for _, tt := range []struct {
		key, end       string
		covers, beyond bool
	}{
		{"/p/", "/p0", true, false},
		{"/p/", "/p1", true, true},
		{"/p/", "\x00", true, true},
		{"/p", "/q", true, true},
		{"/", "0", true, true},
		{"\x00", "\x00", true, true},
		{"/p/c-1/", "/p/c-10", false, false},
		{"/p/c-1/00", "", false, false},
		{"/p", "", false, true},
		{"/pq/", "/pq0", false, true},
		{"/o/", "/p/", false, true},
	} {
		p := etcd.Permission{Read: true, Write: true, Key: tt.key, End: tt.end}
		if covers(p, "/p/") != tt.covers || beyond(p, "/p/") != tt.beyond {
			t.Errorf("%s: covers all of it: %v, goes beyond it: %v", text(p), covers(p, "/p/"), beyond(p, "/p/"))
		}
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
