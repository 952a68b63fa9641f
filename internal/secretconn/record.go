package secretconn

import (
	"bufio"
	"crypto/cipher"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// A record is a frame of fixed size, sealed: the chunk's length as uint32
// little-endian, the chunk, and padding of any content.
const (
	lengthSize = 4
	chunkMax   = 1024
	frameSize  = lengthSize + chunkMax
	sealedSize = frameSize + chacha20poly1305.Overhead

	// readBuffer takes a 16 KiB burst in one system call.
	readBuffer = 16 * sealedSize
	// batchMax is how many bytes go out in one write: a reply of any size that
	// occurs, without keeping a buffer as large as the largest message.
	batchMax = 64 * chunkMax
)

// half is one direction of a connection.
type half struct {
	aead  cipher.AEAD
	count uint64 // records so far; the next one's nonce
	nonce [chacha20poly1305.NonceSize]byte
	err   error // why no further record may pass
}

// nextNonce returns four zero bytes and the count, little-endian. It counts,
// so that a nonce is used once, whatever comes of it.
func (h *half) nextNonce() ([]byte, error) {
	if h.count == math.MaxUint64 {
		return nil, errExhausted
	}
	binary.LittleEndian.PutUint64(h.nonce[4:], h.count)
	h.count++
	return h.nonce[:], nil
}

// seal appends the record of chunk, at most chunkMax bytes, to dst.
func (h *half) seal(dst, chunk []byte) ([]byte, error) {
	nonce, err := h.nextNonce()
	if err != nil {
		return nil, err
	}
	start := len(dst)
	dst = slices.Grow(dst, sealedSize)[:start+sealedSize]
	frame := dst[start : start+frameSize]
	binary.LittleEndian.PutUint32(frame, uint32(len(chunk)))
	clear(frame[lengthSize+copy(frame[lengthSize:], chunk):])
	h.aead.Seal(frame[:0], nonce, frame, nil)
	return dst, nil
}

// open decrypts the sealed record into frame and returns the chunk, which lies
// in frame. A record without a chunk is refused: no node sends one, and a
// reader should not be kept busy with nothing.
func (h *half) open(frame *[frameSize]byte, sealed []byte) ([]byte, error) {
	nonce, err := h.nextNonce()
	if err != nil {
		return nil, err
	}
	if _, err := h.aead.Open(frame[:0], nonce, sealed, nil); err != nil {
		return nil, errForged
	}
	n := binary.LittleEndian.Uint32(frame[:])
	if n == 0 || n > chunkMax {
		return nil, fmt.Errorf("%w: record with a chunk of %d bytes", errMalformed, n)
	}
	return frame[lengthSize : lengthSize+n], nil
}

// Conn is a connection after the handshake. Its methods may be called from
// several goroutines, as those of every net.Conn.
//
// A Read that ends at its deadline loses nothing and can be repeated. A Write
// that fails ends the writing side, because the peer may have half a record. A
// record that does not authenticate ends the reading side.
type Conn struct {
	conn   net.Conn
	remote ed25519.PublicKey

	readMu sync.Mutex
	in     *bufio.Reader
	recv   half
	frame  [frameSize]byte // the record being read, decrypted
	rest   []byte          // what of frame is still to be read

	writeMu sync.Mutex
	send    half
	out     []byte // sealed records of one write
}

var _ net.Conn = (*Conn)(nil)

// Read reads decrypted bytes, at most one record's at a time (1 to 1024). A
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
	if c.recv.err != nil {
		return c.recv.err
	}
	// Peek keeps a part of a record that came before a deadline.
	sealed, err := c.in.Peek(sealedSize)
	if err != nil {
		if errors.Is(err, io.EOF) && len(sealed) > 0 {
			return io.ErrUnexpectedEOF
		}
		return err
	}
	c.rest, c.recv.err = c.recv.open(&c.frame, sealed)
	if c.recv.err != nil {
		return c.recv.err
	}
	_, err = c.in.Discard(sealedSize)
	return err
}

// Write encrypts and sends p, up to 64 KiB of it in one write to the underlying
// connection. An empty p sends nothing.
func (c *Conn) Write(p []byte) (int, error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if c.send.err != nil {
		return 0, fmt.Errorf("an earlier write failed: %w", c.send.err)
	}
	sent := 0
	for batch := range slices.Chunk(p, batchMax) {
		if c.send.err = c.writeBatch(batch); c.send.err != nil {
			return sent, c.send.err
		}
		sent += len(batch)
	}
	return sent, nil
}

func (c *Conn) writeBatch(batch []byte) error {
	c.out = c.out[:0]
	for chunk := range slices.Chunk(batch, chunkMax) {
		var err error
		if c.out, err = c.send.seal(c.out, chunk); err != nil {
			return err
		}
	}
	_, err := c.conn.Write(c.out)
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
