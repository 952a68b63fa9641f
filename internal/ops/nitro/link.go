package nitro

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"time"

	"privyseal/internal/awscredentials"
	"privyseal/internal/claims"
	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/eif"
	"privyseal/internal/enclaveask"
	"privyseal/internal/enclavechain/sharing"
	"privyseal/internal/enclavehost"
	"privyseal/internal/hostlink"
	"privyseal/internal/monitor"
	"privyseal/internal/nitro"
	"privyseal/internal/nitrohost"
	"privyseal/internal/ops/nitro/image"
	"privyseal/internal/policy"
	"privyseal/internal/provider"
	"privyseal/internal/secret"
	"privyseal/internal/vsock"
)

// enclaveLink is a conversation with an enclave that runs.
type enclaveLink struct {
	name        string
	config      Enclave
	isNew       bool // the config does not have it yet
	image       *eif.Image
	policy      *policy.Policy
	credentials secret.AWS // that may use the KMS key

	enclaveask.Conversation
}

var words = enclaveask.Words{
	Silent: "look at it with `privyseal nitro run --debug` and `privyseal nitro console`",
	Other:  "end it with `privyseal nitro stop`, and try again",
}

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
	return e.join(ctx, found.CID, home, kms, db)
}

// join connects to the enclave that runs with a CID.
func (e *enclaveLink) join(ctx context.Context, cid uint32, home string, kms bool, db *sharing.Database) (err error) {
	link := vsock.Host{CID: cid, Dir: e.config.Transport}
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
		e.Close()
	}
	return err
}

// launcher returns the launcher of the enclave that the flags mean, and what its
// image says.
func (f *enclaveFlags) launcher(c *config.Config) (*nitrohost.Launcher, *enclaveLink, error) {
	e := &enclaveLink{}
	var err error
	if e.name, e.config, e.isNew, err = enclaves.Choose(c, &f.Choice); err != nil {
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
		why, cure := keyFiles.NotForChain(chainID)
		return cli.Usagef("%s; %s", why, cure)
	}
	return nil
}

// readImage reads the image and its policy, and holds the flags against it.
func (f *enclaveFlags) readImage(path string) (*eif.Image, *policy.Policy, error) {
	im, err := image.Read(path)
	if err != nil && f.Want.EIF != "" {
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

// serveKMS connects the enclave to KMS until the conversation ends. The enclave reports, with its cure, what
// became of its call; why KMS was not reached it cannot know.
func (e *enclaveLink) serveKMS(ctx context.Context, link vsock.Host) error {
	return e.Serve(ctx, link, hostlink.KMSPort, "KMS", func(ctx context.Context, c vsock.Conn) error {
		return enclavehost.ProxyAWS(ctx, c, e.policy.Endpoint(), enclaveask.AnswerTimeout)
	})
}

// connect waits until the enclave answers, and checks that it runs under the policy of the
// image.
func (e *enclaveLink) connect(ctx context.Context, link vsock.Host) error {
	digest, err := policyDigest(e.policy)
	if err != nil {
		return err
	}
	return e.Connect(ctx, link, digest, words)
}

// serveDatabase connects the enclave to a database until the conversation ends.
func (e *enclaveLink) serveDatabase(ctx context.Context, link vsock.Host, db *sharing.Database) error {
	for _, p := range db.Ports(e.policy) {
		if err := e.Serve(ctx, link, p.Number, p.What, p.Handle); err != nil {
			return err
		}
	}
	return nil
}

// maxAge is how old a document may be that was made just now: two clocks differ.
const maxAge = 5 * time.Minute

// Verify implements [enclavekey.Enclave].
func (e *enclaveLink) Verify(raw []byte, purpose string) (claims.Claims, error) {
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
	case c.Purpose != purpose || c.Boot != e.Boot() || c.KMSKey != e.policy.KMSKey:
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
