package enclavehost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"privyseal/internal/cure"
	"privyseal/internal/hostlink"
	"privyseal/internal/secret"
	"privyseal/internal/vsock"
)

// control keeps a conversation on ControlPort until the enclave is gone or ctx
// ends. It reports whether the enclave ever answered as ours.
func (h *Host) control(ctx context.Context, e Enclave) (served bool, err error) {
	heard := time.Now()
	pause := backoff{first: h.redial, longest: h.look, last: h.redial}
	for looked := heard; ; {
		began := time.Now()
		t := talk{Host: h, id: e.ID, link: e.Link}
		err := t.run(ctx)
		if ctx.Err() != nil {
			return served || t.accepted, nil
		}
		if t.heard.After(heard) {
			// It was there a moment ago: look at once.
			heard, looked = t.heard, time.Time{}
		}
		served = served || t.accepted
		if time.Since(looked) >= h.look {
			looked = time.Now()
			alive, lookErr := h.Launcher.Alive(ctx, e.ID)
			switch {
			case lookErr != nil:
				h.once.warn(h.Log, "cannot find out whether the enclave runs", lookErr)
			case !alive:
				return served, fmt.Errorf("the enclave ended (%w); launching it again", err)
			case time.Since(heard) >= h.silence:
				return served, errors.Join(fmt.Errorf("the enclave runs and does not answer (%w); ending it", err), h.Launcher.Stop(ctx, e.ID))
			}
		}
		h.once.warn(h.Log, "cannot talk to the enclave, retrying", err)
		if time.Since(began) >= h.look {
			pause.last = h.redial
		}
		pause.wait(ctx)
	}
}

// talk is one connection to ControlPort.
type talk struct {
	*Host
	id       string // of the enclave, its launcher's
	link     Link
	conn     vsock.Conn
	boot     string    // of the enclave, its own
	heard    time.Time // of the last answer
	accepted bool      // it is ours

	healthy     bool   // all could sign at some boot
	certificate []byte // of the client of etcd, as the last boot had it
}

func (t *talk) run(ctx context.Context) (err error) {
	if t.conn, err = t.link.Dial(ctx, hostlink.ControlPort); err != nil {
		return err
	}
	defer t.conn.Close()
	defer context.AfterFunc(ctx, func() { t.conn.Close() })()
	defer t.ours.Store(nil)
	if err := t.hello(ctx); err != nil {
		return err
	}
	return t.keep(ctx)
}

// hello asks who is there, and refuses whoever is not ours.
func (t *talk) hello(ctx context.Context) error {
	reply, err := t.call(ctx, hostlink.Request{Hello: &hostlink.Hello{}})
	if err != nil {
		return err
	}
	s := reply.Status
	switch {
	case s == nil || len(s.Boot) != 32:
		return errors.New("it does not say which boot it is")
	case !bytes.Equal(s.Policy, t.Policy[:]):
		return t.refuse(fmt.Errorf("it runs with another policy than the image's (%x); end it with %s", s.Policy, t.Restart))
	case t.boot != "" && s.Boot != t.boot:
		return errors.New("it was restarted")
	}
	if t.boot == "" {
		t.Log.Info("talking to the enclave", "version", fmt.Sprintf("%.50s", s.Version), "boot", s.Boot)
	}
	t.boot, t.accepted = s.Boot, true
	t.ours.Store(&t.link)
	return nil
}

// refuse reports to all chains an enclave that is not ours.
func (t *talk) refuse(err error) error {
	for _, c := range t.chains {
		t.report(c, "", nil, err)
	}
	return err
}

// keep boots the enclave, and then asks it from time to time how it is.
func (t *talk) keep(ctx context.Context) error {
	again := backoff{first: t.first, longest: t.longest, last: t.first}
	boot, poll := time.NewTimer(0), time.NewTimer(t.poll)
	soon := false
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-boot.C:
			healthy, err := t.bootAll(ctx)
			if err != nil {
				return err
			}
			if !healthy {
				boot.Reset(again.next())
			}
		case <-t.poke:
			// The end of many connections is one reason to look.
			if !soon {
				poll.Reset(t.redial)
				soon = true
			}
		case <-poll.C:
			if err := t.hello(ctx); err != nil {
				return err
			}
			if t.renewed() {
				boot.Reset(0)
			}
			poll.Reset(t.poll)
			soon = false
		}
	}
}

