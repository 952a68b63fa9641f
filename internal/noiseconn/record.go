package noiseconn

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/flynn/noise"
	"golang.org/x/crypto/chacha20poly1305"
)

const (
	// lengthSize: every message has its length before it, big-endian.
	lengthSize = 2
	overhead   = chacha20poly1305.Overhead
	// chunkMax is the plaintext of the longest record that Noise allows.
	chunkMax   = noise.MaxMsgLen - overhead
	readBuffer = lengthSize + noise.MaxMsgLen
)

// Conn is a connection after the handshake. Its methods may be called from
// several goroutines, as those of every net.Conn.
//
// A Read that ends at its deadline loses nothing and can be repeated. A Write
// that fails ends the writing side, because the peer may have half a record. A
// record that does not authenticate ends the reading side.
type Conn struct {
	conn net.Conn

	readMu  sync.Mutex
	in      *bufio.Reader
	recv    *noise.CipherState
	recvErr error
	plain   []byte // the record being read, decrypted
	rest    []byte // what of plain is still to be read

	writeMu sync.Mutex
	send    *noise.CipherState
	sendErr error
	out     []byte
}

var _ net.Conn = (*Conn)(nil)

// Read reads decrypted bytes, at most one record's at a time (1 to 65,519). A
// stream that ends within a record is io.ErrUnexpectedEOF.
func (c *Conn) Read(p []byte) (int, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	if len(c.rest) == 0 {
		if err := c.readRecord(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *Conn) readRecord() error {
	if c.recvErr != nil {
		return c.recvErr
	}
	// Peek keeps a part of a record that came before a deadline.
	length, err := c.in.Peek(lengthSize)
	if err != nil {
		if len(length) > 0 {
			return noEOF(err)
		}
		return err
	}
	size := lengthSize + int(binary.BigEndian.Uint16(length))
	record, err := c.in.Peek(size)
	if err != nil {
		return noEOF(err)
	}
	c.rest, c.recvErr = c.open(record[lengthSize:])
	if c.recvErr != nil {
		return c.recvErr
	}
	_, err = c.in.Discard(size)
	return err
}

// open returns the plaintext of a record. A record without one is refused: no
// node sends it, and a reader should not be kept busy with nothing.
func (c *Conn) open(sealed []byte) ([]byte, error) {
	if len(sealed) <= overhead {
		return nil, fmt.Errorf("%w: record of %d bytes", errMalformed, len(sealed))
	}
	plain, err := c.recv.Decrypt(c.plain[:0], nil, sealed)
	if errors.Is(err, noise.ErrMaxNonce) {
		return nil, errExhausted
	}
	if err != nil {
		return nil, errForged
	}
	c.plain = plain
	return plain, nil
}

// Write encrypts and sends p, up to 64 KiB of it in one write to the underlying
// connection. An empty p sends nothing.
func (c *Conn) Write(p []byte) (int, error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if c.sendErr != nil {
		return 0, fmt.Errorf("an earlier write failed: %w", c.sendErr)
	}
	sent := 0
	for chunk := range slices.Chunk(p, chunkMax) {
		if c.sendErr = c.writeRecord(chunk); c.sendErr != nil {
			return sent, c.sendErr
		}
		sent += len(chunk)
	}
	return sent, nil
}

func (c *Conn) writeRecord(chunk []byte) error {
	c.out = binary.BigEndian.AppendUint16(c.out[:0], uint16(len(chunk)+overhead))
	sealed, err := c.send.Encrypt(c.out, nil, chunk)
	if err != nil {
		return errExhausted // the only thing that Encrypt can fail of
	}
	c.out = sealed
	_, err = c.conn.Write(sealed)
	return err
}

// Close closes the underlying connection. The protocol has no farewell: the
// end of the stream is not authenticated.
func (c *Conn) Close() error { return c.conn.Close() }

// LocalAddr returns the local address of the underlying connection.
func (c *Conn) LocalAddr() net.Addr { return c.conn.LocalAddr() }

// RemoteAddr returns the remote address of the underlying connection.
func (c *Conn) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// SetDeadline sets the deadlines of the underlying connection.
func (c *Conn) SetDeadline(t time.Time) error { return c.conn.SetDeadline(t) }

// SetReadDeadline sets the read deadline of the underlying connection.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.conn.SetReadDeadline(t) }

// SetWriteDeadline sets the write deadline of the underlying connection.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.conn.SetWriteDeadline(t) }

// noEOF turns the end of the stream within a message into an error.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
