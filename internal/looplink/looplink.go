// Package looplink connects an enclave and its host over TCP on loopback, for enclaves that
// have no vsock: what runs under Gramine reaches its host in no other way (its unix sockets
// stay inside, libos/src/net/unix.c).
//
// The enclave dials, the host listens. For what the host dials, the enclave keeps a
// connection open that the host may take, an offer, and makes the next one when it is taken.
//
// It protects nothing from the host, which reads and changes what crosses: that has to be
// protected by those who send it. The token keeps out the other users of the machine, who
// can dial any port of loopback. It is new with each launch.
//
// A connection begins with 37 bytes of the enclave: the token, what it is ('d' for a dial,
// 'o' for an offer, 'w' for a watch), and the port, big-endian. The host answers one byte,
// taken: to a dial and a watch at once, to an offer when it dials. It closes what it does not
// want. Nothing else crosses a watch, whose end shows the enclave that its host is gone.
package looplink

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Variable is the one of the environment by which the host informs the enclave where it listens:
// ADDRESS:PORT TOKEN, the token in 64 hex digits.
const Variable = "PRIVYSEAL_HOST"

const (
	dialled  = 'd'
	offered  = 'o'
	watching = 'w' // of no port
	taken    = 1

	openingSize = 32 + 1 + 4
	// openTimeout bounds the opening of a connection, which one side sends at once and the
	// other answers at once.
	openTimeout = 10 * time.Second
)

type token [32]byte

// opening is how a connection begins.
type opening struct {
	token token
	kind  byte
	port  uint32
}

func (o opening) write(w io.Writer) error {
	b := append(o.token[:], o.kind)
	_, err := w.Write(binary.BigEndian.AppendUint32(b, o.port))
	return err
}

func readOpening(r io.Reader) (o opening, err error) {
	var b [openingSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return o, err
	}
	o = opening{token: token(b[:32]), kind: b[32], port: binary.BigEndian.Uint32(b[33:])}
	if o.kind != dialled && o.kind != offered && o.kind != watching {
		return o, fmt.Errorf("a connection of the kind %q", o.kind)
	}
	return o, nil
}

// readTaken waits for the host to take a connection.
func readTaken(r io.Reader) error {
	var b [1]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return err
	}
	if b[0] != taken {
		return fmt.Errorf("the host answers %#x", b[0])
	}
	return nil
}

// parse reads the value of Variable.
func parse(text string) (at netip.AddrPort, t token, err error) {
	address, digits, found := strings.Cut(text, " ")
	raw, err := hex.DecodeString(digits)
	if !found || err != nil || len(raw) != len(t) {
		return at, t, errors.New("the host does not say where it listens: " + Variable + " is not ADDRESS:PORT and a token of 64 hex digits")
	}
	if at, err = netip.ParseAddrPort(address); err != nil || !at.Addr().IsLoopback() {
		return at, t, fmt.Errorf("the host listens at %.60q, and not on loopback", address)
	}
	return at, token(raw), nil
}

// conn has CloseWrite, and nothing of it is lost to the opening, which is read from it alone.
type conn = *net.TCPConn