// bootAll boots the enclave with all chains. It reports whether all can sign; an
// error ends the conversation. The credentials are for this boot alone: what is
// signed later needs none.
func (t *talk) bootAll(ctx context.Context) (healthy bool, err error) {
	var creds secret.AWS
	var missing error
	if t.KMS != nil {
		creds, missing = t.KMS.Credentials.Credentials(ctx)
	}
	req := t.request(creds)
	if req.Etcd, err = t.bootEtcd(); err != nil {
		return t.unchanged(err), nil
	}
	if t.DynamoDB != nil {
		req.DynamoDB = &hostlink.BootDynamoDB{Try: t.DynamoDB.Try}
	}
	// Also without credentials: an enclave whose keys are open needs none.
	reply, err := t.call(ctx, hostlink.Request{Boot: req})
	if refused, ok := errors.AsType[*hostlink.RefusedError](err); ok {
		return t.unchanged(errors.Join(refused, missing)), nil
	}
	if err != nil || ctx.Err() != nil {
		return false, errors.Join(err, ctx.Err())
	}
	answers := map[string]hostlink.ChainStatus{}
	if reply.Status != nil {
		for _, s := range reply.Status.Chains {
			answers[s.ID] = s
		}
	}
	healthy = true
	for id, c := range t.chains {
		problem := problemOf(answers, id, missing)
		healthy = healthy && problem == nil
		t.report(c, answers[id].KeyType, answers[id].Public, problem)
	}
	t.healthy = t.healthy || healthy
	return healthy, nil
}

// unchanged reports why a boot came to nothing. It returns true if the enclave signs on with
// what it had before.
func (t *talk) unchanged(err error) bool {
	if t.healthy {
		t.once.warn(t.Log, "the enclave goes on with the certificate of etcd that it has", err)
		return true
	}
	t.refuse(err)
	return false
}

// bootEtcd returns what a boot says of etcd, with the certificate of now.
func (t *talk) bootEtcd() (*hostlink.BootEtcd, error) {
	if t.Etcd == nil {
		return nil, nil
	}
	certificate, err := t.Etcd.Certificate()
	if err != nil {
		return nil, err
	}
	t.certificate = certificate
	return &hostlink.BootEtcd{Endpoints: t.Etcd.Endpoints, Try: t.Etcd.Try, Key: t.Etcd.Key, Certificate: certificate}, nil
}

// renewed reports whether there is another certificate than the last boot had. One that
// cannot be read is not: it may be half written.
func (t *talk) renewed() bool {
	if t.Etcd == nil {
		return false
	}
	now, err := t.Etcd.Certificate()
	if err != nil {
		t.once.warn(t.Log, "cannot read the client's certificate of etcd, going on with the last one", err)
	}
	return err == nil && !bytes.Equal(now, t.certificate)
}

// problemOf returns why the enclave cannot sign for a chain, with what to do on a line of its
// own. missing is why it was booted without credentials, nil: it was not.
func problemOf(answers map[string]hostlink.ChainStatus, id string, missing error) error {
	s, found := answers[id]
	switch {
	case !found:
		return errors.Join(errors.New("the enclave does not know the chain that it was booted with"), missing)
	case s.Problem == "":
		return nil
	case missing != nil: // which comes first
		return errors.Join(&hostlink.RefusedError{Text: s.Problem, Cure: s.Cure}, missing)
	case s.Cure == "":
		return &hostlink.RefusedError{Text: s.Problem}
	}
	return cure.Add(&hostlink.RefusedError{Text: s.Problem}, "%s", s.Cure)
}

func (t *talk) request(creds secret.AWS) *hostlink.Boot {
	b := &hostlink.Boot{Credentials: hostlink.Credentials(creds), LogLevel: t.LogLevel}
	for _, c := range t.Chains {
		bc := hostlink.BootChain{
			ID: c.ID.ChainID, Wrapped: c.Wrapped, Identity: c.Identity,
			HeightBurst: c.HeightBurst, HeightPerSecond: c.HeightPerSecond, Idle: c.Idle,
		}
		for _, n := range c.Nodes {
			bc.Nodes = append(bc.Nodes, hostlink.BootNode{Name: n.Name, Addr: n.Addr})
		}
		b.Chains = append(b.Chains, bc)
	}
	return b
}

// call asks and waits for the answer, for as long as the enclave runs.
func (t *talk) call(ctx context.Context, req hostlink.Request) (hostlink.Reply, error) {
	t.conn.SetDeadline(time.Now().Add(t.patience))
	done := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() { t.watch(ctx, done) })
	reply, err := hostlink.Call(t.conn, req)
	close(done)
	group.Wait()
	if _, refused := errors.AsType[*hostlink.RefusedError](err); err == nil || refused {
		t.heard = time.Now()
	}
	return reply, err
}

// watch ends the wait for an answer of an enclave that is gone: its link does not
// promise to report that.
func (t *talk) watch(ctx context.Context, done <-chan struct{}) {
	tick := time.NewTicker(t.look)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			if alive, err := t.Launcher.Alive(ctx, t.id); err == nil && !alive {
				t.conn.Close()
				return
			}
		}
	}
}
