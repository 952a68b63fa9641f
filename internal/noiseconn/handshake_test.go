package noiseconn

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The tests over net.Pipe run in a synctest bubble: its clock moves only when
// everybody waits, and it fails if a goroutine is left over at the end.

var evilPeers = []struct {
	name string
	play func(p *peer)
	want error
}{
	{"goes away at once", func(p *peer) {}, io.EOF},
	{"goes away in the length", func(p *peer) { p.send([]byte{0}) }, io.ErrUnexpectedEOF},
	{"goes away after the length", func(p *peer) { p.send([]byte{0, 202}) }, io.ErrUnexpectedEOF},
	{"goes away in its message", func(p *peer) { p.send(p.message(p.payload())[:203]) }, io.ErrUnexpectedEOF},

	{"empty message", func(p *peer) { p.send([]byte{0, 0}) }, errMalformed},
	{"speaks http", func(p *peer) { p.send([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) }, errMalformed},
	{"message of 64 KiB", func(p *peer) { p.send(framed(make([]byte, 65535))) }, errMalformed},
	{"message of 31 bytes", func(p *peer) { p.send(framed(make([]byte, 31))) }, errMalformed},
	{"message without a static key", func(p *peer) { p.send(p.message(p.payload())[:2+32+47]) }, io.ErrUnexpectedEOF},
	{"ephemeral key of low order", func(p *peer) { p.send(framed(make([]byte, 202))) }, errHandshake},
	{"our own message", func(p *peer) { p.send(framed(append(p.hello, make([]byte, 170)...))) }, errHandshake},
	{"static key turned", func(p *peer) { p.send(turn(p.message(p.payload()), 2+32+5)) }, errHandshake},
	{"payload turned", func(p *peer) { p.send(turn(p.message(p.payload()), 2+32+48+5)) }, errHandshake},
	{"another prologue", func(p *peer) {
		state := newResponder(p.static, []byte("other"))
		if _, _, _, err := state.ReadMessage(nil, p.hello); err != nil {
			panic(err)
		}
		p.state = state
		p.send(p.message(p.payload()))
	}, errHandshake},

	{"no payload", func(p *peer) { p.send(p.message(nil)) }, errMalformed},
	{"payload cut", func(p *peer) { p.send(p.message(p.payload()[:103])) }, errMalformed},
	{"RSA key", func(p *peer) { p.send(p.message(put(p.payload(), 3, 0))) }, errMalformed},
	{"secp256k1 key", func(p *peer) { p.send(p.message(put(p.payload(), 3, 2))) }, errMalformed},
	{"key of 31 bytes", func(p *peer) { p.send(p.message(put(p.payload(), 5, 31))) }, errMalformed},
	{"signature of 63 bytes", func(p *peer) { p.send(p.message(put(p.payload(), 39, 63))) }, errMalformed},
	{"signature before the key", func(p *peer) {
		b := p.payload()
		p.send(p.message(append(bytes.Clone(b[38:104]), b[:38]...)))
	}, errMalformed},
	{"key twice", func(p *peer) { p.send(p.message(append(p.payload(), p.payload()[:38]...))) }, errMalformed},
	{"unknown field", func(p *peer) { p.send(p.message(append(p.payload(), 0x2a, 0))) }, errMalformed},
	{"extensions cut", func(p *peer) { p.send(p.message(put(p.payload(), 105, 9))) }, errMalformed},
	{"extensions with a long length", func(p *peer) { p.send(p.message(append(p.payload()[:105], 0x80, 0))) }, errMalformed},
	{"extensions without a length", func(p *peer) { p.send(p.message(p.payload()[:105])) }, errMalformed},

	{"signature of another connection", func(p *peer) {
		b := p.payload()
		copy(b[40:], ed25519.Sign(p.identity, signed(newStatic().Public)))
		p.send(p.message(b))
	}, errBadSignature},
	{"signature without its prefix", func(p *peer) {
		b := p.payload()
		copy(b[40:], ed25519.Sign(p.identity, p.static.Public))
		p.send(p.message(b))
	}, errBadSignature},
	{"pinned key without its signature", func(p *peer) {
		b := p.payload()
		copy(b[40:], ed25519.Sign(newIdentity(), signed(p.static.Public)))
		p.send(p.message(b))
	}, errBadSignature},
}

func turn(b []byte, at int) []byte {
	b[at] ^= 1
	return b
}

func put(b []byte, at int, with byte) []byte {
	b[at] = with
	return b
}

func TestEvilPeers(t *testing.T) {
	for _, tc := range evilPeers {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				defer ours.Close()
				node := newIdentity()
				go func() {
					defer theirs.Close()
					tc.play(newPeer(t, theirs, node))
					synctest.Wait() // until the client has judged it or waits for more
				}()
				c, err := Client(ours, newIdentity(), idOf(node))
				if !errors.Is(err, tc.want) {
					t.Errorf("got %v, want %v", err, tc.want)
				}
				if c != nil {
					t.Error("got a connection with the error")
				}
			})
		})
	}
}

