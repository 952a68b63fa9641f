package main

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"privyseal/internal/config"
	"privyseal/internal/filestore"
	"privyseal/internal/key/soft"
	"privyseal/internal/monitor"
	"privyseal/internal/oplog"
	"privyseal/internal/privval"
	"privyseal/internal/pubkey"
	"privyseal/internal/session"
	"privyseal/internal/signer"
	"privyseal/internal/watermark"
)

func newStartCommand(a *app) *cobra.Command {
	var standby bool
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Sign for the nodes in the config until SIGTERM or SIGINT",
		Long: `Start dials every node in privyseal.toml and signs for it, until SIGTERM or
SIGINT. What is in flight then is finished, and the exit status is 0.

A chain whose key or state cannot be used is left alone, with the reason in the
log and in "privyseal status"; the others sign. The exit status is 79 if no chain
can sign until somebody acts, and 1 if that may pass: another process holds a
state, a disk or the system's limits fail. With --standby a held state is waited for: start a second signer so on the same host,
and it takes over when the first one is gone.`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := a.home()
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return start(ctx, dir, standby)
		},
	}
	cmd.Flags().BoolVar(&standby, "standby", false, "wait for a state that another process holds")
	return cmd
}

// drainTimeout bounds the wait for what is in flight at the end: an answer and
// its way to the node.
const drainTimeout = session.AnswerTimeout + time.Second

// start runs the signer of a home folder until ctx ends.
func start(ctx context.Context, home string, standby bool) error {
	cfg, err := config.Load(filepath.Join(home, config.FileName))
	if err != nil {
		return configError{err}
	}
	logger := newLogger(cfg.Log)
	defer logger.Close()
	if err := forbidCoreDumps(); err != nil {
		logger.Warn("cannot switch core dumps off", "error", err)
	}

	d := &daemon{cfg: cfg, log: logger.Logger, monitor: monitor.New(logger.Logger, buildVersion())}
	defer d.close()
	if standby {
		// systemd would take the wait for a start that hangs.
		d.notify("READY=1\nSTATUS=standby: waiting for the state")
	}
	if err := d.open(ctx, standby); err != nil {
		if ctx.Err() != nil {
			return nil // stopped while waiting for the state
		}
		return err
	}
	// From here on the states are ours, and so is the home folder.
	stop, err := d.listen(home)
	if err != nil {
		return err
	}
	defer stop()
	d.announce(ctx, readyTimeout)
	d.log.Info("privyseal started", "version", buildVersion(), "home", home, "chains", d.summary())

	err = d.serve(ctx)
	d.notify("STOPPING=1")
	d.log.Info("privyseal stopped")
	return err
}

// daemon is what one process signs with.
type daemon struct {
	cfg     *config.Config
	log     *slog.Logger
	monitor *monitor.Monitor
	chains  []*chain
	hosts   []*nitroHost
	owners  map[watermark.ID]string // name of the chain that has taken an id with a key
}

// chain is one chain that can sign.
type chain struct {
	cfg      config.Chain
	store    watermark.Store
	signer   *signer.Signer
	identity ed25519.PrivateKey // nil without a node that asks for it
	changed  []func(session.State, error)
}

// open loads the keys and states of all chains. A chain that fails is told to
// the monitor and left out, but for a state that another process holds: then
// that process is running this home folder.
func (d *daemon) open(ctx context.Context, standby bool) error {
	var failed error
	var inEnclaves []*nitroChain
	for _, cc := range d.cfg.Chains {
		var c *chain
		var n *nitroChain
		var err error
		if cc.Provider == "nitro" {
			n, err = d.openNitroChain(ctx, cc, standby)
		} else {
			c, err = d.openChain(ctx, cc, standby)
		}
		switch {
		case errors.Is(err, filestore.ErrLocked) || ctx.Err() != nil:
			return err
		case err != nil:
			failed = errors.Join(failed, fmt.Errorf("chain %s: %w", cc.Name, err))
		case n != nil:
			inEnclaves = append(inEnclaves, n)
		default:
			d.chains = append(d.chains, c)
		}
	}
	failed = errors.Join(failed, d.openNitro(inEnclaves))
	if len(d.chains) == 0 && len(d.hosts) == 0 {
		return actError{fmt.Errorf("no chain can sign:\n%w", failed)}
	}
	return nil
}

