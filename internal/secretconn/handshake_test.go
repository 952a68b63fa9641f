package secretconn

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// The tests over net.Pipe run in a synctest bubble: its clock moves only when
// everybody waits, and it fails if a goroutine is left over at the end.

// lowOrder are the u-coordinates of X25519 whose shared secret is zero with
// any key, from https://cr.yp.to/ecdh.html#validate. The highest bit of a key
// is ignored, so each of them occurs in two forms.
var lowOrder = []string{
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0100000000000000000000000000000000000000000000000000000000000000",
	"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
	"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"0000000000000000000000000000000000000000000000000000000000000080",
	"0100000000000000000000000000000000000000000000000000000000000080",
	"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b880",
	"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f11d7",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
}

type evilPeer struct {
	name string
	play func(p *peer)
	want error
}

var evilPeers = []evilPeer{
	{"goes away at once", func(p *peer) {}, io.EOF},
	{"goes away in the ephemeral key", func(p *peer) { p.send(p.hello()[:20]) }, io.ErrUnexpectedEOF},
	{"goes away after the ephemeral key", func(p *peer) { p.send(p.hello()) }, io.EOF},
	{"goes away in its identity", func(p *peer) {
		p.send(p.hello())
		p.send(p.sealed(p.auth())[:1043])
	}, io.ErrUnexpectedEOF},
	{"goes away after half its identity", func(p *peer) {
		p.send(p.hello())
		p.send(p.sealed(p.auth()[:50]))
	}, io.ErrUnexpectedEOF},

	{"speaks http", func(p *peer) { p.send([]byte("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")) }, errMalformed},
	{"ephemeral key in another field", func(p *peer) { p.send(replace(p.hello(), 1, 0x12)) }, errMalformed},
	{"ephemeral key of 31 bytes", func(p *peer) { p.send(append(replace(p.hello(), 2, 31), 0)) }, errMalformed},
	{"ephemeral message of 33 bytes", func(p *peer) { p.send(replace(p.hello(), 0, 0x21)) }, errMalformed},
	{"ephemeral message of 1 MiB", func(p *peer) {
		p.send(append([]byte{0x80, 0x80, 0x40, 0x0a, 0xfc, 0xff, 0x3f}, make([]byte, 1<<20)...))
	}, errMalformed},
	{"ephemeral length that does not end", func(p *peer) { p.send(bytes.Repeat([]byte{0xff}, 64)) }, errMalformed},
	{"our own ephemeral key", func(p *peer) { p.send(encodeEphemeral(p.theirs)) }, errReflected},

	{"identity in clear", func(p *peer) {
		p.send(p.hello())
		p.send(append(p.auth(), make([]byte, sealedSize)...))
	}, errForged},
	{"identity under our own sending key", func(p *peer) {
		p.send(p.hello())
		record, _ := p.keys.recv.seal(nil, p.auth())
		p.send(record)
	}, errForged},
	{"identity under a later nonce", func(p *peer) {
		p.send(p.hello())
		p.keys.send.count++
		p.send(p.sealed(p.auth()))
	}, errForged},
	{"identity with a secp256k1 key", func(p *peer) {
		p.send(p.hello())
		auth := p.auth()
		p.send(p.sealed(append([]byte("\x67\x0a\x23\x12\x21\x02"), auth[5:]...)))
	}, errMalformed},
	{"identity without a key", func(p *peer) {
		p.send(p.hello())
		p.send(p.sealed(append([]byte{66}, p.auth()[37:]...)))
		p.send(p.sealed(make([]byte, 1000)))
	}, errMalformed},
	{"identity with a key of 31 bytes", func(p *peer) {
		p.send(p.hello())
		p.send(p.sealed(replace(p.auth(), 4, 31)))
	}, errMalformed},
	{"identity with a signature of 63 bytes", func(p *peer) {
		p.send(p.hello())
		p.send(p.sealed(replace(p.auth(), 38, 63)))
	}, errMalformed},
	{"identity of 1 MiB", func(p *peer) {
		p.send(p.hello())
		p.send(p.sealed(append([]byte{0x80, 0x80, 0x40}, p.auth()...)))
	}, errMalformed},
	{"chunk of 1025 bytes", func(p *peer) {
		p.send(p.hello())
		p.send(p.framed(1025, p.auth()))
	}, errMalformed},
	{"chunk of 4 GiB", func(p *peer) {
		p.send(p.hello())
		p.send(p.framed(1<<32-1, p.auth()))
	}, errMalformed},
	{"empty chunk", func(p *peer) {
		p.send(p.hello())
		p.send(p.framed(0, p.auth()))
	}, errMalformed},

	{"signature of another handshake", func(p *peer) {
		p.send(p.hello())
		other, err := derive(newEphemeral(), p.theirs)
		if err != nil {
			panic(err)
		}
		p.keys.challenge = other.challenge
		p.send(p.sealed(p.auth()))
	}, errBadSignature},
	{"key of somebody else", func(p *peer) {
		p.send(p.hello())
		auth := p.auth()
		copy(auth[5:], newIdentity().Public().(ed25519.PublicKey))
		p.send(p.sealed(auth))
	}, errBadSignature},
	{"signature with a bit turned", func(p *peer) {
		p.send(p.hello())
		auth := p.auth()
		auth[50] ^= 1
		p.send(p.sealed(auth))
	}, errBadSignature},
}

