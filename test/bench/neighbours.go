package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"privyseal/internal/privval"
	"privyseal/internal/privval/privvaltest"
)

const neighbourVotes = 2_500

// neighbours measures a healthy node of a chain alone, and beside four of the
// same chain that are dead, hang within a message, do not read their replies, and
// send garbage. The two signers are asked by turns.
func (b *bench) neighbours(ctx context.Context) ([]row, error) {
	alone, err := b.healthy(ctx, "alone")
	if err != nil {
		return nil, err
	}
	defer alone.close()
	sick := map[string]func(net.Conn){"hangs": hang, "unread": neverRead, "garbage": garbage}
	args := []string{"--node", "dead=unix://" + b.socket("beside-dead")}
	for name, f := range sick {
		l, err := net.Listen("unix", b.socket("beside-"+name))
		if err != nil {
			return nil, err
		}
		defer l.Close()
		go accept(l, f)
		args = append(args, "--node", name+"=unix://"+b.socket("beside-"+name))
	}
	beside, err := b.healthy(ctx, "beside", args...)
	if err != nil {
		return nil, err
	}
	defer beside.close()

	var tookAlone, tookBeside samples
	for range neighbourVotes / batchSize {
		for range batchSize {
			if err := alone.n.timedVote(&tookAlone); err != nil {
				return nil, alone.p.failed(err)
			}
		}
		for range batchSize {
			if err := beside.n.timedVote(&tookBeside); err != nil {
				return nil, beside.p.failed(err)
			}
		}
	}
	return []row{
		atMost(1.2, "a node beside a dead, a hanging, a deaf and a mad one, p50", tookBeside, 50, "alone", tookAlone),
		atMost(1.2, "the same, p99", tookBeside, 99, "alone", tookAlone),
	}, nil
}

// pair is a signer and its healthy node.
type pair struct {
	n *node
	p *process
}

func (p *pair) close() {
	p.p.kill()
	p.n.close()
}

func (b *bench) healthy(ctx context.Context, chain string, args ...string) (*pair, error) {
	return b.healthyAt(ctx, chain, nil, args...)
}

func accept(l net.Listener, f func(net.Conn)) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			f(conn)
		}()
	}
}

// hang sends half a message and nothing else.
func hang(conn net.Conn) {
	conn.Write([]byte{100, 1, 2, 3})
	io.Copy(io.Discard, conn)
}

// neverRead asks on and on, and does not take the answers.
func neverRead(conn net.Conn) {
	for privvaltest.WriteRequest(conn, privval.Request{Kind: privval.KindPing}) == nil {
	}
}

// garbage sends whole frames that are not requests, as often as the signer dials.
func garbage(conn net.Conn) {
	conn.Write(protowire.AppendBytes(nil, []byte("this is no request")))
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	bufio.NewReader(conn).ReadByte()
}
