package nitro

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"privyseal/internal/awscredentials"
	"privyseal/internal/claims"
	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/eif"
	"privyseal/internal/enclavehost"
	"privyseal/internal/hostlink"
	"privyseal/internal/monitor"
	"privyseal/internal/nitro"
	"privyseal/internal/nitrohost"
	"privyseal/internal/ops/nitro/image"
	"privyseal/internal/ops/nitro/sharing"
	"privyseal/internal/ops/nitro/wrapped"
	"privyseal/internal/policy"
	"privyseal/internal/provider"
	"privyseal/internal/secret"
	"privyseal/internal/vsock"
)

// enclaveLink is a conversation with an enclave that runs.
type enclaveLink struct {
	name   string
	config Enclave
	isNew  bool // the config does not have it yet
	image  *eif.Image
	policy *policy.Policy
	boot   string // 32 hex digits

	credentials secret.AWS // that may use the KMS key

	conn net.Conn
	stop func()
	// kmsFailed is called with why the host could not connect the enclave to KMS; unreached
	// keeps the last such error for who asks the enclave.
	kmsFailed func(error)
	unreached atomic.Pointer[error]
}

// newEnclaveLink returns a link that is not open.
func newEnclaveLink() *enclaveLink {
	e := &enclaveLink{stop: func() {}}
	e.kmsFailed = func(err error) { e.unreached.Store(&err) }
	return e
}

// answerTimeout bounds the wait for an answer: longer than the enclave's own for
// KMS.
const answerTimeout = 150 * time.Second

// bootTimeout bounds the wait for an enclave that was launched.
const bootTimeout = 30 * time.Second

// open launches the enclave, or finds it running, and connects to it. With kms it
// is connected to KMS too, unless a running signer does that, and there are
// credentials for it.
func (f *enclaveFlags) open(ctx context.Context, a *provider.House, c *config.Config, kms bool) (e *enclaveLink, err error) {
	l, e, err := f.launcher(c)
	if err != nil {
		return nil, err
	}
	home, err := a.Home()
	if err != nil {
		return nil, err
	}
	return e, e.begin(ctx, l, home, kms, nil)
}

// begin launches the enclave, or finds it running, and connects to it; with kms as open does.
// Where no signer of the home runs, it is connected to a database, too.
func (e *enclaveLink) begin(ctx context.Context, l *nitrohost.Launcher, home string, kms bool, db *sharing.Database) (err error) {
	if err := (vsock.Host{Dir: e.config.Transport}).MayServe(); err != nil {
		return err
	}
	found, _, err := l.Ensure(ctx)
	if err != nil {
		return err
	}
	link := vsock.Host{CID: found.CID, Dir: e.config.Transport}
	if kms && !isRunning(ctx, home) {
		err = e.serveKMS(ctx, link)
		if err == nil && db != nil {
			err = e.serveDatabase(ctx, link, db)
		}
	}
	if err == nil {
		err = e.connect(ctx, link)
	}
	if err == nil && kms {
		e.credentials, err = credentialsOf(e).Credentials(ctx)
	}
	if err != nil {
		e.close()
	}
	return err
}

// launcher returns the launcher of the enclave that the flags mean, and what its
// image says.
func (f *enclaveFlags) launcher(c *config.Config) (*nitrohost.Launcher, *enclaveLink, error) {
	e := newEnclaveLink()
	var err error
	if e.name, e.config, e.isNew, err = f.choose(c); err != nil {
		return nil, nil, err
	}
	if e.image, e.policy, err = f.readImage(e.config.EIF); err != nil {
		return nil, nil, err
	}
	l, err := e.launcher()
	return l, e, err
}

// allows says at once that the image's policy does not let a chain sign, which the
// enclave would say when it runs already.
func (f *enclaveFlags) allows(c *config.Config, chainID string) error {
	_, e, err := f.launcher(c)
	if err != nil {
		return err
	}
	if !e.policy.AllowsChain(chainID) {
		why, cure := wrapped.NotForChain(chainID)
		return cli.Usagef("%s; %s", why, cure)
	}
	return nil
}