func replace(b []byte, at int, with byte) []byte {
	b[at] = with
	return b
}

func TestEvilPeers(t *testing.T) {
	peers := evilPeers
	for _, key := range lowOrder {
		b, err := hex.DecodeString(key)
		if err != nil {
			t.Fatal(err)
		}
		peers = append(peers, evilPeer{"key of low order " + key, func(p *peer) { p.send(encodeEphemeral(b)) }, errLowOrder})
	}
	for _, tc := range peers {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				defer ours.Close()
				go func() {
					defer theirs.Close()
					tc.play(newPeer(t, theirs))
					synctest.Wait() // until the client has judged it or waits for more
				}()
				c, err := Client(ours, newIdentity(), "")
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

func TestHonestPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		identity := make(chan ed25519.PublicKey, 1)
		go func() {
			defer theirs.Close()
			p := newPeer(t, theirs)
			identity <- p.identity.Public().(ed25519.PublicKey)
			p.send(p.hello())
			p.send(p.sealed(p.auth()))
			p.send(p.sealed([]byte("request")))
		}()
		c, err := Client(ours, newIdentity(), "")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(c.remote, <-identity) {
			t.Error("remote is not the key that the peer proved")
		}
		if got, err := io.ReadAll(c); err != nil || string(got) != "request" {
			t.Errorf("read %q, %v", got, err)
		}
	})
}

func TestPin(t *testing.T) {
	node := newIdentity()
	id := PeerID(node.Public().(ed25519.PublicKey))
	other := PeerID(newIdentity().Public().(ed25519.PublicKey))
	run := func(want string) error {
		a, b := tcpPair(t)
		done := make(chan error, 1)
		go func() {
			_, err := Client(b, node, "")
			done <- err
		}()
		_, err := Client(a, newIdentity(), want)
		a.Close()
		<-done
		return err
	}
	for _, want := range []string{"", id} {
		if err := run(want); err != nil {
			t.Errorf("pin %q: %v", want, err)
		}
	}
	err := run(other)
	var mismatch *PeerMismatchError
	if !errors.As(err, &mismatch) {
		t.Fatalf("wrong pin: got %v", err)
	}
	if mismatch.Got != id || mismatch.Want != other {
		t.Errorf("got %+v, want Got %s, Want %s", *mismatch, id, other)
	}
	for _, bad := range []string{"x", id[:39], id + "00", strings.ToUpper(id), strings.Repeat("g", 40)} {
		if err := run(bad); err == nil || errors.As(err, &mismatch) {
			t.Errorf("pin %q: got %v, want it refused as no node id", bad, err)
		}
	}
}

