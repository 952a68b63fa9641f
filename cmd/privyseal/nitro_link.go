package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"privyseal/internal/claims"
	"privyseal/internal/config"
	"privyseal/internal/eif"
	"privyseal/internal/host"
	"privyseal/internal/hostlink"
	"privyseal/internal/monitor"
	"privyseal/internal/nitro"
	"privyseal/internal/policy"
	"privyseal/internal/vsock"
)

// enclaveFlags say which enclave a command works with: one of the config, or a
// new one. What they say of one of the config has to be what the config says:
// `privyseal start` would launch that one, and one launched otherwise is in its way.
type enclaveFlags struct {
	name, eif      string
	cid            uint32
	memory, cpus   int
	nitroCLI, dir  string
	region, kmsKey string

	set *pflag.FlagSet // nil without a command line
}

// defaultEnclave is the name of the only enclave of most instances.
const defaultEnclave = "main"

func (f *enclaveFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	f.set = fl
	fl.StringVar(&f.name, "enclave", "", "name of the enclave in the config (default "+defaultEnclave+")")
	fl.StringVar(&f.eif, "eif", "", "the enclave's image")
	fl.Uint32Var(&f.cid, "cid", 0, "context id of the enclave, 4 or above (default: nitro-cli chooses)")
	fl.IntVar(&f.memory, "memory-mib", 0, "memory of the enclave (default: four times the image)")
	fl.IntVar(&f.cpus, "cpu-count", config.DefaultCPUCount, "virtual CPUs of the enclave")
	fl.StringVar(&f.nitroCLI, "nitro-cli", config.DefaultNitroCLI, "AWS's launcher: a name in $PATH, or a path")
	fl.StringVar(&f.dir, "transport", "", "folder of unix sockets in place of AF_VSOCK")
	fl.StringVar(&f.region, "region", "", "AWS region (default: that of the KMS key)")
	fl.StringVar(&f.kmsKey, "kms-key", "", "ARN of the KMS key, which the image's policy has to name")
}

// choose returns the enclave, and whether the config does not have it yet. Paths
// are absolute.
func (f *enclaveFlags) choose(c *config.Config) (name string, e config.Enclave, isNew bool, err error) {
	name = cmp.Or(f.name, defaultEnclave)
	if c != nil {
		if f.name == "" && len(c.Enclaves) == 1 {
			name = slices.Collect(maps.Keys(c.Enclaves))[0]
		}
		if e, known := c.Enclaves[name]; known {
			e.EIF, e.Transport = c.Path(e.EIF), c.Path(e.Transport)
			return name, e, false, f.agree(name, e)
		}
	}
	if f.eif == "" {
		return "", e, false, usagef("--eif FILE is missing: the image, as of `privyseal nitro build`")
	}
	e, err = f.newEnclave(name)
	return name, e, true, err
}

// given reports whether a flag stands on the command line.
func (f *enclaveFlags) given(flag string) bool { return f.set != nil && f.set.Changed(flag) }

// agree holds the flags against an enclave of the config.
func (f *enclaveFlags) agree(name string, e config.Enclave) error {
	dir, err := absolute(f.dir)
	if err != nil {
		return err
	}
	for _, v := range []struct {
		flag          string
		agrees        bool
		ours, configs any
	}{
		{"eif", f.eif == e.EIF || sameFile(f.eif, e.EIF), f.eif, e.EIF},
		{"cid", f.cid == e.CID, f.cid, e.CID},
		{"memory-mib", f.memory == e.MemoryMiB, f.memory, e.MemoryMiB},
		{"cpu-count", f.cpus == e.CPUCount, f.cpus, e.CPUCount},
		{"nitro-cli", f.nitroCLI == e.NitroCLI, f.nitroCLI, e.NitroCLI},
		{"transport", dir == e.Transport || sameFile(dir, e.Transport), f.dir, e.Transport},
	} {
		if !f.given(v.flag) || v.agrees {
			continue
		}
		has := fmt.Sprintf("%s = %v", keyOf(v.flag), v.configs)
		if v.configs == "" || fmt.Sprint(v.configs) == "0" {
			has = "no " + keyOf(v.flag)
		}
		return usagef("enclave %s of the config has %s, and --%s says %v; leave --%s out, correct the config, or give --enclave another name", name, has, v.flag, v.ours, v.flag)
	}
	return nil
}

// keyOf returns the config's key for a flag, and flagOf the flag for a key.
func keyOf(flag string) string { return strings.ReplaceAll(flag, "-", "_") }
func flagOf(key string) string { return strings.ReplaceAll(key, "_", "-") }

// newEnclave returns an enclave of the flags alone, by the rules of the config.
func (f *enclaveFlags) newEnclave(name string) (e config.Enclave, err error) {
	if !config.ValidEnclave(name) {
		return e, usagef("--enclave %q is not a name: 1 to 40 of A-Z a-z 0-9 _ -", name)
	}
	e = config.NewEnclave(f.eif)
	e.CID, e.MemoryMiB, e.CPUCount, e.NitroCLI, e.Transport = f.cid, f.memory, f.cpus, f.nitroCLI, f.dir
	config.CheckEnclave(e, func(key string) bool { return f.given(flagOf(key)) }, func(key, wrong string) {
		err = cmp.Or(err, usagef("--%s %s", flagOf(key), wrong))
	})
	if err != nil {
		return e, err
	}
	if e.EIF, err = absolute(e.EIF); err != nil {
		return e, err
	}
	e.Transport, err = absolute(e.Transport)
	return e, err
}

// absolute returns the absolute path, "" of none.
func absolute(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	return filepath.Abs(path)
}

