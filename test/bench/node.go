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

	cmtprivval "github.com/cometbft/cometbft/proto/tendermint/privval"

	"privyseal/internal/privval"
	"privyseal/internal/privval/privvaltest"
)

// node plays a validator node that asks as fast as it is answered: a prevote
// and a precommit for a block at each height.
type node struct {
	chain  string
	listen listener
	secure func(net.Conn) (net.Conn, error) // nil: it needs nothing
	conn   net.Conn
	r      *bufio.Reader
	key    ed25519.PublicKey
	decode func(payload []byte) (privval.Response, error)
	height int64 // of the next vote
	kind   privval.Kind
}

// listener is a net.UnixListener or a net.TCPListener.
type listener interface {
	net.Listener
	SetDeadline(time.Time) error
}

// newNode listens on the socket of the chain.
func (b *bench) newNode(chain string) (*node, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: b.socket(chain), Net: "unix"})
	return &node{chain: chain, listen: l, decode: privvaltest.DecodeResponse, height: 1, kind: privval.KindPrevote}, err
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
	if n.secure != nil {
		if conn, err = n.secure(conn); err != nil {
			return err
		}
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
	if err := privvaltest.WriteRequest(n.conn, req); err != nil {
		return privval.Response{}, err
	}
	payload, err := privval.ReadFrame(n.r, nil)
	if err != nil {
		return privval.Response{}, err
	}
	resp, err := n.decode(payload)
	if err == nil && resp.Refused != "" {
		err = errors.New("refused: " + resp.Refused)
	}
	return resp, err
}

// decodeAny reads the reply of any signer, with CometBFT's own types.
func decodeAny(payload []byte) (resp privval.Response, err error) {
	var m cmtprivval.Message
	if err := m.Unmarshal(payload); err != nil {
		return resp, err
	}
	var refused *cmtprivval.RemoteSignerError
	switch sum := m.Sum.(type) {
	case *cmtprivval.Message_PubKeyResponse:
		refused = sum.PubKeyResponse.Error
		resp.PubKey = privval.PubKey{Type: "ed25519", Bytes: sum.PubKeyResponse.PubKey.GetEd25519()}
	case *cmtprivval.Message_SignedVoteResponse:
		refused = sum.SignedVoteResponse.Error
		resp.Signature = sum.SignedVoteResponse.Vote.Signature
	default:
		return resp, fmt.Errorf("%T is no answer to what was asked", sum)
	}
	if refused != nil {
		resp.Refused = refused.Description
	}
	return resp, nil
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

// timedPrevote has a prevote at the next height signed, as timedVote does.
func (n *node) timedPrevote(took *samples) error {
	err := n.timedVote(took)
	n.next() // no precommit
	return err
}

// timedPrevotes does so for count heights.
func (n *node) timedPrevotes(count int, took *samples) error {
	for range count {
		if err := n.timedPrevote(took); err != nil {
			return err
		}
	}
	return nil
}

// insist has the next vote signed and adds how long it took. If no answer comes it asks
// again, as a node does: lost is how often.
func (n *node) insist(took *samples) (lost int, err error) {
	req := n.next()
	err = took.timed(func() (err error) {
		for ; lost < 3; lost++ {
			if _, err = n.call(req); err == nil {
				return nil
			}
			n.conn.Close()
			if err := n.accept(); err != nil {
				return err
			}
		}
		return err
	})
	return lost, err
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
