package e2e

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// app is the application of one node, over the socket protocol of ABCI as v0.38 has it
// (proto/tendermint/abci/types.proto). It never extends two precommits by the same bytes,
// and takes no empty extension from others. As price oracles do, it puts what was said
// beside the last commit into the next block, with the signatures. It outlives its node.
type app struct {
	name string

	mu      sync.Mutex
	height  int64 // of the last block that was committed
	pending int64
	said    map[int64][][]byte    // the extensions, by height
	carried map[int64][]extension // of the commit at a height, as the block after it has them
	wrong   []string
}

// extension is what a block carries of one validator's precommit before it.
type extension struct {
	round     int32
	address   string
	flag      uint64 // 2: the precommit is for the block
	bytes     []byte
	signature []byte
}

// The numbers of requests; an answer has the number of its request, and one more.
const (
	abciEcho            = 1
	abciInfo            = 3
	abciCommit          = 11
	abciPrepareProposal = 16
	abciProcessProposal = 17
	abciExtendVote      = 18
	abciVerifyExtension = 19
	abciFinalizeBlock   = 20
)

// serveApp returns an application and where it listens until the test ends.
func serveApp(t *testing.T, dir, name string) (*app, string) {
	t.Helper()
	a := &app{name: name, said: map[int64][][]byte{}, carried: map[int64][]extension{}}
	path := filepath.Join(dir, name+".sock")
	l, err := net.Listen("unix", path)
	check(t, err)
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				a.serve(conn)
			})
		}
	})
	return a, "unix://" + path
}

// serve answers one connection of the node, of which it has four.
func (a *app) serve(conn net.Conn) {
	for r := bufio.NewReader(conn); ; {
		size, err := binary.ReadUvarint(r)
		if err != nil || size > 16<<20 {
			return
		}
		message := make([]byte, size)
		if _, err := io.ReadFull(r, message); err != nil {
			return
		}
		var answer []byte
		eachField(message, func(number protowire.Number, _ uint64, request []byte) {
			body := a.answer(number, request)
			answer = protowire.AppendBytes(protowire.AppendTag(nil, number+1, protowire.BytesType), body)
		})
		if _, err := conn.Write(protowire.AppendBytes(nil, answer)); err != nil {
			return
		}
	}
}

// answer answers a request; where nothing is to be said, with nothing.
func (a *app) answer(kind protowire.Number, request []byte) (answer []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch kind {
	case abciEcho:
		return request
	case abciInfo:
		return appendField(nil, 4, uint64(a.height))
	case abciPrepareProposal:
		if last := field(request, 3); len(last) > 0 {
			return appendText(nil, 1, last)
		}
	case abciProcessProposal:
		return appendField(nil, 1, 1) // accepted
	case abciExtendVote:
		return appendText(nil, 1, a.extend(int64(number(request, 2))))
	case abciVerifyExtension:
		if len(field(request, 4)) == 0 {
			a.wrong = append(a.wrong, fmt.Sprintf("%s: an empty extension at height %d", a.name, number(request, 3)))
			return appendField(nil, 1, 2) // rejected
		}
		return appendField(nil, 1, 1)
	case abciFinalizeBlock:
		return a.finalize(request)
	case abciCommit:
		a.height = a.pending
	}
	return nil
}

// extend makes up an extension: whose it is, when, and what nobody can guess.
func (a *app) extend(height int64) []byte {
	text := fmt.Appendf(nil, "%s %d %s", a.name, time.Now().UnixNano(), rand.Text())
	a.said[height] = append(a.said[height], text)
	return text
}

// finalize reads what a block carries of the commit before it.
func (a *app) finalize(request []byte) (answer []byte) {
	a.pending = int64(number(request, 5))
	eachField(request, func(number protowire.Number, _ uint64, tx []byte) {
		if number != 1 {
			return
		}
		answer = appendText(answer, 2, nil) // the result of a transaction
		a.carried[a.pending-1] = readExtensions(tx)
	})
	return answer
}

// readExtensions reads an ExtendedCommitInfo.
func readExtensions(info []byte) (all []extension) {
	round := int32(number(info, 1))
	eachField(info, func(n protowire.Number, _ uint64, vote []byte) {
		if n == 2 {
			all = append(all, extension{round: round, address: fmt.Sprintf("%X", field(field(vote, 1), 1)),
				bytes: field(vote, 3), signature: field(vote, 4), flag: number(vote, 5)})
		}
	})
	return all
}

// hasSaid reports whether a precommit at a height was extended by these bytes.
func (a *app) hasSaid(height int64, extension []byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(a.said[height], func(b []byte) bool { return string(b) == string(extension) })
}

// refused returns what other nodes said that nobody may say.
func (a *app) refused() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.wrong
}

// of returns what the blocks that were seen carry of a validator's precommits for blocks.
func (a *app) of(address string) map[int64]extension {
	a.mu.Lock()
	defer a.mu.Unlock()
	found := map[int64]extension{}
	for height, all := range a.carried {
		for _, e := range all {
			if e.address == address && e.flag == 2 {
				found[height] = e
			}
		}
	}
	return found
}

// eachField reads a protobuf message; ok is false where it is none.
func eachField(message []byte, do func(n protowire.Number, value uint64, text []byte)) (ok bool) {
	for len(message) > 0 {
		n, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return false
		}
		message = message[size:]
		var value uint64
		var text []byte
		switch kind {
		case protowire.VarintType:
			value, size = protowire.ConsumeVarint(message)
		case protowire.Fixed64Type:
			value, size = protowire.ConsumeFixed64(message)
		default:
			text, size = protowire.ConsumeBytes(message)
		}
		if size < 0 {
			return false
		}
		message = message[size:]
		do(n, value, text)
	}
	return true
}

// field returns the bytes of a field, or nil.
func field(message []byte, number protowire.Number) (found []byte) {
	eachField(message, func(n protowire.Number, _ uint64, text []byte) {
		if n == number {
			found = text
		}
	})
	return found
}

// number returns the value of a field, or 0.
func number(message []byte, number protowire.Number) (found uint64) {
	eachField(message, func(n protowire.Number, value uint64, _ []byte) {
		if n == number {
			found = value
		}
	})
	return found
}

func appendField(b []byte, n protowire.Number, value uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), value)
}

func appendText(b []byte, n protowire.Number, text []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), text)
}
