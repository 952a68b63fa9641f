package noiseconn

import (
	"bytes"
	"crypto/ed25519"
	"slices"
	"testing"

	"github.com/flynn/noise"
)

// FuzzHandshake plays a node that wraps any payload in a good Noise message,
// and turns a byte of what it sends.
func FuzzHandshake(f *testing.F) {
	fixed := func(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }
	node, self := ed25519.NewKeyFromSeed(fixed(1)), ed25519.NewKeyFromSeed(fixed(2))
	static, err := noise.DH25519.GenerateKeypair(bytes.NewReader(fixed(3)))
	if err != nil {
		f.Fatal(err)
	}
	good := payload{
		key:        node.Public().(ed25519.PublicKey),
		signature:  ed25519.Sign(node, signed(static.Public)),
		extensions: []byte{},
	}
	f.Add(good.encode(), uint16(0), byte(0))
	f.Add(good.encode(), uint16(40), byte(1))
	f.Add(good.encode()[:104], uint16(0), byte(0))
	f.Add(append(good.encode()[:105], 0x80, 0x00), uint16(0), byte(0))
	f.Add([]byte{}, uint16(1), byte(0xff))
	random := append(fixed(4), fixed(5)...)
	f.Fuzz(func(t *testing.T, said []byte, at uint16, xor byte) {
		if len(said) > handshakeMax {
			return
		}
		stream := respond(t, static, random, said)
		if int(at) < len(stream) {
			stream[at] ^= xor
		} else {
			xor = 0
		}
		c, err := handshake(newTranscript(stream), self, idOf(node), bytes.NewReader(random))
		if err != nil {
			if c != nil {
				t.Error("got a connection with the error")
			}
			return
		}
		p, err := decodePayload(said)
		if err != nil || !bytes.Equal(p.encode(), said) || xor != 0 {
			t.Errorf("accepted %x, byte %d turned by %x", said, at, xor)
		}
	})
}

// respond returns the second message of a handshake whose initiator draws its
// keys from random.
func respond(t *testing.T, static noise.DHKey, random, said []byte) []byte {
	first := newTranscript(nil)
	h, err := newInitiator(first, bytes.NewReader(random))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.write(nil); err != nil {
		t.Fatal(err)
	}
	state, err := noise.NewHandshakeState(noise.Config{
		CipherSuite:   noise.NewCipherSuite(noise.DH25519, noise.CipherChaChaPoly, noise.HashSHA256),
		Random:        bytes.NewReader(bytes.Repeat([]byte{6}, 32)),
		Pattern:       noise.HandshakeXX,
		StaticKeypair: static,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := state.ReadMessage(nil, first.written.Bytes()[lengthSize:]); err != nil {
		t.Fatal(err)
	}
	msg, _, _, err := state.WriteMessage(nil, said)
	if err != nil {
		t.Fatal(err)
	}
	return framed(msg)
}

// FuzzPayload holds the law of the decoder: what it takes encodes to the same
// bytes.
func FuzzPayload(f *testing.F) {
	p := payload{key: make([]byte, 32), signature: make([]byte, 64)}
	f.Add(p.encode())
	p.extensions = []byte{}
	f.Add(p.encode())
	p.extensions = make([]byte, 200)
	f.Add(p.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePayload(b)
		if err != nil {
			return
		}
		if len(p.key) != 32 || len(p.signature) != 64 || !bytes.Equal(p.encode(), b) {
			t.Errorf("%x decoded to %+v", b, p)
		}
	})
}

// FuzzRecords sends text in records of 7 bytes, turns a byte of the stream, and
// adds what no key has sealed. What comes out must be the records before.
func FuzzRecords(f *testing.F) {
	f.Add([]byte("request"), []byte{}, uint16(0), byte(0))
	f.Add([]byte("request reply"), []byte{0, 0}, uint16(1), byte(1))
	f.Add([]byte("request reply"), []byte{0xff, 0xff, 1}, uint16(30), byte(0x80))
	f.Add([]byte{}, []byte{0, 17, 16: 0}, uint16(0), byte(0))
	f.Fuzz(func(t *testing.T, text, tail []byte, at uint16, xor byte) {
		send, recv := halves(1)
		var stream, want []byte
		clean := true
		for chunk := range slices.Chunk(text, 7) {
			record := seal(send, chunk)
			if i := int(at) - len(stream); xor != 0 && i >= 0 && i < len(record) {
				record[i] ^= xor
				clean = false
			}
			if clean {
				want = append(want, chunk...)
			}
			stream = append(stream, record...)
		}
		got, err := readStream(recv, append(stream, tail...))
		if !bytes.Equal(got, want) {
			t.Errorf("read %q, want %q", got, want)
		}
		if clean := clean && len(tail) == 0; (err == nil) != clean {
			t.Errorf("the stream ended with %v", err)
		}
	})
}

// FuzzPeerID holds the law of the parser: what it takes prints as the same text.
func FuzzPeerID(f *testing.F) {
	f.Add(idOf(ed25519.NewKeyFromSeed(make([]byte, 32))).String())
	f.Add("12D3KooW")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParsePeerID(s); err == nil && id.String() != s {
			t.Errorf("%q parsed to %s", s, id)
		}
	})
}