func (d *daemon) openChain(ctx context.Context, cc config.Chain, standby bool) (c *chain, err error) {
	m := d.monitor.AddChain(cc.Name, cc.ID)
	c = &chain{cfg: cc}
	for _, n := range cc.Nodes {
		c.changed = append(c.changed, m.AddNode(n.Name, n.Addr))
	}
	defer func() {
		if err != nil && !errors.Is(err, filestore.ErrLocked) {
			m.Failed(err)
		}
	}()
	key, err := openKey(d.cfg, cc)
	if err != nil {
		return nil, err
	}
	if c.identity, err = openIdentity(d.cfg, cc); err != nil {
		return nil, err
	}
	pub := key.PublicKey()
	id := watermark.ID{ChainID: cc.ID, Key: pub.ID()}
	if err := d.claim(id, cc.Name); err != nil {
		return nil, err
	}
	store, err := filestore.Open(ctx, filestore.Config{Path: d.cfg.Path(cc.State), ID: id, Wait: standby})
	if err != nil {
		return nil, err
	}
	c.signer, err = signer.New(ctx, signer.Config{
		ChainID:        cc.ID,
		Key:            key,
		PubKey:         privval.PubKey{Type: string(pub.Type()), Bytes: pub.Bytes(), Uncompressed: pub.Uncompressed()},
		Verify:         pub.Verifier(),
		Store:          store,
		Heights:        watermark.Heights{Burst: cc.HeightBurst, PerSecond: cc.HeightPerSecond, Max: cc.MaxHeight},
		AllowSignBytes: cc.AllowSignBytes,
		AllowRawBytes:  cc.AllowRawBytes,
		Nodes:          len(cc.Nodes),
		Observe:        m.Observe,
	})
	if err != nil {
		store.Close()
		return nil, err
	}
	c.store = store
	m.Ready(shownKey(pub, cc.Provider), c.signer.Last)
	return c, nil
}

// claim refuses a second chain of the same id and key: two states for one key would
// let it sign twice. A chain that is opened again keeps its claim.
func (d *daemon) claim(id watermark.ID, name string) error {
	if owner, taken := d.owners[id]; taken && owner != name {
		return actf("it has the id and the key of chain %q, and one key has one state; take one of the two out of %s", owner, config.FileName)
	}
	if d.owners == nil {
		d.owners = map[watermark.ID]string{}
	}
	d.owners[id] = name
	return nil
}

// openKey is the choice of providers.
func openKey(cfg *config.Config, cc config.Chain) (*soft.Key, error) {
	switch cc.Provider {
	case "soft":
		return soft.Open(cfg.Path(cc.Key), os.Getenv("CREDENTIALS_DIRECTORY"))
	}
	return nil, fmt.Errorf("provider %q is not in this build", cc.Provider)
}

// openIdentity returns the key that tcp and noise nodes know us by, or nil if
// the chain names none.
func openIdentity(cfg *config.Config, cc config.Chain) (ed25519.PrivateKey, error) {
	if cc.Identity == "" {
		return nil, nil
	}
	key, err := soft.Open(cfg.Path(cc.Identity), os.Getenv("CREDENTIALS_DIRECTORY"))
	if err != nil {
		return nil, err
	}
	identity, ok := key.Ed25519()
	if !ok {
		return nil, fmt.Errorf("identity %s is a %s key; identities are ed25519", cc.Identity, key.Type())
	}
	return identity, nil
}

