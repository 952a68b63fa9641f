package main

import (
	"bufio"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"privyseal/internal/privval"
	"privyseal/internal/privval/privvaltest"
)

// node plays a validator node that asks as fast as it is answered: a prevote
// and a precommit for a block at each height.
type node struct {
	chain  string
	listen *net.UnixListener
	conn   net.Conn
	r      *bufio.Reader
	key    ed25519.PublicKey
	height int64 // of the next vote
	kind   privval.Kind
}

// newNode listens on the socket of the chain.
func (b *bench) newNode(chain string) (*node, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: b.socket(chain), Net: "unix"})
	return &node{chain: chain, listen: l, height: 1, kind: privval.KindPrevote}, err
}

// accept waits for the signer.
func (n *node) accept() error {
	if err := n.listen.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	conn, err := n.listen.Accept()
	if err != nil {
		return fmt.Errorf("the signer does not come: %w", err)
	}
	n.conn, n.r = conn, bufio.NewReader(conn)
	return nil
}

// greet asks for the public key, as a node does first.
func (n *node) greet() error {
	resp, err := n.call(privval.Request{Kind: privval.KindPubKey, ChainID: n.chain})
	if err != nil {
		return err
	}
	if resp.PubKey.Type != "ed25519" || len(resp.PubKey.Bytes) != ed25519.PublicKeySize {
		return fmt.Errorf("the signer of %s has a key of type %q", n.chain, resp.PubKey.Type)
	}
	n.key = resp.PubKey.Bytes
	return nil
}

func (n *node) close() {
	if n.conn != nil {
		n.conn.Close()
	}
	n.listen.Close()
}

func (n *node) call(req privval.Request) (privval.Response, error) {
	resp, err := privvaltest.Call(n.conn, n.r, req)
	if err == nil && resp.Refused != "" {
		err = errors.New("refused: " + resp.Refused)
	}
	return resp, err
}

func (n *node) ping() error {
	_, err := n.call(privval.Request{Kind: privval.KindPing})
	return err
}

// vote has the next vote signed.
func (n *node) vote() error {
	_, err := n.call(n.next())
	return err
}

// timedVote has the next vote signed and adds how long it took. The signature
// is verified, outside the measured time.
func (n *node) timedVote(took *samples) error {
	req := n.next()
	var resp privval.Response
	err := took.timed(func() (err error) {
		resp, err = n.call(req)
		return err
	})
	if err != nil {
		return err
	}
	if !ed25519.Verify(n.key, req.SignBytes(), resp.Signature) {
		return fmt.Errorf("the signature of %v at height %d is wrong", req.Kind, req.Height)
	}
	return nil
}

// next returns the request for the next vote.
func (n *node) next() privval.Request {
	now := time.Now()
	req := privval.Request{
		Kind: n.kind, ChainID: n.chain, Height: n.height, BlockID: blockAt(n.height),
		Timestamp:        privval.Timestamp{Seconds: now.Unix(), Nanos: int32(now.Nanosecond())},
		ValidatorAddress: make([]byte, 20),
	}
	if n.kind == privval.KindPrevote {
		n.kind = privval.KindPrecommit
	} else {
		n.kind = privval.KindPrevote
		n.height++
	}
	return req
}

// blockAt returns a block id of usual size.
func blockAt(height int64) privval.BlockID {
	hash := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(height)))
	return privval.BlockID{Hash: hash[:], PartsTotal: 1, PartsHash: hash[:]}
}
