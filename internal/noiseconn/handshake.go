package noiseconn

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/flynn/noise"
)

// HandshakeTimeout bounds the handshake from the peer's first byte to its end,
// the same as for tcp.
const HandshakeTimeout = 3 * time.Second

const (
	// handshakeMax bounds the peer's handshake message. A stock node sends 202
	// bytes; the rest is room for extensions, which nobody here reads.
	handshakeMax = 1024
	// signaturePrefix comes before the static key under the identity's
	// signature (libp2p specs/noise, "Static Key Authentication").
	signaturePrefix = "noise-libp2p-static-key:"
)

// payload is libp2p's NoiseHandshakePayload with an Ed25519 identity:
//
//	{1: PublicKey{1: type 1, 2: key}, 2: signature, 4: extensions, optional}
type payload struct {
	key        []byte // 32 bytes
	signature  []byte // 64 bytes
	extensions []byte // nil if absent; not looked into
}

const (
	keyHead       = "\x0a\x24" + identityHead
	signatureHead = "\x12\x40"
	extensionsTag = 0x22

	signatureStart = len(keyHead) + ed25519.PublicKeySize + len(signatureHead)
	extensionStart = signatureStart + ed25519.SignatureSize
)

func (p payload) encode() []byte {
	b := append([]byte(keyHead), p.key...)
	b = append(b, signatureHead...)
	b = append(b, p.signature...)
	if p.extensions != nil {
		b = append(b, extensionsTag)
		b = binary.AppendUvarint(b, uint64(len(p.extensions)))
		b = append(b, p.extensions...)
	}
	return b
}

// decodePayload takes what encode writes and nothing else: each field once, in
// order, in the shortest form.
func decodePayload(b []byte) (payload, error) {
	if len(b) < extensionStart {
		return payload{}, fmt.Errorf("%w: handshake payload of %d bytes", errMalformed, len(b))
	}
	p := payload{
		key:       b[len(keyHead) : len(keyHead)+ed25519.PublicKeySize],
		signature: b[signatureStart:extensionStart],
	}
	if ext := b[extensionStart:]; len(ext) > 0 {
		_, n := binary.Uvarint(ext[1:])
		p.extensions = ext[1+max(n, 0):]
	}
	if !bytes.Equal(p.encode(), b) {
		return payload{}, fmt.Errorf("%w: handshake payload without an Ed25519 identity", errMalformed)
	}
	return p, nil
}

// initiator is the signer's side of a handshake: -> e, <- e ee s es, -> s se.
type initiator struct {
	conn   net.Conn
	in     *bufio.Reader
	static noise.DHKey
	state  *noise.HandshakeState
}

func newInitiator(conn net.Conn, random io.Reader) (*initiator, error) {
	static, err := noise.DH25519.GenerateKeypair(random)
	if err != nil {
		return nil, err
	}
	state, err := noise.NewHandshakeState(noise.Config{
		CipherSuite:   noise.NewCipherSuite(noise.DH25519, noise.CipherChaChaPoly, noise.HashSHA256),
		Random:        random,
		Pattern:       noise.HandshakeXX,
		Initiator:     true,
		StaticKeypair: static,
	})
	if err != nil {
		return nil, err
	}
	return &initiator{conn, bufio.NewReaderSize(conn, readBuffer), static, state}, nil
}

// readIdentity sends the first message and checks the second. With the peer's
// first byte the handshake's deadline begins, see [Client].
func (h *initiator) readIdentity() (PeerID, error) {
	if _, _, err := h.write(nil); err != nil {
		return PeerID{}, err
	}
	if _, err := h.in.Peek(1); err != nil {
		return PeerID{}, err
	}
	if err := h.conn.SetDeadline(time.Now().Add(HandshakeTimeout)); err != nil {
		return PeerID{}, err
	}
	msg, err := h.read()
	if err != nil {
		return PeerID{}, err
	}
	b, _, _, err := h.state.ReadMessage(nil, msg)
	if errors.Is(err, noise.ErrShortMessage) {
		return PeerID{}, fmt.Errorf("%w: handshake message of %d bytes", errMalformed, len(msg))
	}
	if err != nil {
		return PeerID{}, errHandshake
	}
	p, err := decodePayload(b)
	if err != nil {
		return PeerID{}, err
	}
	if !ed25519.Verify(p.key, signed(h.state.PeerStatic()), p.signature) {
		return PeerID{}, errBadSignature
	}
	return PeerID(p.key), nil
}

// writeIdentity sends the third message and returns the keys of the two
// directions.
func (h *initiator) writeIdentity(self ed25519.PrivateKey) (send, recv *noise.CipherState, err error) {
	p := payload{
		key:       self.Public().(ed25519.PublicKey),
		signature: ed25519.Sign(self, signed(h.static.Public)),
		// Present and empty, as CometBFT's own dialer has them.
		extensions: []byte{},
	}
	return h.write(p.encode())
}

func signed(static []byte) []byte { return append([]byte(signaturePrefix), static...) }

// write sends the next handshake message.
func (h *initiator) write(payload []byte) (send, recv *noise.CipherState, err error) {
	msg, send, recv, err := h.state.WriteMessage(make([]byte, lengthSize), payload)
	if err != nil {
		return nil, nil, err
	}
	binary.BigEndian.PutUint16(msg, uint16(len(msg)-lengthSize))
	_, err = h.conn.Write(msg)
	return send, recv, err
}

// read returns the peer's next handshake message.
func (h *initiator) read() ([]byte, error) {
	var length [lengthSize]byte
	if _, err := io.ReadFull(h.in, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint16(length[:])
	if n > handshakeMax {
		return nil, fmt.Errorf("%w: handshake message of %d bytes", errMalformed, n)
	}
	msg := make([]byte, n)
	if _, err := io.ReadFull(h.in, msg); err != nil {
		return nil, noEOF(err)
	}
	return msg, nil
}

// wipe forgets the private keys of the handshake.
func (h *initiator) wipe() {
	clear(h.static.Private)
	clear(h.state.LocalEphemeral().Private)
}
