package operator

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"net"
	"time"

	"privyseal/internal/privval"
	"privyseal/internal/privval/privvaltest"
)

// patience bounds what must happen at once. No machine is that busy.
const patience = 60 * time.Second

// node is the node side of one home: it listens, and has signed what the story
// wants. It does not know what a chain is, so it lags, forks and lies as asked.
type node struct {
	listener net.Listener
	dialled  chan net.Conn
	conn     net.Conn // nil: no signer is there
	reader   *bufio.Reader
}

func listen(socket string) (*node, error) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	n := &node{listener: l, dialled: make(chan net.Conn, 100)}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				close(n.dialled)
				return
			}
			n.dialled <- conn
		}
	}()
	return n, nil
}

func (n *node) close() {
	n.hangUp()
	n.listener.Close()
	for conn := range n.dialled {
		conn.Close()
	}
}

// hangUp forgets the signers that are there, and those that were.
func (n *node) hangUp() {
	if n.conn != nil {
		n.conn.Close()
		n.conn = nil
	}
	for {
		select {
		case conn := <-n.dialled:
			conn.Close()
		default:
			return
		}
	}
}

// serve takes the signer that has dialled.
func (n *node) serve(conn net.Conn) {
	n.conn, n.reader = conn, bufio.NewReader(conn)
}

// ask sends one request. An error means that the signer hung up in place of an
// answer.
func (n *node) ask(req privval.Request) (privval.Response, error) {
	n.conn.SetDeadline(time.Now().Add(patience))
	return privvaltest.Call(n.conn, n.reader, req)
}

var kinds = map[string]privval.Kind{"proposal": privval.KindProposal, "prevote": privval.KindPrevote, "precommit": privval.KindPrecommit}

// request returns what a node asks. block names a block; "nil" is none.
func request(chainID, kind string, height int64, round int32, block string, now time.Time) (privval.Request, error) {
	k, known := kinds[kind]
	if !known {
		return privval.Request{}, fmt.Errorf("%q is no kind of request", kind)
	}
	req := privval.Request{Kind: k, ChainID: chainID, Height: height, Round: round, BlockID: blockID(height, block)}
	if k == privval.KindProposal {
		// A node that asks again for its own proposal keeps its timestamp.
		req.POLRound, req.Timestamp = -1, privval.Timestamp{Seconds: 1_700_000_000 + height}
	} else {
		req.Timestamp = privval.Timestamp{Seconds: now.Unix(), Nanos: int32(now.Nanosecond())}
	}
	return req, nil
}

func blockID(height int64, block string) privval.BlockID {
	if block == "nil" {
		return privval.BlockID{}
	}
	hash := sha256.Sum256(fmt.Appendf(nil, "%d %s", height, block))
	parts := sha256.Sum256(hash[:])
	return privval.BlockID{Hash: hash[:], PartsTotal: 1, PartsHash: parts[:]}
}