// readImage reads the image and its policy, and holds the flags against it.
func (f *enclaveFlags) readImage(path string) (*eif.Image, *policy.Policy, error) {
	im, err := image.Read(path)
	if err != nil && f.want.EIF != "" {
		err = cli.OfFlag("eif", err)
	}
	if err != nil {
		return nil, nil, err
	}
	p, err := image.Policy(im)
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	case p == nil:
		return nil, nil, cli.Usagef("%s is not an image of `privyseal nitro build`: its command line, its ramdisks or the boundaries between them differ", path)
	case f.kmsKey != "" && f.kmsKey != p.KMSKey:
		return nil, nil, cli.Usagef("--kms-key %s is not the KMS key that the image's policy names, %s; build an image for it, or correct the flag", f.kmsKey, p.KMSKey)
	case f.region != "" && f.region != p.Region():
		return nil, nil, cli.Usagef("--region %s is not that of the KMS key, %s", f.region, p.Region())
	}
	return im, p, nil
}

func (e *enclaveLink) launcher() (*nitrohost.Launcher, error) {
	m := e.image.Measure()
	want := nitrohost.Measurements{PCR0: m.PCR0.String(), PCR1: m.PCR1.String(), PCR2: m.PCR2.String()}
	if e.image.SignedBy() != nil {
		want.PCR8 = m.PCR8.String()
	}
	info, err := os.Stat(e.config.EIF)
	if err != nil {
		return nil, err
	}
	memory := e.config.MemoryMiB
	if memory == 0 {
		memory = max(MinMemoryMiB, int((4*info.Size()+1<<20-1)>>20))
	}
	return &nitrohost.Launcher{
		Path: e.config.NitroCLI, Name: nitrohost.EnclaveName(e.name), CID: e.config.CID, EIF: e.config.EIF,
		MemoryMiB: memory, CPUs: e.config.CPUCount, Want: want,
	}, nil
}

// isRunning reports whether a signer runs in the home folder, which then serves
// the enclave's ports.
func isRunning(ctx context.Context, home string) bool {
	_, err := monitor.ReadSnapshot(ctx, home)
	return err == nil
}

// serveKMS connects the enclave to KMS until stop. The enclave reports, with its cure, what
// became of its call; why KMS was not reached it cannot know.
func (e *enclaveLink) serveKMS(ctx context.Context, link vsock.Host) error {
	return e.serve(ctx, link, hostlink.KMSPort, "KMS", func(ctx context.Context, c vsock.Conn) error {
		return enclavehost.ProxyAWS(ctx, c, e.policy.Endpoint(), answerTimeout)
	})
}

// serveDatabase connects the enclave to a database until stop.
func (e *enclaveLink) serveDatabase(ctx context.Context, link vsock.Host, db *sharing.Database) error {
	for _, p := range db.Ports(e.policy) {
		if err := e.serve(ctx, link, p.Number, p.What, p.Handle); err != nil {
			return err
		}
	}
	return nil
}

// serve has what the enclave dials handled until stop.
func (e *enclaveLink) serve(ctx context.Context, link vsock.Host, port uint32, what string, handle func(context.Context, vsock.Conn) error) error {
	l, err := link.Listen(port)
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("%w; is `privyseal start` of another home running on this instance?", err)
		}
		return fmt.Errorf("cannot connect the enclave to %s: %w", what, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	before := e.stop
	e.stop = func() {
		cancel()
		l.Close()
		before()
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c, ok := conn.(vsock.Conn)
			if !ok {
				conn.Close()
				continue
			}
			go func() {
				defer c.Close()
				if err := handle(ctx, c); err != nil && ctx.Err() == nil {
					e.kmsFailed(err)
				}
			}()
		}
	}()
	return nil
}

// dialler dials a port of the enclave, as [vsock.Host] does.
type dialler interface {
	Dial(ctx context.Context, port uint32) (vsock.Conn, error)
}