// A standby waits for days in the node's listen backlog; the node that takes it
// then has the whole of HandshakeTimeout, and no deadline stays behind.
func TestParkedForDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const days = 3 * 24 * time.Hour
		ours, theirs := net.Pipe()
		defer ours.Close()
		go func() {
			defer theirs.Close()
			p := newPeer(t, theirs)
			time.Sleep(days)
			p.send(p.hello())
			time.Sleep(HandshakeTimeout - 1)
			p.send(p.sealed(p.auth()))
			time.Sleep(days)
			p.send(p.sealed([]byte("request")))
		}()
		c, err := Client(ours, newIdentity(), "")
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
		go newPeer(t, theirs)
		go func() {
			synctest.Wait() // until Client waits for the peer
			ours.Close()
		}()
		if _, err := Client(ours, newIdentity(), ""); !errors.Is(err, io.ErrClosedPipe) {
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
		{"before the last byte of the ephemeral key", func(p *peer, whole []byte) { p.send(whole[:34]) }},
		{"after the ephemeral key", func(p *peer, whole []byte) { p.send(whole[:35]) }},
		{"in the identity", func(p *peer, whole []byte) { p.send(whole[:36]) }},
		{"before the last byte", func(p *peer, whole []byte) { p.send(whole[:len(whole)-1]) }},
		{"a byte each 100 ms", func(p *peer, whole []byte) {
			for i := 0; p.send(whole[i:i+1]) == nil; i++ {
				time.Sleep(100 * time.Millisecond)
			}
		}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				began := make(chan time.Time, 1)
				done := make(chan struct{})
				go func() {
					defer close(done)
					p := newPeer(t, theirs)
					time.Sleep(time.Hour)
					began <- time.Now()
					whole := p.hello()
					tc.play(p, append(whole, p.sealed(p.auth())...))
				}()
				_, err := Client(ours, newIdentity(), "")
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

func TestIdentityKeyOfWrongSize(t *testing.T) {
	if _, err := Client(nil, make([]byte, 32), ""); err == nil {
		t.Error("a seed was taken for a key")
	}
}

// transcript plays what a peer once sent, in small parts, and keeps what is
// written to it.
type transcript struct {
	io.Reader
	written bytes.Buffer
}

func newTranscript(b []byte) *transcript {
	return &transcript{Reader: iotest.HalfReader(bytes.NewReader(b))}
}

func (s *transcript) Write(p []byte) (int, error)      { return s.written.Write(p) }
func (s *transcript) Close() error                     { return nil }
func (s *transcript) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *transcript) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *transcript) SetDeadline(time.Time) error      { return nil }
func (s *transcript) SetReadDeadline(time.Time) error  { return nil }
func (s *transcript) SetWriteDeadline(time.Time) error { return nil }

// TestGolden takes each part in handshakes of CometBFT with itself. What we
// send must be what CometBFT sent, up to the record whose padding is what
// CometBFT had in its buffer.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 2 {
		t.Fatalf("golden files: %v, %v", files, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		orders := map[int]bool{}
		for _, block := range strings.Split(string(b), "\n\n")[1:] {
			v := parseGolden(t, block)
			orders[bytes.Compare(v.bytes(t, "a.sent")[3:35], v.bytes(t, "b.sent")[3:35])] = true
			for _, sides := range [][2]string{{"a", "b"}, {"b", "a"}} {
				t.Run(filepath.Base(file)+"/"+sides[0], func(t *testing.T) { replay(t, v, sides[0], sides[1]) })
			}
		}
		if !orders[-1] || !orders[1] {
			t.Errorf("%s has only one order of ephemeral keys", file)
		}
	}
}

func replay(t *testing.T, v golden, us, them string) {
	conn := newTranscript(v.bytes(t, them+".sent"))
	ephemeral, err := ecdh.X25519().NewPrivateKey(v.bytes(t, us+".ephemeral"))
	if err != nil {
		t.Fatal(err)
	}
	self := ed25519.NewKeyFromSeed(v.bytes(t, us+".identity"))
	c, err := handshake(conn, self, v[them+".id"], ephemeral)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, v.bytes(t, them+".said")) {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := c.Write(v.bytes(t, us+".said")); err != nil {
		t.Fatal(err)
	}
	const exact = ephemeralSize + 2*sealedSize
	want := v.bytes(t, us+".sent")
	if got := conn.written.Bytes(); len(got) != len(want) || !bytes.Equal(got[:exact], want[:exact]) {
		t.Error("sent other bytes than CometBFT")
	}
}

type golden map[string]string

func parseGolden(t *testing.T, block string) golden {
	v := golden{}
	for line := range strings.Lines(block) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			t.Fatalf("golden line %q", line)
		}
		v[name] = value
	}
	return v
}

func (v golden) bytes(t *testing.T, name string) []byte {
	b, err := hex.DecodeString(v[name])
	if err != nil || len(b) == 0 {
		t.Fatalf("golden value %s: %v", name, err)
	}
	return b
}