// TestHonestPeer also plays what no stock node sends but libp2p allows: no
// extensions, and some.
func TestHonestPeer(t *testing.T) {
	muxers := []byte("\x12\x0b/yamux/1.0.0")
	muxers[1] = byte(len(muxers) - 2)
	for name, extensions := range map[string][]byte{"as stock": {}, "no extensions": nil, "muxers": muxers} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				defer ours.Close()
				node, self := newIdentity(), newIdentity()
				go func() {
					defer theirs.Close()
					p := newPeer(t, theirs, node)
					said, err := decodePayload(p.payload())
					if err != nil {
						t.Error(err)
					}
					said.extensions = extensions
					p.send(p.message(said.encode()))
					b, err := p.finish()
					if err != nil {
						t.Error(err)
						return
					}
					heard, err := decodePayload(b)
					if err != nil || PeerID(heard.key) != idOf(self) || !ed25519.Verify(heard.key, signed(p.state.PeerStatic()), heard.signature) {
						t.Errorf("the client's identity: %x, %v", b, err)
					}
					p.send(p.sealed([]byte("request")))
				}()
				c, err := Client(ours, self, idOf(node))
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(c); err != nil || string(got) != "request" {
					t.Errorf("read %q, %v", got, err)
				}
			})
		})
	}
}

// An impostor is recognised, and never sees our identity.
// watched is randomness that keeps in mind where it was put: the private keys.
type watched struct{ keys [][]byte }

func (w *watched) Read(p []byte) (int, error) {
	w.keys = append(w.keys, p)
	return rand.Read(p)
}

// The private keys of a handshake are wiped at its end, however it ends.
func TestKeysAreWiped(t *testing.T) {
	for _, pinned := range []bool{true, false} {
		a, b := tcpPair(t)
		node := newIdentity()
		want := idOf(node)
		if !pinned {
			want = idOf(newIdentity())
		}
		go serve(t, b, node)
		var keys watched
		if c, err := handshake(a, newIdentity(), want, &keys); (c != nil) != pinned {
			t.Errorf("pinned %v: %v", pinned, err)
		}
		if len(keys.keys) != 2 {
			t.Errorf("%d keys were made, not a static and an ephemeral one", len(keys.keys))
		}
		for i, key := range keys.keys {
			if !bytes.Equal(key, make([]byte, 32)) {
				t.Errorf("pinned %v: key %d of %d bytes is still in memory", pinned, i, len(key))
			}
		}
	}
}

func TestWrongPin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		impostor, node := newIdentity(), newIdentity()
		third := make(chan error, 1)
		go func() {
			p := newPeer(t, theirs, impostor)
			p.send(p.message(p.payload()))
			_, err := p.read()
			third <- err
		}()
		_, err := Client(ours, newIdentity(), idOf(node))
		var mismatch *PeerMismatchError
		if !errors.As(err, &mismatch) {
			t.Fatalf("got %v, want a PeerMismatchError", err)
		}
		if mismatch.Got != idOf(impostor) || mismatch.Want != idOf(node) {
			t.Errorf("got %+v", *mismatch)
		}
		ours.Close()
		if err := <-third; !errors.Is(err, io.EOF) {
			t.Errorf("the impostor read a third message: %v", err)
		}
	})
}

func TestBadArguments(t *testing.T) {
	if _, err := Client(nil, newIdentity(), PeerID{}); err == nil {
		t.Error("a node without a pin was taken")
	}
	if _, err := Client(nil, make([]byte, 32), idOf(newIdentity())); err == nil {
		t.Error("a seed was taken for a key")
	}
}

