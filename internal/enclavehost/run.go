package enclavehost

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"privyseal/internal/hostlink"
)

// New returns the host of an enclave. The error is a mistake in c.
func New(c Config) (*Host, error) { return newHost(c, usual) }

// Run keeps the enclave running and served until ctx ends. What fails is reported to
// the observers and tried again, with growing pauses: an operator repairs it
// without a restart. The error is why the enclave could not be ended. Run is
// called once.
func (h *Host) Run(ctx context.Context) error {
	var own string // id of the enclave that we launched or served last
	pause := backoff{first: h.first, longest: h.longest}
	for ctx.Err() == nil {
		e, adopted, err := h.Launcher.Ensure(ctx)
		if err == nil {
			h.logFound(e, adopted)
			began := time.Now()
			var served bool
			if served, err = h.serve(ctx, e); served || !adopted {
				own = e.ID
			}
			if time.Since(began) >= h.stable {
				pause.reset()
			}
		}
		if ctx.Err() != nil {
			break
		}
		h.gone(err)
		pause.wait(ctx)
	}
	if h.StopEnclave && own != "" {
		h.Log.Info("ending the enclave", "id", own)
		return h.Launcher.Stop(ctx, own)
	}
	return nil
}

func (h *Host) logFound(e Enclave, adopted bool) {
	message := "launched the enclave"
	if adopted {
		message = "found the enclave running"
	}
	h.Log.Info(message, append([]any{"id", e.ID}, e.About...)...)
}

// Ask asks the running enclave something beside what Run does, such as for an
// attestation.
func (h *Host) Ask(ctx context.Context, req hostlink.Request) (hostlink.Reply, error) {
	link := h.ours.Load()
	if link == nil {
		return hostlink.Reply{}, errors.New("the enclave does not run, or does not answer yet; `privyseal status` says why")
	}
	conn, err := (*link).Dial(ctx, hostlink.ControlPort)
	if err != nil {
		return hostlink.Reply{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	conn.SetDeadline(time.Now().Add(h.patience))
	return hostlink.Call(conn, req)
}

// serve serves one enclave until it is gone or ctx ends. It reports whether the
// enclave answered as ours.
func (h *Host) serve(ctx context.Context, e Enclave) (served bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait() // the stores are the caller's again when Run returns
	defer cancel()
	for _, p := range h.ports() {
		l, err := e.Link.Listen(p.number)
		if err != nil {
			if errors.Is(err, syscall.EADDRINUSE) {
				err = fmt.Errorf("%w; is another privyseal running on this instance?", err)
			}
			return false, fmt.Errorf("cannot serve the enclave: %w", err)
		}
		group.Go(func() { h.accept(ctx, l, p) })
	}
	if h.Up != nil {
		h.Up(true)
	}
	return h.control(ctx, e)
}

// gone reports to all chains that the enclave is not there, and why.
func (h *Host) gone(err error) {
	if h.Up != nil {
		h.Up(false)
	}
	for _, c := range h.chains {
		h.report(c, "", nil, err)
		for name := range c.nodes {
			c.Observer.Node(name, "dialling", errors.New("there is no enclave to serve it"))
		}
	}
}
