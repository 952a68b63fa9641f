package daemon

import (
	"context"
	"errors"
	"sync"
	"time"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/monitor"
	"privyseal/internal/oplog"
	"privyseal/internal/privval"
	"privyseal/internal/provider"
	"privyseal/internal/session"
)

// insideNode is the one node of a chain whose signer is inside it, as logs and status
// have it.
const insideNode = "inside"

const (
	// insidePatience is for how long a request of a node that we are inside of is tried:
	// such a node asks once, and its vote is lost after an error. It covers what passes by
	// itself, a quarantine of a minute among it. CometBFT waits longer for a remote signer.
	insidePatience = 90 * time.Second
	// insidePause is between two tries, of which the first may have failed at once.
	insidePause = 200 * time.Millisecond
)

// errClosed says that [Inside.Close] came first.
var errClosed = errors.New("the signer is closed")

// Inside is the signer of one chain inside another program, the chain's node: key, state,
// witness, log, metrics and status are those that [Start] would have, for one chain, and
// no node is dialled. What belongs to a whole process is left to that program: its
// signals, its memory, what systemd is informed of.
type Inside struct {
	d      *Daemon
	chain  *chain
	logger *oplog.Logger
	end    func() // what runs beside the requests

	ctx    context.Context // ended by Close
	cancel context.CancelFunc
	inWork sync.RWMutex // read by each request
}

// OpenInside opens the chain with a name in a home folder, or the only one for "". A state
// that another process has, such as the [Start] of that home, is provider.ErrLocked.
func OpenInside(a *provider.House, version, name string) (*Inside, error) {
	home, err := a.Home()
	if err != nil {
		return nil, err
	}
	cfg, err := a.Config()
	if err != nil {
		return nil, err
	}
	cc, err := theChain(cfg, name)
	if err != nil {
		return nil, err
	}
	holder, ok := a.Providers.Local(cc)
	if !ok {
		return nil, cli.Actf("chain %s has the provider %s, which signs in a process of its own", cc.Name, cc.Provider)
	}
	cc.Nodes = []config.Node{{Name: insideNode, Addr: "this process"}}
	logger := newLogger(cfg.Log)
	d := &Daemon{
		Home: home, Providers: a.Providers, Stores: a.Stores, Config: cfg, Log: logger.Logger, setLevel: logger.SetLevel,
		Monitor: monitor.New(logger.Logger, version), end: func(error) {}, // whose node runs on without a signer
	}
	d.Monitor.LogLost(logger.Lost)
	in := &Inside{d: d, logger: logger, chain: newLocalChain(cc, holder, d.Monitor.AddChain(cc.Name, cc.ID))}
	in.ctx, in.cancel = context.WithCancel(context.Background())
	if err := in.open(); err != nil {
		in.cancel()
		in.letGo()
		return nil, err
	}
	return in, nil
}

// theChain returns the chain with a name or an id, or the only one for "".
func theChain(cfg *config.Config, name string) (config.Chain, error) {
	found := cfg.Chains
	if name != "" {
		found = cfg.Find(name)
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0:
		return config.Chain{}, cure.Add(cli.Actf("chain %.80q is not in %s", name, cfg.Path(config.FileName)), "name one that is: %s", cli.ChainNames(cfg.Chains))
	}
	return config.Chain{}, cure.Add(cli.Actf("there are several such chains in %s", cfg.Path(config.FileName)), "name one of them: %s", cli.ChainNames(found))
}

func (in *Inside) open() error {
	c := in.chain
	if err := c.openKeys(oplog.Within(in.ctx, in.d.Log), in.d.Config); err != nil {
		return err
	}
	if err := c.openState(in.ctx, in.d, false); err != nil {
		return err
	}
	in.d.chains = []*chain{c}
	in.d.Monitor.Opened()
	in.end = in.d.listen()
	c.Run(in.ctx)
	c.changed[insideNode](session.Serving, nil)
	return nil
}

// PubKey is the key that it signs with.
func (in *Inside) PubKey() privval.PubKey { return pubKeyOf(in.chain.key.PublicKey()) }

// Handle answers a request of the node, like signer.Signer does, but that it goes on for
// insidePatience where a connection would be closed for the node to ask again, unless the
// failure is one that lasts.
func (in *Inside) Handle(req *privval.Request) (privval.Response, error) {
	in.inWork.RLock()
	defer in.inWork.RUnlock()
	enough := time.Now().Add(insidePatience)
	for {
		if in.ctx.Err() != nil {
			return privval.Response{}, errClosed
		}
		ctx, cancel := context.WithTimeout(context.Background(), session.AnswerTimeout)
		resp, err := in.chain.signer.Handle(ctx, insideNode, req)
		cancel()
		if err == nil || provider.Lasting(err) || time.Now().After(enough) {
			return resp, err
		}
		select {
		case <-in.ctx.Done():
		case <-time.After(insidePause):
		}
	}
}

// Close waits for what is in progress, and lets go of key and state. It may be called twice.
func (in *Inside) Close() {
	in.cancel()
	in.inWork.Lock()
	defer in.inWork.Unlock()
	if in.end != nil {
		in.end()
		in.end = nil
		in.letGo()
	}
}

// letGo closes what was opened of key, state and log.
func (in *Inside) letGo() {
	in.chain.close()
	in.d.Monitor.Flush()
	in.logger.Close()
}
