package enclave

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"privyseal/internal/hostlink"
	"privyseal/internal/oplog"
	"privyseal/internal/policy"
	"privyseal/internal/watermark"
)

// Run serves the host until ctx ends. An error means that the enclave is of no
// use.
func Run(ctx context.Context, c Config) error {
	if (c.Recovery != nil) != (c.Policy.Kind() == policy.OfSGX) {
		return errors.New("the policy names a recovery key, and nothing makes backups, or the other way round")
	}
	e := &enclave{c: c, level: new(slog.LevelVar), chains: map[string]*chain{}, imported: map[watermark.ID]bool{}}
	if _, err := rand.Read(e.boot[:]); err != nil {
		return err
	}
	e.lines = oplog.NewQueue((&hostWriter{ctx: ctx, dial: c.Dial}).write, lostLines)
	defer e.lines.Close()
	e.log = slog.New(&lineHandler{lines: e.lines, level: e.level})

	l, err := c.Listen(hostlink.ControlPort)
	if err != nil {
		return fmt.Errorf("cannot listen for the host: %w", err)
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	e.log.Info("enclave started", append([]any{"version", c.Version, "boot", hex.EncodeToString(e.boot[:])}, keptUnder(c.Policy)...)...)
	for _, w := range c.Warnings {
		e.log.Warn(w)
	}

	slots := make(chan struct{}, maxControls)
	var group sync.WaitGroup
	defer group.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				e.stop()
				return nil
			}
			return fmt.Errorf("cannot listen for the host: %w", err)
		}
		select {
		case slots <- struct{}{}:
			group.Go(func() {
				defer conn.Close() // after its place is free: who sees the end may call again
				e.serve(ctx, conn)
				<-slots
			})
		default:
			conn.Close() // it has eight others
		}
	}
}

// keptUnder is, for the log, what keeps the secrets of an enclave outside.
func keptUnder(p *policy.Policy) []any {
	if p.Kind() == policy.OfSGX {
		return []any{"sgx_seal", p.Seal, "backups_for", p.Recipient().ID()}
	}
	return []any{"kms_key", p.KMSKey}
}

// serve answers one connection of the host, and does not close it.
func (e *enclave) serve(ctx context.Context, conn net.Conn) {
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	for {
		raw, err := hostlink.ReadRawRequest(conn)
		if err != nil {
			return
		}
		reply, err := e.handle(ctx, raw)
		if err != nil {
			return
		}
		conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
		if err := hostlink.WriteReply(conn, reply); err != nil {
			return
		}
	}
}

// handle does what the host asks. What goes wrong is reported in the reply, with the
// cure if there is one. An error is an invalid request.
func (e *enclave) handle(ctx context.Context, raw hostlink.RawRequest) (reply hostlink.Reply, err error) {
	requestCtx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	e.mu.Lock()
	defer e.mu.Unlock()
	// Not before the lock: eight at once take more memory than there may be.
	req, err := raw.Decode()
	if err != nil {
		return reply, err
	}
	switch {
	case req.Hello != nil:
	case req.Create != nil:
		reply.Created, err = e.create(requestCtx, req.Create)
	case req.ImportKey != nil:
		reply.Document, err = e.attestImportKey(req.ImportKey.Nonce)
	case req.Import != nil:
		reply.Created, err = e.importSecret(requestCtx, req.Import)
	case req.NewState != nil:
		reply.Created, err = e.newState(requestCtx, req.NewState)
	case req.Boot != nil:
		err = e.bootChains(ctx, requestCtx, req.Boot)
	case req.Attest != nil:
		reply.Document, err = e.attestChain(req.Attest)
	case req.Certify != nil:
		reply.Request, err = e.certify(requestCtx, req.Certify)
	case req.CloudWrap != nil:
		reply.WrapKey, err = e.cloudWrap(req.CloudWrap)
	case req.Recover != nil:
		reply.Created, err = e.recoverKey(requestCtx, req.Recover)
	case req.Sample != nil:
		reply.Answers, err = e.sample(requestCtx, req.Sample)
	case req.Share != nil:
		reply.Shared, err = e.share(requestCtx, req.Share)
	case req.Look != nil:
		reply.Looked, err = e.look(requestCtx, req.Look)
	default:
		err = errors.New("an empty request")
	}
	if err != nil {
		e.log.Warn("refused a request of the host", "error", err)
		return hostlink.Reply{Error: clip(err.Error()), Cure: cureOf(err)}, nil
	}
	if req.Hello != nil || req.Boot != nil {
		reply.Status = e.status()
	}
	return reply, nil
}

func (e *enclave) status() *hostlink.Status {
	s := &hostlink.Status{Version: e.c.Version, Boot: hex.EncodeToString(e.boot[:]), Policy: bytes.Clone(e.c.Digest[:])}
	for _, c := range e.sorted() {
		s.Chains = append(s.Chains, c.status())
	}
	return s
}

// stop ends all sessions; what is in flight is finished.
func (e *enclave) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.chains {
		c.stop()
	}
}