// connect waits until the enclave answers, and checks that it runs under the
// policy of the image.
func (e *enclaveLink) connect(ctx context.Context, link dialler) (err error) {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	for {
		if e.conn, err = link.Dial(ctx, hostlink.ControlPort); err == nil {
			break
		}
		// Waiting gives nobody a right.
		if errors.Is(err, syscall.EACCES) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the enclave was launched and does not answer: %w; look at it with `privyseal nitro run --debug` and `privyseal nitro console`", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
	reply, err := e.call(ctx, hostlink.Request{Hello: &hostlink.Hello{}})
	if err != nil {
		return err
	}
	digest, err := policyDigest(e.policy)
	if err != nil {
		return err
	}
	if s := reply.Status; s == nil || len(s.Boot) != 32 || !bytes.Equal(s.Policy, digest[:]) {
		return errors.New("the enclave runs with another policy than the image's; end it with `privyseal nitro stop`, and try again")
	}
	e.boot = reply.Status.Boot
	return nil
}

func (e *enclaveLink) call(ctx context.Context, req hostlink.Request) (hostlink.Reply, error) {
	if err := e.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return hostlink.Reply{}, err
	}
	defer context.AfterFunc(ctx, func() { e.conn.SetDeadline(time.Unix(1, 0)) })()
	reply, err := hostlink.Call(e.conn, req)
	if why := e.unreached.Load(); err != nil && why != nil {
		err = fmt.Errorf("%w (the host: %w)", err, *why)
	}
	return reply, err
}

// close ends the conversation. The enclave keeps running.
func (e *enclaveLink) close() {
	if e.conn != nil {
		e.conn.Close()
	}
	e.stop()
}

// encodeDocument returns a document as all commands print it.
func encodeDocument(doc []byte) []byte {
	return append([]byte(base64.StdEncoding.EncodeToString(doc)), '\n')
}

// maxAge is how old a document may be that was made just now: two clocks differ.
const maxAge = 5 * time.Minute

// verify checks a document that the enclave made just now: that this image made
// it, in this boot, for this purpose.
func (e *enclaveLink) verify(raw []byte, purpose string) (claims.Claims, error) {
	var anchor nitro.Anchor
	var err error
	if e.policy.AttestationRoot != "" {
		if anchor, err = nitro.ParseAnchor([]byte(e.policy.AttestationRoot)); err != nil {
			return claims.Claims{}, err
		}
	}
	doc, err := nitro.Parse(raw)
	if err != nil {
		return claims.Claims{}, err
	}
	now := time.Now()
	if err := doc.Verify(anchor, now); err != nil {
		return claims.Claims{}, err
	}
	m := e.image.Measure()
	want := nitro.Expect{PCRs: map[int][]byte{0: m.PCR0[:], 1: m.PCR1[:], 2: m.PCR2[:]}}
	if err := want.Check(doc); err != nil {
		return claims.Claims{}, err
	}
	c, err := claims.Decode(doc.UserData)
	switch {
	case err != nil:
		return c, err
	case c.Purpose != purpose || c.Boot != e.boot || c.KMSKey != e.policy.KMSKey:
		return c, fmt.Errorf("the document is for %q, of boot %s and KMS key %s: it is not the one that was requested", c.Purpose, c.Boot, c.KMSKey)
	case now.Sub(doc.Time) > maxAge:
		return c, fmt.Errorf("the document was made at %s, and not just now; is the clock right?", doc.Time.Format(time.RFC3339))
	}
	return c, nil
}

// policyDigest returns the hash of a policy as the enclave reports it.
func policyDigest(p *policy.Policy) ([32]byte, error) {
	data, err := p.Encode()
	return sha256.Sum256(data), err
}

// credentialsOf returns where the credentials for an enclave come from.
func credentialsOf(e *enclaveLink) enclavehost.Source {
	if c := e.config.Credentials; c.AccessKeyID != "" {
		return awscredentials.Static{Value: secret.AWS{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken}}
	}
	return awscredentials.Chain{Region: e.policy.Region(), Cure: "attach to the instance a role that the KMS key's policy names; or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for this command, or [enclave.NAME.credentials] in the config if there is one"}
}
