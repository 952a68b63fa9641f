package enclave

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"privyseal/internal/pubkey"
	noderig "privyseal/test/e2e/rig"
)

// NodeVersion is that of the nodes; noise takes NoiseVersion.
const (
	NodeVersion  = "v0.38.26"
	NoiseVersion = "v0.40.0"
)

// Chain is a lone validator whose key is in the enclave.
type Chain struct {
	ID   string
	Addr string // where the node listens for its signer
	Dial string // where the signer dials the node: with noise, each names the other
	Node *noderig.Node
	Key  pubkey.Key
}

// InitChains makes the home of a signer for chains by transport (unix, tcp or noise), and the
// homes of their nodes. The first init takes the flags, which say where the enclave is.
func (s Site) InitChains(ctx context.Context, flags []string, transports ...string) (*noderig.Signer, []*Chain, error) {
	var signer *noderig.Signer
	var chains []*Chain
	for _, transport := range transports {
		c, err := s.newChain(ctx, transport)
		if err != nil {
			return nil, nil, err
		}
		if signer == nil {
			if signer, err = noderig.InitSigner(ctx, s.Privyseal, filepath.Join(s.Dir, "signer"), c.ID, []string{c.Dial}, flags...); err != nil {
				return nil, nil, err
			}
		} else if _, err := s.Run(ctx, "init", "--home", signer.Home, "--chain-id", c.ID, "--node", c.Dial, "--provider", s.Provider); err != nil {
			return nil, nil, err
		}
		if err := s.putKey(ctx, signer, c); err != nil {
			return nil, nil, err
		}
		chains = append(chains, c)
	}
	return signer, chains, nil
}

func (s Site) newChain(ctx context.Context, transport string) (*Chain, error) {
	c := &Chain{ID: s.Provider + "-" + transport}
	version := NodeVersion
	if transport == "noise" {
		version = NoiseVersion
	}
	var err error
	c.Node, err = noderig.InitNode(ctx, version, filepath.Join(s.Dir, transport))
	if err != nil {
		return c, err
	}
	port, err := noderig.FreePort()
	if err != nil {
		return c, err
	}
	switch transport {
	case "unix":
		c.Addr = "unix://" + filepath.Join(s.Dir, transport+".sock")
	case "tcp":
		c.Addr = fmt.Sprintf("tcp://127.0.0.1:%d", port)
	case "noise":
		peer, err := c.Node.PeerID(ctx)
		c.Dial = fmt.Sprintf("noise://%s@127.0.0.1:%d", peer, port)
		return c, err // the signer's name for Addr comes with its identity
	}
	c.Dial = c.Addr
	return c, nil
}

// putKey makes the chain's key the only validator of its genesis, and has the node the
// identity of its signer if it wants one.
func (s Site) putKey(ctx context.Context, signer *noderig.Signer, c *Chain) error {
	text, err := s.show(ctx, signer, c, "json")
	if err != nil {
		return err
	}
	if c.Key, err = pubkey.ParseJSON([]byte(text)); err != nil {
		return err
	}
	if _, addr, ok := strings.Cut(c.Dial, "@"); ok {
		peer, err := s.show(ctx, signer, c, "peer-id")
		if err != nil {
			return err
		}
		c.Addr = "noise://" + peer + "@" + addr
	}
	return c.Node.EditGenesis(func(g *noderig.Genesis) {
		g.SetChainID(c.ID)
		g.SetValidator(0, []byte(text), string(c.Key.Type()))
		g.EnableVoteExtensions()
	})
}

// show prints the public half of a chain's key, or of its identity, in a format.
func (s Site) show(ctx context.Context, signer *noderig.Signer, c *Chain, format string) (string, error) {
	text, err := s.Run(ctx, "key", "show", "--home", signer.Home, "--chain-id", c.ID, "--format", format)
	return strings.TrimSpace(text), err
}

// VerifyCommits checks that the commits of blocks first to last are signed by the chain's key.
func (c *Chain) VerifyCommits(ctx context.Context, first, last int64) error {
	address := fmt.Sprintf("%X", c.Key.Address())
	for h := first; h <= last; h++ {
		commit, err := c.Node.Commit(ctx, h)
		if err != nil {
			return err
		}
		signBytes, signature, ok := commit.SignatureOf(address)
		if !ok || !c.Key.Verify(signBytes, signature) {
			return fmt.Errorf("chain %s: the commit of block %d is not signed by %s", c.ID, h, address)
		}
	}
	return nil
}

// GoOn waits until each chain has made more blocks.
func GoOn(ctx context.Context, chains []*Chain, more int64) error {
	heights := make([]int64, len(chains))
	for i, c := range chains {
		var err error
		if heights[i], err = c.Node.Height(ctx); err != nil {
			return err
		}
	}
	for i, c := range chains {
		if err := c.Node.WaitHeight(ctx, heights[i]+more); err != nil {
			return err
		}
	}
	return nil
}
