package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"privyseal/internal/cure"
	"privyseal/internal/etcdstore"
	"privyseal/internal/sharedmark"
	"privyseal/internal/watermark"
)

// engine returns the way to a mark.
func (c *cluster) engine(id watermark.ID) sharedmark.Engine {
	return &way{Engine: etcdstore.New(etcdstore.Config{Dialer: c.dialer(), Endpoints: c.Endpoints, Key: etcdstore.Key(c.Prefix, id), Try: c.Try.Duration}), of: c}
}

// way is a way to a mark. Where it leads to no member, it says what to do about it.
type way struct {
	*etcdstore.Engine
	of      *cluster
	refused int // how many endpoints in a row were not to be trusted, or did not trust us
}

// Ready implements [sharedmark.Engine].
func (w *way) Ready(ctx context.Context) (sharedmark.Position, bool, error) {
	p, fresh, err := w.Engine.Ready(ctx)
	if w.refused++; !isRefusal(err) {
		w.refused = 0
	}
	if err = w.of.explain(err); w.refused >= len(w.of.Endpoints) {
		w.refused, err = 0, refusal{err}
	}
	return p, fresh, err
}

// refusal is what all endpoints say alike, so that asking them again is of no use.
type refusal struct{ error }

func (r refusal) Unwrap() error        { return r.error }
func (r refusal) Is(target error) bool { return target == sharedmark.ErrRefused }

// isRefusal reports whether one end of a connection has not accepted the other's certificate.
func isRefusal(err error) bool {
	_, ours := errors.AsType[*tls.CertificateVerificationError](err)
	return ours || alert(err) != ""
}

// alert returns why the other end of a TLS connection has ended it, "" for any other error.
func alert(err error) string {
	if e, is := errors.AsType[*net.OpError](err); is && e.Op == "remote error" {
		return e.Err.Error()
	}
	return ""
}

// day is how times are written.
const day = "2006-01-02 15:04 MST"

// notMember is for what has another protocol.
const notMember = "endpoints are what the members have as --advertise-client-urls"

// explain adds the next step to why a member was not reached, where one is known.
func (c *cluster) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case c.plain() && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)):
		return cure.Add(err, "a member with TLS is reached by https://, with the files of a certificate")
	case c.plain():
		return err
	}
	own, unread := c.own()
	if unread != nil {
		return err // which says so, if that is why
	}
	if next := c.advice(err, own.Leaf, time.Now()); next != "" {
		return cure.Add(err, "%s", next)
	}
	return err
}

// advice says what to do about an error of a connection, which we asked for with a
// certificate of ours, at a time.
//
// Whoever judges a certificate goes by his own clock. Of ours that is judged by the member,
// which says so after the handshake, if it comes to that: what we know of it ourselves is
// said of any error.
func (c *cluster) advice(err error, own *x509.Certificate, now time.Time) string {
	if invalid, is := errors.AsType[x509.CertificateInvalidError](err); is && invalid.Reason == x509.Expired {
		return "look at the clock of this host with `date`; if it is right, the member needs a new certificate"
	}
	if _, is := errors.AsType[x509.HostnameError](err); is {
		return "name the member in endpoints as its certificate has it, or give it a certificate for this name"
	}
	if _, is := errors.AsType[x509.UnknownAuthorityError](err); is {
		return fmt.Sprintf("ca_file, which is %s, has to hold the root that signed the certificates of the members", c.CAFile)
	}
	if _, is := errors.AsType[tls.RecordHeaderError](err); is {
		return notMember
	}
	switch {
	case now.Before(own.NotBefore):
		return fmt.Sprintf("look at the clock of this host with `date`: our certificate %s is valid from %s on, and it is %s", c.CertificateFile, own.NotBefore.UTC().Format(day), now.UTC().Format(day))
	case own.NotAfter.Before(now):
		return fmt.Sprintf("our certificate %s ended at %s: put a new one there; no restart is needed", c.CertificateFile, own.NotAfter.UTC().Format(day))
	}
	switch alert(err) {
	case "":
		return ""
	case "tls: expired certificate":
		return fmt.Sprintf("look at the clock of the member with `date`: our certificate %s is valid until %s", c.CertificateFile, own.NotAfter.UTC().Format(day))
	case "tls: unknown certificate authority":
		return fmt.Sprintf("--trusted-ca-file of the member has to hold the root that signed our certificate %s", c.CertificateFile)
	case "tls: no application protocol":
		return notMember
	}
	return "look whether our certificate is one for a client: " + cure.Command("openssl", "x509", "-noout", "-text", "-in", c.CertificateFile)
}
