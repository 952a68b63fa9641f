package secretconn

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"io"
	"time"

	"github.com/gtank/merlin"
	"golang.org/x/crypto/chacha20poly1305"
)

// HandshakeTimeout bounds the handshake from the peer's first byte to its end.
// It is the time that a node waits for a signer (v0.34 to v1).
const HandshakeTimeout = 3 * time.Second

// The two messages of the handshake. Every field in them has one size and one
// place, so a message is its constant bytes around the variable ones: a uvarint
// length, then
//
//	google.protobuf.BytesValue    {1: X25519 key}
//	tendermint.p2p.AuthSigMessage {1: PublicKey{1: Ed25519 key}, 2: signature}
const (
	keySize       = 32
	ephemeralSize = 3 + keySize
	identitySize  = 5 + keySize + 2 + ed25519.SignatureSize

	ephemeralHead = "\x22\x0a\x20"
	identityHead  = "\x66\x0a\x22\x0a\x20"
	signatureHead = "\x12\x40"
)

// Labels of the transcript and of the key derivation.
const (
	transcriptName = "TENDERMINT_SECRET_CONNECTION_TRANSCRIPT_HASH"
	labelLower     = "EPHEMERAL_LOWER_PUBLIC_KEY"
	labelUpper     = "EPHEMERAL_UPPER_PUBLIC_KEY"
	labelSecret    = "DH_SECRET"
	labelChallenge = "SECRET_CONNECTION_MAC"
	keyInfo        = "TENDERMINT_SECRET_CONNECTION_KEY_AND_CHALLENGE_GEN"
	challengeSize  = 32
)

func encodeEphemeral(key []byte) []byte {
	return append([]byte(ephemeralHead), key...)
}

func decodeEphemeral(b []byte) ([]byte, error) {
	if len(b) != ephemeralSize || string(b[:3]) != ephemeralHead {
		return nil, fmt.Errorf("%w: not a 32-byte X25519 key", errMalformed)
	}
	return b[3:], nil
}

func encodeIdentity(key ed25519.PublicKey, signature []byte) []byte {
	b := append(make([]byte, 0, identitySize), identityHead...)
	b = append(b, key...)
	b = append(b, signatureHead...)
	return append(b, signature...)
}

func decodeIdentity(b []byte) (key ed25519.PublicKey, signature []byte, err error) {
	const keyEnd = len(identityHead) + keySize
	const signatureStart = keyEnd + len(signatureHead)
	if len(b) != identitySize || string(b[:len(identityHead)]) != identityHead ||
		string(b[keyEnd:signatureStart]) != signatureHead {
		return nil, nil, fmt.Errorf("%w: not an Ed25519 key and signature", errMalformed)
	}
	return b[len(identityHead):keyEnd], b[signatureStart:], nil
}

// swapEphemeral sends our ephemeral key and returns the peer's. With the
// peer's first byte the handshake's deadline begins, see [Client].
func (c *Conn) swapEphemeral(ours []byte) ([]byte, error) {
	if _, err := c.conn.Write(encodeEphemeral(ours)); err != nil {
		return nil, err
	}
	if _, err := c.in.Peek(1); err != nil {
		return nil, err
	}
	if err := c.conn.SetDeadline(time.Now().Add(HandshakeTimeout)); err != nil {
		return nil, err
	}
	msg := make([]byte, ephemeralSize)
	if _, err := io.ReadFull(c.in, msg); err != nil {
		return nil, err
	}
	return decodeEphemeral(msg)
}

// swapIdentity signs the challenge, sends our identity in a record, and checks
// the peer's.
func (c *Conn) swapIdentity(self ed25519.PrivateKey, challenge []byte) error {
	ours := encodeIdentity(self.Public().(ed25519.PublicKey), ed25519.Sign(self, challenge))
	if _, err := c.Write(ours); err != nil {
		return err
	}
	msg := make([]byte, identitySize)
	if _, err := io.ReadFull(c, msg); err != nil {
		return err
	}
	key, signature, err := decodeIdentity(msg)
	if err != nil {
		return err
	}
	if !ed25519.Verify(key, challenge, signature) {
		return errBadSignature
	}
	c.remote = key
	return nil
}

type sessionKeys struct {
	send, recv half
	challenge  []byte
}

// derive computes what both sides know after the ephemeral keys: a record key
// for each direction and the challenge that both sign.
func derive(ours *ecdh.PrivateKey, theirs []byte) (*sessionKeys, error) {
	lower, upper := ours.PublicKey().Bytes(), theirs
	order := bytes.Compare(lower, upper)
	if order == 0 {
		return nil, errReflected
	}
	if order > 0 {
		lower, upper = upper, lower
	}
	remote, err := ecdh.X25519().NewPublicKey(theirs)
	if err != nil {
		return nil, err
	}
	secret, err := ours.ECDH(remote)
	if err != nil {
		// With 32 bytes on both sides only the all-zero secret is an error.
		return nil, errLowOrder
	}
	defer clear(secret)

	transcript := merlin.NewTranscript(transcriptName)
	transcript.AppendMessage([]byte(labelLower), lower)
	transcript.AppendMessage([]byte(labelUpper), upper)
	transcript.AppendMessage([]byte(labelSecret), secret)
	keys := &sessionKeys{challenge: transcript.ExtractBytes([]byte(labelChallenge), challengeSize)}

	// CometBFT derives 32 bytes more, which nothing uses.
	okm, err := hkdf.Key(sha256.New, secret, nil, keyInfo, 2*chacha20poly1305.KeySize)
	if err != nil {
		return nil, err
	}
	defer clear(okm)
	first, second := okm[:chacha20poly1305.KeySize], okm[chacha20poly1305.KeySize:]
	if order > 0 {
		first, second = second, first
	}
	// The side with the lower ephemeral key receives under the first key.
	if keys.recv.aead, err = chacha20poly1305.New(first); err != nil {
		return nil, err
	}
	if keys.send.aead, err = chacha20poly1305.New(second); err != nil {
		return nil, err
	}
	return keys, nil
}