func sameFile(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

// enclaveLink is a conversation with an enclave that runs.
type enclaveLink struct {
	name   string
	config config.Enclave
	isNew  bool // the config does not have it yet
	image  *eif.Image
	policy *policy.Policy
	boot   string // 32 hex digits

	conn net.Conn
	stop func()
}

// answerTimeout bounds the wait for an answer: longer than the enclave's own for
// KMS.
const answerTimeout = 150 * time.Second

// bootTimeout bounds the wait for an enclave that was launched.
const bootTimeout = 30 * time.Second

// open launches the enclave, or finds it running, and connects to it. With kms it
// is connected to KMS too, unless a running signer does that.
func (f *enclaveFlags) open(ctx context.Context, a *app, c *config.Config, kms bool) (e *enclaveLink, err error) {
	e = &enclaveLink{stop: func() {}}
	if e.name, e.config, e.isNew, err = f.choose(c); err != nil {
		return nil, err
	}
	if e.image, e.policy, err = f.readImage(e.config.EIF); err != nil {
		return nil, err
	}
	if err := (vsock.Host{Dir: e.config.Transport}).MayServe(); err != nil {
		return nil, err
	}
	l, err := e.launcher()
	if err != nil {
		return nil, err
	}
	found, _, err := l.Ensure(ctx)
	if err != nil {
		return nil, err
	}
	link := vsock.Host{CID: found.CID, Dir: e.config.Transport}
	if kms && !isRunning(ctx, a) {
		if err := e.serveKMS(ctx, link); err != nil {
			return nil, err
		}
	}
	if err := e.connect(ctx, link); err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

func (e *enclaveLink) launcher() (*host.Launcher, error) {
	m := e.image.Measure()
	want := host.Measurements{PCR0: m.PCR0.String(), PCR1: m.PCR1.String(), PCR2: m.PCR2.String()}
	if e.image.SignedBy() != nil {
		want.PCR8 = m.PCR8.String()
	}
	info, err := os.Stat(e.config.EIF)
	if err != nil {
		return nil, err
	}
	memory := e.config.MemoryMiB
	if memory == 0 {
		memory = max(config.MinMemoryMiB, int((4*info.Size()+1<<20-1)>>20))
	}
	return &host.Launcher{
		Path: e.config.NitroCLI, Name: host.EnclaveName(e.name), CID: e.config.CID, EIF: e.config.EIF,
		MemoryMiB: memory, CPUs: e.config.CPUCount, Want: want,
	}, nil
}

// credentials finds credentials that may use the KMS key.
func (e *enclaveLink) credentials(ctx context.Context) (hostlink.Credentials, error) {
	found, err := credentialsOf(e).Credentials(ctx)
	return found.Reveal(), err
}

// readImage reads the image and its policy, and holds the flags against it.
func (f *enclaveFlags) readImage(path string) (*eif.Image, *policy.Policy, error) {
	im, err := readImage(path)
	if err != nil && f.eif != "" {
		err = ofFlag("eif", err)
	}
	if err != nil {
		return nil, nil, err
	}
	p, err := imagePolicy(im)
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	case p == nil:
		return nil, nil, usagef("%s is no image of `privyseal nitro build`: it has no policy", path)
	case f.kmsKey != "" && f.kmsKey != p.KMSKey:
		return nil, nil, usagef("--kms-key %s is not the KMS key that the image's policy names, %s; build an image for it, or correct the flag", f.kmsKey, p.KMSKey)
	case f.region != "" && f.region != p.Region():
		return nil, nil, usagef("--region %s is not that of the KMS key, %s", f.region, p.Region())
	}
	return im, p, nil
}

// isRunning reports whether a signer runs in the home folder, which then serves
// the enclave's ports.
func isRunning(ctx context.Context, a *app) bool {
	home, err := a.home()
	if err != nil {
		return false
	}
	_, err = monitor.ReadSnapshot(ctx, home)
	return err == nil
}

// serveKMS connects the enclave to KMS until stop.
func (e *enclaveLink) serveKMS(ctx context.Context, link vsock.Host) error {
	l, err := link.Listen(hostlink.KMSPort)
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("%w; does `privyseal start` of another home run on this instance?", err)
		}
		return fmt.Errorf("cannot connect the enclave to KMS: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	e.stop = func() {
		cancel()
		l.Close()
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
				// The enclave tells, with its cure, what became of its call.
				_ = host.ProxyKMS(ctx, c, e.policy.KMSEndpoint, answerTimeout)
			}()
		}
	}()
	return nil
}

// dialler is a [vsock.Host].
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
		return errors.New("the enclave runs under another policy than that of the image; end it with `privyseal nitro stop`, and try again")
	}
	e.boot = reply.Status.Boot
	return nil
}

func (e *enclaveLink) call(ctx context.Context, req hostlink.Request) (hostlink.Reply, error) {
	if err := e.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return hostlink.Reply{}, err
	}
	defer context.AfterFunc(ctx, func() { e.conn.SetDeadline(time.Unix(1, 0)) })()
	return hostlink.Call(e.conn, req)
}

// close ends the conversation. The enclave keeps running.
func (e *enclaveLink) close() {
	if e.conn != nil {
		e.conn.Close()
	}
	e.stop()
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
		return c, fmt.Errorf("the document is for %q, of boot %s and KMS key %s: another one was handed out", c.Purpose, c.Boot, c.KMSKey)
	case now.Sub(doc.Time) > maxAge:
		return c, fmt.Errorf("the document was made at %s, and not just now; is the clock right?", doc.Time.Format(time.RFC3339))
	}
	return c, nil
}