// listen opens the status socket and, if the config wants it, metrics. stop
// ends both.
func (d *daemon) listen(home string) (stop func(), err error) {
	status, err := monitor.ListenStatus(home)
	if err != nil {
		return nil, err
	}
	var metrics net.Listener
	if d.cfg.Listen != "" {
		if metrics, err = net.Listen("tcp", d.cfg.Listen); err != nil {
			status.Close()
			return nil, fmt.Errorf("cannot listen for metrics: %w; free the address or change `listen` in %s", err, config.FileName)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	serve := func(l net.Listener, f func(context.Context, net.Listener) error) {
		group.Go(func() {
			if err := f(ctx, l); err != nil {
				d.log.Error("lost a listener", "error", err)
			}
		})
	}
	serve(status, d.monitor.ServeStatus)
	if metrics != nil {
		serve(metrics, d.monitor.ServeHTTP)
	}
	return func() { cancel(); group.Wait() }, nil
}

// serve runs a session for every node until ctx ends and all are done.
func (d *daemon) serve(ctx context.Context) error {
	var group sync.WaitGroup
	for _, c := range d.chains {
		for i, n := range c.cfg.Nodes {
			addr, err := session.ParseAddr(n.Addr)
			if err != nil {
				return configError{err}
			}
			s := &session.Session{
				Addr: addr, PeerUID: n.PeerUID, Identity: c.identity, Idle: c.cfg.Timeout.Duration,
				Handle: func(ctx context.Context, req *privval.Request) (privval.Response, error) {
					return c.signer.Handle(ctx, n.Name, req)
				},
				Changed: c.changed[i],
			}
			group.Go(func() { s.Run(ctx) })
		}
	}
	err := d.serveNitro(ctx)
	drained := make(chan struct{})
	go func() { group.Wait(); close(drained) }()
	select {
	case <-drained:
		return err
	case <-time.After(drainTimeout):
		return errors.Join(err, errors.New("a signature was still in work when its time was up; the state holds its mark"))
	}
}

func (d *daemon) close() {
	for _, c := range d.chains {
		c.store.Close()
	}
	for _, h := range d.hosts {
		for _, c := range h.chains {
			c.store.Close()
		}
	}
}

// summary tells in a line how many chains can sign.
func (d *daemon) summary() string {
	ready := 0
	for _, c := range d.monitor.Snapshot().Chains {
		if c.Ready {
			ready++
		}
	}
	return fmt.Sprintf("%d of %d chains can sign", ready, len(d.cfg.Chains))
}

// announce tells systemd that the units which wait for us may start: those chains
// that we sign for ourselves are open by now. A node exits if no signer dials it
// within 3 s, so an enclave has to have booted too, or to have said why not: a node
// that no signer serves still follows the chain. patience bounds the wait for that.
func (d *daemon) announce(ctx context.Context, patience time.Duration) {
	if len(d.hosts) == 0 {
		d.notify("READY=1\nSTATUS=" + d.summary())
		return
	}
	d.notify("STATUS=" + d.summary())
	go func() {
		settled := d.settle(ctx, patience)
		if ctx.Err() != nil {
			return
		}
		if !settled {
			d.log.Warn("an enclave has not said whether it signs; telling systemd that privyseal is ready all the same", "waited", patience)
		}
		d.notify("READY=1\nSTATUS=" + d.summary())
	}()
}

// settle waits until every enclave has said of all its chains whether it signs. It
// reports whether they have, before patience was over or ctx ended.
func (d *daemon) settle(ctx context.Context, patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, h := range d.hosts {
		for _, c := range h.chains {
			select {
			case <-c.settled:
			case <-ctx.Done():
				return false
			}
		}
	}
	return true
}

// readyTimeout is how long an enclave may take before systemd is told that we are
// ready without it. systemd itself waits for 90 s.
const readyTimeout = time.Minute

func (d *daemon) notify(state string) {
	if err := notify(state); err != nil {
		d.log.Warn("cannot notify systemd", "error", err)
	}
}

// newLogger writes to standard error in the form that the config asks for.
func newLogger(c config.Log) *oplog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo
	}
	format := c.Format
	if format == "auto" && os.Getenv("JOURNAL_STREAM") != "" {
		format = "journald"
	}
	return oplog.New(os.Stderr, level, format)
}

// shownKey is a chain's key as status and metrics show it.
func shownKey(k pubkey.Key, provider string) monitor.Key {
	return monitor.Key{
		Public:  base64.StdEncoding.EncodeToString(k.Bytes()),
		Address: fmt.Sprintf("%X", k.Address()), Type: string(k.Type()), Provider: provider,
	}
}