// A standby waits for days in the node's listen backlog; the node that takes it
// then has the whole of HandshakeTimeout, and no deadline stays behind.
func TestParkedForDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const days = 3 * 24 * time.Hour
		ours, theirs := net.Pipe()
		defer ours.Close()
		node := newIdentity()
		go func() {
			defer theirs.Close()
			p := newPeer(t, theirs, node)
			msg := p.message(p.payload())
			time.Sleep(days)
			p.send(msg[:1])
			time.Sleep(HandshakeTimeout - 1)
			p.send(msg[1:])
			if _, err := p.finish(); err != nil {
				t.Error(err)
				return
			}
			time.Sleep(days)
			p.send(p.sealed([]byte("request")))
		}()
		c, err := Client(ours, newIdentity(), idOf(node))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); err != nil || string(got) != "request" {
			t.Errorf("read %q, %v", got, err)
		}
	})
}

func TestParkedUntilClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		node := newIdentity()
		go newPeer(t, theirs, node)
		go func() {
			synctest.Wait() // until Client waits for the peer
			ours.Close()
		}()
		if _, err := Client(ours, newIdentity(), idOf(node)); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("got %v, want %v", err, io.ErrClosedPipe)
		}
	})
}

func TestStalledHandshake(t *testing.T) {
	tests := []struct {
		name string
		play func(p *peer, whole []byte)
	}{
		{"after 1 byte", func(p *peer, whole []byte) { p.send(whole[:1]) }},
		{"after the length", func(p *peer, whole []byte) { p.send(whole[:2]) }},
		{"before the last byte", func(p *peer, whole []byte) { p.send(whole[:len(whole)-1]) }},
		{"a byte each 100 ms", func(p *peer, whole []byte) {
			for i := 0; p.send(whole[i:i+1]) == nil; i++ {
				time.Sleep(100 * time.Millisecond)
			}
		}},
		// Over net.Pipe nobody takes our last message then.
		{"before our identity", func(p *peer, whole []byte) { p.send(whole) }},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				node := newIdentity()
				began := make(chan time.Time, 1)
				done := make(chan struct{})
				go func() {
					defer close(done)
					p := newPeer(t, theirs, node)
					time.Sleep(time.Hour)
					began <- time.Now()
					tc.play(p, p.message(p.payload()))
				}()
				_, err := Client(ours, newIdentity(), idOf(node))
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("got %v, want %v", err, os.ErrDeadlineExceeded)
				}
				if took := time.Since(<-began); took != HandshakeTimeout {
					t.Errorf("the handshake took %v from the first byte, want %v", took, HandshakeTimeout)
				}
				ours.Close()
				<-done
			})
		})
	}
}

// TestGolden replays a handshake of CometBFT v0.40 with itself from the
// dialler's side: what we send must be what its dialler sent, to the byte.
func TestGolden(t *testing.T) {
	b, err := os.ReadFile("testdata/v0.40.0.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range strings.Split(string(b), "\n\n")[1:] {
		v := golden{}
		for line := range strings.Lines(block) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			v[name] = value
		}
		want, err := ParsePeerID(v["node.id"])
		if err != nil {
			t.Fatal(err)
		}
		self := ed25519.NewKeyFromSeed(v.bytes(t, "signer.identity"))
		if got := idOf(self).String(); got != v["signer.id"] {
			t.Errorf("our id is %s, want %s", got, v["signer.id"])
		}
		conn := newTranscript(v.bytes(t, "node.sent"))
		c, err := handshake(conn, self, want, bytes.NewReader(v.bytes(t, "signer.random")))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, v.bytes(t, "node.said")) {
			t.Errorf("read %q, %v", got, err)
		}
		if _, err := c.Write(v.bytes(t, "signer.said")); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(conn.written.Bytes(), v.bytes(t, "signer.sent")) {
			t.Error("sent other bytes than CometBFT's dialler")
		}
	}
}

type golden map[string]string

func (v golden) bytes(t *testing.T, name string) []byte {
	b, err := hex.DecodeString(v[name])
	if err != nil || len(b) == 0 {
		t.Fatalf("golden value %s: %v", name, err)
	}
	return b
}
